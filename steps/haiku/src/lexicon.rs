//! The word lists: nature, moods, refused words, and the small words that end no line.
//! They are part of the program; `data/README.md` says where they come from.

use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

use auria_steps_common::mood::Mood;

/// Words that leave a line hanging: a line that ends with one is not a line. Sorted, so
/// that it reads; articles, prepositions, conjunctions, possessives, auxiliaries.
const HANGING: &str = "a about above across after against all along although am amid among an and \
are around as at be because been before being behind below beneath beside between beyond but by \
can can't cannot could did do does each either else ere even ever every for from had has have he \
her his how i i'd i'll i'm i've if in inside into is it's its just less like may might mine more most \
must my near neither no nor not of off on once one's onto or our outside over past per quite \
rather same shall she should since so some such than that the their them then there's these they \
this those though through throughout till to too toward towards 'twas under unless unlike until \
up upon very was we we're were what what's when where whether which while who whom whose why will \
with within without won't would yet you you'll you're your";

/// Third persons, and what belongs to a tale rather than to a haiku.
const PERSONS: &str = "he he'd he'll he's her hers herself him himself his lady lord madam master \
miss mister mr mrs she she'd she'll she's sir their theirs them themselves they they'd they'll \
they're they've thee thou thy thine ye king queen prince princess captain colonel doctor said \
says replied answered asked cried exclaimed";

/// Words of tales and of padding: a haiku is in the present, and shows.
const TELLING: &str = "was were had been seemed seem did so too very there covered became began \
it one quite still would could no longer such all beautiful great may might \
able think admit wish";

/// The lists, read.
#[derive(Debug)]
pub struct Lexicon {
    /// Words of nature and season.
    pub nature: HashSet<&'static str>,
    /// Words that end no line.
    pub hanging: HashSet<&'static str>,
    /// Words that tell where a haiku shows.
    pub telling: HashSet<&'static str>,
    /// Words of persons and tales.
    pub persons: HashSet<&'static str>,
    refused: HashSet<&'static str>,
    refused_stems: Vec<&'static str>,
    moods: HashMap<Mood, MoodWords>,
}

/// The words of a mood.
#[derive(Debug, Default)]
pub struct MoodWords {
    /// Words that carry it.
    pub carry: Vec<&'static str>,
    /// Words that break it.
    pub break_it: Vec<&'static str>,
}

impl Lexicon {
    /// The lists of the program.
    pub fn get() -> &'static Self {
        static LEXICON: OnceLock<Lexicon> = OnceLock::new();
        LEXICON.get_or_init(|| {
            let refused = words(include_str!("../data/refused.txt"));
            Lexicon {
                nature: words(include_str!("../data/nature.txt")).collect(),
                hanging: HANGING.split_whitespace().collect(),
                telling: TELLING.split_whitespace().collect(),
                persons: PERSONS.split_whitespace().collect(),
                refused: refused.clone().filter(|w| !w.ends_with('*')).collect(),
                refused_stems: refused.filter_map(|w| w.strip_suffix('*')).collect(),
                moods: moods(include_str!("../data/moods.txt")),
            }
        })
    }

    /// Whether no poem says this word.
    pub fn refuses(&self, word: &str) -> bool {
        self.refused.contains(word) || self.refused_stems.iter().any(|s| word.starts_with(s))
    }

    /// The words of a mood.
    pub fn mood(&self, mood: Mood) -> &MoodWords {
        static NONE: MoodWords = MoodWords {
            carry: Vec::new(),
            break_it: Vec::new(),
        };
        self.moods.get(&mood).unwrap_or(&NONE)
    }
}

fn words(text: &'static str) -> impl Iterator<Item = &'static str> + Clone {
    text.lines()
        .filter(|l| !l.starts_with('#'))
        .flat_map(str::split_whitespace)
}

fn moods(text: &'static str) -> HashMap<Mood, MoodWords> {
    let lines = text.lines().filter(|l| !l.starts_with('#'));
    lines
        .filter_map(|line| {
            let (name, rest) = line.split_once(':')?;
            let (carry, break_it) = rest.split_once('|')?;
            let of = |part: &'static str| part.split_whitespace().collect();
            Some((
                name.parse().ok()?,
                MoodWords {
                    carry: of(carry),
                    break_it: of(break_it),
                },
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mood_has_words_and_none_both_carries_and_breaks_one() {
        let lexicon = Lexicon::get();
        for &mood in Mood::ALL {
            assert!(lexicon.moods.contains_key(&mood), "{mood}");
            let words = lexicon.mood(mood);
            assert_eq!(words.carry.len() > 15, mood != Mood::Neutral, "{mood}");
            for word in &words.carry {
                assert!(!words.break_it.contains(word), "{mood}: {word}");
                assert!(!lexicon.refuses(word), "{mood}: {word}");
            }
        }
    }

    #[test]
    fn the_dictionary_knows_the_words_of_the_lists() {
        let dictionary = crate::syllables::Dictionary::get();
        let lexicon = Lexicon::get();
        let moods = Mood::ALL.iter().flat_map(|&m| lexicon.mood(m).carry.iter());
        let all: Vec<_> = lexicon.nature.iter().chain(moods).collect();
        let unknown: Vec<_> = all
            .iter()
            .filter(|w| dictionary.reading(w).is_none())
            .collect();
        assert!(unknown.len() * 20 < all.len(), "{unknown:?}");
    }

    #[test]
    fn refused_words_are_refused_and_near_ones_are_not() {
        let lexicon = Lexicon::get();
        for word in ["damned", "hell", "murdered"] {
            assert!(lexicon.refuses(word), "{word}");
        }
        for word in [
            "shell", "grass", "hello", "cocoon", "passage", "shining", "stable", "shoot",
        ] {
            assert!(!lexicon.refuses(word), "{word}");
        }
    }
}
