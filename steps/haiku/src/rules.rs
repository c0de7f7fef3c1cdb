//! Which token may come next in a haiku: the form, as a small automaton. With it a poem
//! in 5-7-5 is the only one that can be written. Knows nothing of probabilities.

use std::collections::HashSet;

use crate::lexicon::Lexicon;
use crate::prepare::FORM;
use crate::syllables::Dictionary;
use crate::vocab::{self, Vocab};

/// What the rules know about each token of a vocabulary.
#[derive(Debug)]
pub struct Table {
    tokens: Vec<Entry>,
    article_a: Option<i64>,
    article_an: Option<i64>,
    pauses: Vec<i64>,
    stops: Vec<i64>,
    closers: Vec<i64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// Syllables; 0 where the token may not be said.
    syllables: u8,
    vowel: bool,
    hanging: bool,
    /// Cannot begin a poem.
    joins: bool,
    /// A small word, which may be said twice.
    small: bool,
    number: Number,
}

/// What a word says about its number, as far as its form tells.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Number {
    #[default]
    Unknown,
    /// A noun of one thing.
    One,
    /// A noun of many.
    Many,
    /// A verb of one thing: `is`.
    VerbOfOne,
    /// A verb of many: `are`.
    VerbOfMany,
}

/// Words that join a sentence to one before, and so begin no poem.
const JOINS: &str = "and but or nor which who whom whose that than of for to if because though \
although while till until so yet as had has is was were are be been whence where wherein";

/// Words of old verse, which a haiku of today does not say.
const OLD: &str = "tis twas hath doth ere oft thro nay lo unto whence thence hither thither yon \
wherein whereon thereof therein yonder alas behold wast wert shalt wilt hast dost art o oh ah \
betwixt beneath methinks forsooth verily whilst amongst amidst upon mine thereon wherewith";

const VERBS_OF_ONE: &str = "is was has does isn't wasn't doesn't comes goes seems waits sleeps";
const VERBS_OF_MANY: &str = "are were have do seem wait come go";

/// The contractions that are plain English; other words with an apostrophe are not said.
const CONTRACTIONS: &str = "i'm i'll i've i'd it's don't can't won't isn't doesn't didn't wasn't \
couldn't wouldn't let's you're we're there's that's here's what's";

/// The marks that may stand in a line, at a line's end, and at the poem's end.
const PAUSES: &[&str] = &[",", "—"];
const STOPS: &[&str] = &[",", ";", ":", "—"];
const CLOSERS: &[&str] = &["!", "?"];

impl Table {
    /// The table of a vocabulary.
    pub fn new(vocab: &Vocab) -> Self {
        let (lexicon, dictionary) = (Lexicon::get(), Dictionary::get());
        let set = |words: &'static str| words.split_whitespace().collect::<HashSet<&str>>();
        let (joins, old, contractions) = (set(JOINS), set(OLD), set(CONTRACTIONS));
        let sayable = |number: i64, word: &str| {
            vocab.is_said(number)
                && !lexicon.refuses(word)
                && !lexicon.persons.contains(word)
                && !old.contains(word)
                && (word.len() > 1 || word == "a" || word == "i")
                && (!word.contains('\'') || contractions.contains(word))
        };
        let (of_one, of_many) = (set(VERBS_OF_ONE), set(VERBS_OF_MANY));
        // Only words of the list of nature are surely nouns.
        let number_of = |word: &str| {
            let stem = word
                .strip_suffix("es")
                .or(word.strip_suffix('s'))
                .unwrap_or(word);
            let has_stem = lexicon.nature.contains(stem)
                || lexicon.nature.contains(format!("{stem}e").as_str());
            if of_one.contains(word) {
                Number::VerbOfOne
            } else if of_many.contains(word) {
                Number::VerbOfMany
            } else if word == "leaves" || word.ends_with('s') && !word.ends_with("ss") && has_stem {
                Number::Many
            } else if lexicon.nature.contains(word) && !word.ends_with('s') {
                Number::One
            } else {
                Number::Unknown
            }
        };
        let entry = |number: i64| {
            let word = vocab.token(number);
            if !sayable(number, word) {
                return Entry::default();
            }
            let hanging = lexicon.hanging.contains(word);
            Entry {
                syllables: dictionary.certain(word).unwrap_or(0),
                vowel: dictionary.begins_with_vowel(word),
                hanging,
                joins: joins.contains(word),
                small: hanging,
                number: number_of(word),
            }
        };
        let marks = |marks: &[&str]| marks.iter().filter_map(|m| vocab.number(m)).collect();
        Self {
            tokens: (0..vocab.len() as i64).map(entry).collect(),
            article_a: vocab.number("a"),
            article_an: vocab.number("an"),
            pauses: marks(PAUSES),
            stops: marks(STOPS),
            closers: marks(CLOSERS),
        }
    }

    /// The syllables of a token that may be said, else 0.
    pub fn syllables(&self, number: i64) -> u8 {
        self.tokens[number as usize].syllables
    }

    /// Whether a token is a word of meaning: such a word is said once in a poem.
    pub fn is_content(&self, number: i64) -> bool {
        let entry = self.tokens[number as usize];
        entry.syllables > 0 && !entry.small
    }

    /// Whether a word can end a line.
    pub fn can_end(&self, number: i64) -> bool {
        !self.tokens[number as usize].hanging
    }
}

/// A poem that is being written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Draft {
    /// The tokens so far, line by line.
    pub lines: [Vec<i64>; 3],
    line: usize,
    said: u8,
    paused: bool,
    done: bool,
    /// Bit `n` is set when a token whose number ends in `n` (modulo 64) was said: a quick
    /// no to most questions whether a word was.
    maybe_said: u64,
}

