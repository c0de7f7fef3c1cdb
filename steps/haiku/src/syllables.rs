//! How many syllables a word has: by the CMU Pronouncing Dictionary, and by a rule for
//! words that it lacks. Never guesses for a word that the dictionary knows.

use std::collections::HashMap;
use std::io::Read;
use std::sync::OnceLock;

/// The dictionary, derived as `data/README.md` says.
static PACKED: &[u8] = include_bytes!("../data/syllables.txt.gz");

/// What the dictionary says about a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The counts that its readings have, the first reading's first: `fire` is 2 or 1.
    pub counts: Vec<u8>,
    /// Whether the first reading begins with a vowel's sound: `hour`, not `one`.
    pub vowel: bool,
}

/// The dictionary.
#[derive(Debug)]
pub struct Dictionary {
    words: HashMap<Box<str>, Reading>,
}

impl Dictionary {
    /// The dictionary that is part of the program; unpacked once.
    pub fn get() -> &'static Self {
        static DICTIONARY: OnceLock<Dictionary> = OnceLock::new();
        DICTIONARY.get_or_init(|| {
            let mut text = String::new();
            // The bytes are part of the program: a test reads them.
            if flate2::read::GzDecoder::new(PACKED)
                .read_to_string(&mut text)
                .is_err()
            {
                text.clear();
            }
            Self::parse(&text)
        })
    }

    fn parse(text: &str) -> Self {
        let words = text.lines().filter_map(|line| {
            let (word, rest) = line.split_once(' ')?;
            let counts = rest
                .bytes()
                .filter(u8::is_ascii_digit)
                .map(|b| b - b'0')
                .collect();
            Some((
                word.into(),
                Reading {
                    counts,
                    vowel: rest.ends_with('v'),
                },
            ))
        });
        Self {
            words: words.collect(),
        }
    }

    /// What the dictionary says about a word in lower case.
    pub fn reading(&self, word: &str) -> Option<&Reading> {
        self.words.get(word)
    }

    /// The number of syllables where the dictionary knows the word and all its readings
    /// agree: what generation builds on, so that a poem scans however it is read.
    pub fn certain(&self, word: &str) -> Option<u8> {
        match self.reading(word)?.counts.as_slice() {
            [count] => Some(*count),
            _ => None,
        }
    }

    /// The counts that a word can have: the dictionary's, or the rule's.
    pub fn possible(&self, word: &str) -> Vec<u8> {
        match self.reading(word) {
            Some(reading) => reading.counts.clone(),
            None => vec![by_rule(word)],
        }
    }

    /// Whether words can be read with `total` syllables in all.
    pub fn can_scan<'a>(&self, words: impl IntoIterator<Item = &'a str>, total: u8) -> bool {
        // Bit n: some reading so far has n syllables.
        let mut sums: u64 = 1;
        for word in words {
            sums = self
                .possible(word)
                .iter()
                .fold(0, |all, &n| all | (sums << n.min(63)));
        }
        total < 64 && sums >> total & 1 == 1
    }

    /// Whether a word begins with a vowel's sound, so that `an` goes before it.
    pub fn begins_with_vowel(&self, word: &str) -> bool {
        match self.reading(word) {
            Some(reading) => reading.vowel,
            None => word.starts_with(['a', 'e', 'i', 'o', 'u']),
        }
    }
}

/// The rule for words outside the dictionary: groups of vowels, less silent endings.
/// It agrees with the dictionary on most of its own words; a test says how many.
pub fn by_rule(word: &str) -> u8 {
    let letters: Vec<char> = word.chars().filter(|c| c.is_alphabetic()).collect();
    let vowel = |i: usize| {
        let c = letters[i].to_ascii_lowercase();
        matches!(c, 'a' | 'e' | 'i' | 'o' | 'u') || (c == 'y' && i > 0)
    };
    let mut count = 0i32;
    for i in 0..letters.len() {
        if vowel(i) && (i == 0 || !vowel(i - 1)) {
            count += 1;
        }
    }
    let text: String = letters.iter().collect::<String>().to_lowercase();
    let consonant_before =
        |suffix: usize| letters.len() > suffix && !vowel(letters.len() - suffix - 1);
    // Silent e, -es and -ed; `-le` after a consonant keeps its syllable.
    let ends_with_any = |endings: &[&str]| endings.iter().any(|e| text.ends_with(e));
    let silent_e = text.ends_with('e') && consonant_before(1);
    let silent_e = silent_e && !(text.ends_with("le") && consonant_before(2));
    let silent_ed = text.ends_with("ed") && consonant_before(2) && !ends_with_any(&["ted", "ded"]);
    let spoken_es = ["ses", "ces", "ges", "zes", "xes", "ches", "shes", "les"];
    let silent_es = text.ends_with("es") && consonant_before(2) && !ends_with_any(&spoken_es);
    if silent_e || silent_ed || silent_es {
        count -= 1;
    }
    // Two vowels, two syllables: `ria`, `ious` is one, `eo`, `ia`, `iu`.
    for pair in ["ia", "eo", "iu", "uou"] {
        if text.contains(pair)
            && !["tia", "cia", "sia", "geo"]
                .iter()
                .any(|e| text.contains(e))
        {
            count += 1;
        }
    }
    count.clamp(1, 9) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_whole() {
        let dictionary = Dictionary::get();
        assert_eq!(dictionary.words.len(), 124_919);
        assert_eq!(dictionary.certain("moonlight"), Some(2));
        assert_eq!(dictionary.certain("chrysanthemum"), Some(4));
        assert_eq!(dictionary.certain("fire"), None, "it has two readings");
        assert_eq!(dictionary.possible("fire"), [2, 1]);
        assert!(dictionary.begins_with_vowel("hour") && !dictionary.begins_with_vowel("one"));
    }

    #[test]
    fn a_line_scans_when_some_reading_does() {
        let dictionary = Dictionary::get();
        for total in [4, 5] {
            assert!(dictionary.can_scan("the fire burns low".split(' '), total));
        }
        assert!(!dictionary.can_scan("the fire burns low".split(' '), 6));
        assert!(dictionary.can_scan([], 0));
    }

    #[test]
    fn the_rule_agrees_with_the_dictionary_on_four_words_in_five() {
        let dictionary = Dictionary::get();
        let plain = dictionary
            .words
            .iter()
            .filter(|(word, _)| !word.contains('\''));
        let (mut right, mut all) = (0u32, 0u32);
        for (word, reading) in plain {
            all += 1;
            right += u32::from(reading.counts.contains(&by_rule(word)));
        }
        let share = f64::from(right) / f64::from(all);
        assert!(share > 0.8, "{share}");
        for (word, count) in [
            ("zephyrous", 3),
            ("wobblegate", 3),
            ("mossglow", 2),
            ("xyl", 1),
        ] {
            assert_eq!(by_rule(word), count, "{word}");
        }
    }
}