impl Draft {
    /// Whether it has ended.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Whether a line has just ended, or the poem.
    pub fn at_edge(&self) -> bool {
        self.lines[self.line].is_empty() || self.done
    }

    /// All tokens so far.
    pub fn tokens(&self) -> impl Iterator<Item = i64> + '_ {
        self.lines.iter().flatten().copied()
    }

    /// The last token of the poem so far, across lines.
    fn last(&self) -> Option<i64> {
        self.lines[..=self.line]
            .iter()
            .rev()
            .find_map(|l| l.last().copied())
    }

    /// Calls `allow` for each token that may come next.
    pub fn next(&self, table: &Table, mut allow: impl FnMut(i64)) {
        let line = &self.lines[self.line];
        let after_mark = line.last().is_some_and(|&t| Vocab::is_mark(t));
        let left = FORM[self.line] - self.said;
        if left == 0 {
            let last_line = self.line + 1 == FORM.len();
            allow(if last_line {
                vocab::END
            } else {
                vocab::NEWLINE
            });
            if !after_mark {
                let marks = if last_line {
                    &table.closers
                } else {
                    &table.stops
                };
                marks.iter().for_each(|&m| allow(m));
            }
            return;
        }
        let last = self.last();
        for number in 0..table.tokens.len() as i64 {
            if self.may_say(table, number, last, left) {
                allow(number);
            }
        }
        let can_pause = line.last().is_some_and(|&t| table.can_end(t));
        if can_pause && !after_mark && !self.paused {
            table.pauses.iter().for_each(|&m| allow(m));
        }
    }

    fn may_say(&self, table: &Table, number: i64, last: Option<i64>, left: u8) -> bool {
        let entry = table.tokens[number as usize];
        if entry.syllables == 0 || entry.syllables > left {
            return false;
        }
        if entry.syllables == left && entry.hanging {
            return false;
        }
        if last.is_none() && entry.joins || last == Some(number) {
            return false;
        }
        if last.is_some()
            && (last == table.article_a && entry.vowel || last == table.article_an && !entry.vowel)
        {
            return false;
        }
        let before = last
            .map(|t| table.tokens[t as usize].number)
            .unwrap_or_default();
        if matches!(
            (before, entry.number),
            (Number::One, Number::VerbOfMany) | (Number::Many, Number::VerbOfOne)
        ) {
            return false;
        }
        let maybe_said = self.maybe_said >> (number & 63) & 1 == 1;
        !(maybe_said && table.is_content(number) && self.tokens().any(|t| t == number))
    }

    /// Adds a token that [`Draft::next`] allowed.
    pub fn push(&mut self, table: &Table, number: i64) {
        match number {
            vocab::END => self.done = true,
            vocab::NEWLINE => {
                self.line += 1;
                self.said = 0;
                self.paused = false;
            }
            _ => {
                self.lines[self.line].push(number);
                self.maybe_said |= 1 << (number & 63);
                self.said += table.syllables(number);
                self.paused |= Vocab::is_mark(number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Record;
    use crate::text;
    use rand::{Rng, SeedableRng};

    fn vocab() -> Vocab {
        let words = "the a an of in and moon owl apple pond silent autumn evening fire rises \
                     falls water quietly butterfly hill leaf \
                     dusk stone rain snow wind star crow deer sleep glow drift still cold oak ice elm edge ash egg , ; — ! damn he i i'm yon";
        let words: Vec<&str> = words.split_whitespace().collect();
        Vocab::build(
            [Record::parse(&format!("poem\t{}", words.join(" "))).unwrap()].iter(),
            &[],
            99,
            1,
        )
    }

    #[test]
    fn every_walk_through_the_rules_is_a_haiku() {
        let vocab = vocab();
        let table = Table::new(&vocab);
        let dictionary = Dictionary::get();
        let lexicon = Lexicon::get();
        for seed in 0..300 {
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
            let mut draft = Draft::default();
            while !draft.is_done() {
                let mut allowed = Vec::new();
                draft.next(&table, |t| allowed.push(t));
                assert!(!allowed.is_empty(), "a dead end: {draft:?}");
                draft.push(&table, allowed[rng.random_range(0..allowed.len())]);
            }
            for (line, count) in draft.lines.iter().zip(FORM) {
                let tokens: Vec<&str> = line.iter().map(|&t| vocab.token(t)).collect();
                let words: Vec<&str> = tokens
                    .iter()
                    .copied()
                    .filter(|t| !text::is_mark(t))
                    .collect();
                let sum: u8 = words.iter().map(|w| dictionary.certain(w).unwrap()).sum();
                assert_eq!(sum, count, "{tokens:?}");
                assert!(
                    !lexicon.hanging.contains(words[words.len() - 1]),
                    "{tokens:?}"
                );
                assert!(!text::is_mark(tokens[0]), "{tokens:?}");
                for pair in tokens.windows(2) {
                    assert!(
                        !(text::is_mark(pair[0]) && text::is_mark(pair[1])),
                        "{tokens:?}"
                    );
                    assert!(
                        pair[0] != "a"
                            || ![
                                "an", "of", "in", "and", "owl", "apple", "autumn", "evening", "i"
                            ]
                            .contains(&pair[1]),
                        "{tokens:?}"
                    );
                }
            }
            let all: Vec<&str> = draft.tokens().map(|t| vocab.token(t)).collect();
            for word in ["damn", "he", "fire", "yon"] {
                assert!(!all.contains(&word), "{all:?}");
            }
            for word in ["silent", "butterfly", "moon", "pond"] {
                assert!(all.iter().filter(|w| **w == word).count() <= 1, "{all:?}");
            }
            assert!(!["of", "and"].contains(&all[0]));
        }
    }
}
