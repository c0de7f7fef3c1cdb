//! Reads a poem for what it shows: words that the painter knows, words that stand for
//! them, and what the poem leaves open.
//!
//! Pure but for reading the file; the same poem, mood and seed are read the same way.

use std::path::{Path, PathBuf};

use anyhow::bail;
use auria_steps_common::files;
use auria_steps_common::mood::Mood;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::lexicon::{self, Concept};
use crate::scene::{Land, Light, Season, Time, Tree, Weather};
use crate::vocabulary::Vocabulary;

/// A poem as the step before gives it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Poem {
    /// Its lines.
    pub lines: Vec<String>,
    /// The mood that it was written in, if one is known.
    pub mood: Option<Mood>,
    /// The topic that it was asked for, if any.
    pub topic: Option<String>,
}

/// What is read of `poem.json`; other fields are of no matter here.
#[derive(Deserialize)]
struct Json {
    lines: Vec<String>,
    #[serde(default)]
    mood: Option<String>,
    #[serde(default)]
    topic: Option<String>,
}

impl Poem {
    /// Reads `poem.json`, or else `poem.txt`, of a folder; or a file of either kind.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let path: PathBuf = if path.is_dir() {
            let names = ["poem.json", "poem.txt", "haiku.txt"];
            match names
                .iter()
                .map(|name| path.join(name))
                .find(|p| p.is_file())
            {
                Some(found) => found,
                None => bail!("{} holds neither poem.json nor poem.txt", path.display()),
            }
        } else {
            path.to_path_buf()
        };
        if path.extension().is_some_and(|e| e == "json") {
            let json: Json = files::read_json(&path)?;
            let mood = json.mood.and_then(|mood| mood.parse().ok());
            return Ok(Self {
                lines: json.lines,
                mood,
                topic: json.topic,
            });
        }
        let lines = files::read_text(&path)?
            .lines()
            .map(str::to_owned)
            .collect();
        Ok(Self {
            lines,
            mood: None,
            topic: None,
        })
    }
}

/// A word that stands in for another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// The poem's word.
    pub word: String,
    /// The painter's word.
    pub by: String,
}

/// A word that the poem does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// The word.
    pub word: String,
    /// Why it was added.
    pub because: String,
}

/// What a poem was read as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// What the text encoder is given.
    pub caption: String,
    /// Words of the poem that the painter knows.
    pub understood: Vec<String>,
    /// Words that others stand in for.
    pub replaced: Vec<Replaced>,
    /// Words that were left out.
    pub left_out: Vec<String>,
    /// Words for what the poem leaves open.
    pub added: Vec<Added>,
}

/// Seasons, times of day and weathers that suit a mood.
type Suits = (&'static [Season], &'static [Time], &'static [Weather]);

fn suits(mood: Option<Mood>) -> Suits {
    match mood {
        Some(
            Mood::Happiness
            | Mood::Optimism
            | Mood::Gratitude
            | Mood::Love
            | Mood::Agreeableness
            | Mood::Trust,
        ) => (
            &[Season::Spring, Season::Summer],
            &[Time::Day, Time::Dawn, Time::Day],
            &[Weather::Clear, Weather::Cloudy],
        ),
        Some(
            Mood::Sadness
            | Mood::Regret
            | Mood::Pessimism
            | Mood::Shame
            | Mood::Shyness
            | Mood::Humility,
        ) => (
            &[Season::Autumn, Season::Winter],
            &[Time::Dusk, Time::Night],
            &[Weather::Mist, Weather::Rain, Weather::Clear],
        ),
        Some(
            Mood::Anger | Mood::Fear | Mood::Disgust | Mood::Disagreeableness | Mood::Arrogance,
        ) => (
            &[Season::Autumn, Season::Winter],
            &[Time::Night, Time::Dusk],
            &[Weather::Rain, Weather::Cloudy],
        ),
        Some(Mood::Surprise | Mood::Anticipation) => (
            &[Season::Spring, Season::Autumn],
            &[Time::Dawn, Time::Night],
            &[Weather::Clear, Weather::Cloudy],
        ),
        Some(Mood::Neutral) | None => (
            Season::ALL,
            Time::ALL,
            &[
                Weather::Clear,
                Weather::Cloudy,
                Weather::Clear,
                Weather::Mist,
            ],
        ),
    }
}

/// A poem being read.
struct Reader<'a> {
    vocabulary: &'a Vocabulary,
    reading: Reading,
    words: Vec<String>,
    concepts: Vec<Concept>,
}

/// Reads a poem; `seed` decides what neither poem nor mood decide.
pub fn read(poem: &Poem, vocabulary: &Vocabulary, seed: u64) -> Reading {
    let mut reader = Reader {
        vocabulary,
        reading: Reading::default(),
        words: Vec::new(),
        concepts: Vec::new(),
    };
    for word in poem.lines.iter().flat_map(|line| words(line)) {
        reader.take(&word);
    }
    for word in poem.topic.iter().flat_map(|topic| words(topic)) {
        reader.topic(&word);
    }
    reader.complete(poem.mood, &mut StdRng::seed_from_u64(seed));
    reader.reading.caption = reader.words.join(" ");
    reader.reading
}

/// The words of a line, in lower case, without punctuation.
fn words(line: &str) -> Vec<String> {
    line.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '’')
        .map(|word| word.replace('’', "'").trim_matches('\'').to_lowercase())
        .filter(|word| !word.is_empty())
        .collect()
}

impl Reader<'_> {
    fn take(&mut self, word: &str) {
        let meaning = lexicon::meaning(word);
        if let Some(entry) = meaning {
            self.concepts.push(entry.concept);
        }
        if self.vocabulary.knows(word) {
            self.words.push(word.to_owned());
            self.reading.understood.push(word.to_owned());
        } else if let Some(plain) = meaning
            .and_then(|entry| entry.words.first())
            .filter(|w| self.vocabulary.knows(w))
        {
            self.words.push((*plain).to_owned());
            self.reading.replaced.push(Replaced {
                word: word.to_owned(),
                by: (*plain).to_owned(),
            });
        } else {
            self.reading.left_out.push(word.to_owned());
        }
    }

    /// A topic counts where the poem does not show it already.
    fn topic(&mut self, word: &str) {
        if let Some(entry) = lexicon::meaning(word) {
            self.add(entry.concept, "it is the poem's topic");
        }
    }

    fn add(&mut self, concept: Concept, because: &str) {
        let word = lexicon::of(concept).and_then(|entry| entry.words.first());
        let Some(word) = word.filter(|w| self.vocabulary.knows(w)) else {
            return;
        };
        if self.concepts.contains(&concept) {
            return;
        }
        self.concepts.push(concept);
        self.words.push((*word).to_owned());
        self.reading.added.push(Added {
            word: (*word).to_owned(),
            because: because.to_owned(),
        });
    }

    fn has(&self, concept: Concept) -> bool {
        self.concepts.contains(&concept)
    }

    fn any(&self, of: impl Fn(&Concept) -> bool) -> bool {
        self.concepts.iter().any(of)
    }

    /// Land, season, time and weather where the poem names none, and a light in the sky.
    fn complete(&mut self, mood: Option<Mood>, rng: &mut StdRng) {
        let (seasons, times, weathers) = suits(mood);
        let spoken = self.concepts.len();
        let by_mood = if mood.is_some() {
            "it suits the mood"
        } else {
            "the poem leaves it open"
        };
        if !self.any(|c| matches!(c, Concept::Land(_))) {
            let lands: &[Land] = if self.has(Concept::Boat) {
                &[Land::Sea, Land::Lake]
            } else if self.has(Concept::House) {
                &[Land::Hills, Land::Lake, Land::Fields, Land::Mountains]
            } else if self.has(Concept::Flowers) {
                &[Land::Hills, Land::Fields, Land::Lake]
            } else {
                Land::ALL
            };
            self.add_one(lands, Concept::Land, "the poem names no land", rng);
        }
        if !self.any(|c| matches!(c, Concept::Season(_))) {
            if self.has(Concept::Tree(Tree::Blossom)) {
                self.add(Concept::Season(Season::Spring), "blossom means spring");
            } else if self.has(Concept::Weather(Weather::Snow)) {
                self.add(Concept::Season(Season::Winter), "snow means winter");
            } else if self.has(Concept::Flowers) {
                self.add_one(
                    &[Season::Spring, Season::Summer],
                    Concept::Season,
                    "flowers bloom then",
                    rng,
                );
            } else {
                self.add_one(seasons, Concept::Season, by_mood, rng);
            }
        }
        if !self.any(|c| matches!(c, Concept::Time(_))) {
            if self.has(Concept::Light(Light::Moon)) || self.has(Concept::Stars) {
                self.add(Concept::Time(Time::Night), "moon and stars are seen then");
            } else if self.has(Concept::Light(Light::Sun)) || self.has(Concept::Birds) {
                self.add_one(
                    &[Time::Dawn, Time::Day, Time::Dusk],
                    Concept::Time,
                    "there is daylight in the poem",
                    rng,
                );
            } else {
                self.add_one(times, Concept::Time, by_mood, rng);
            }
        }
        let bright = self.has(Concept::Stars) || self.has(Concept::Light(Light::Sun));
        if !bright
            && !self.any(|c| matches!(c, Concept::Weather(_)))
            && let Some(&weather) = weathers.choose(rng)
            && weather != Weather::Clear
        {
            self.add(Concept::Weather(weather), by_mood);
        }
        let dull =
            self.has(Concept::Weather(Weather::Rain)) || self.has(Concept::Weather(Weather::Snow));
        if !dull && !self.any(|c| matches!(c, Concept::Light(_))) && rng.random_bool(0.7) {
            let night = self.has(Concept::Time(Time::Night));
            self.add(
                Concept::Light(if night { Light::Moon } else { Light::Sun }),
                "a sky wants a light",
            );
        }
        if spoken < 3
            && !self.any(|c| matches!(c, Concept::Tree(_)))
            && !self.has(Concept::Land(Land::Forest))
            && rng.random_bool(0.5)
        {
            let tree = if self.has(Concept::Season(Season::Spring)) {
                Tree::Blossom
            } else {
                Tree::Leafy
            };
            self.add(
                Concept::Tree(tree),
                "the poem names little that can be seen",
            );
        }
    }

    fn add_one<T: Copy>(
        &mut self,
        from: &[T],
        concept: fn(T) -> Concept,
        because: &str,
        rng: &mut StdRng,
    ) {
        if let Some(&choice) = from.choose(rng) {
            self.add(concept(choice), because);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary() -> Vocabulary {
        Vocabulary::of(
            lexicon::ENTRIES
                .iter()
                .flat_map(|e| e.phrases.iter().copied()),
        )
    }

    fn poem(text: &str) -> Poem {
        Poem {
            lines: text.lines().map(str::to_owned).collect(),
            ..Poem::default()
        }
    }

    #[test]
    fn known_words_stay_synonyms_are_replaced_and_others_left_out() {
        let reading = read(
            &poem("Old pond—\nthe frogs jump,\nmoon’s algebra"),
            &vocabulary(),
            1,
        );
        assert!(reading.understood.contains(&"pond".to_owned()));
        assert!(reading.replaced.contains(&Replaced {
            word: "frogs".into(),
            by: "lake".into()
        }));
        assert!(reading.replaced.contains(&Replaced {
            word: "moon's".into(),
            by: "moon".into()
        }));
        assert!(reading.left_out.contains(&"algebra".to_owned()));
        assert!(
            reading.added.iter().any(|a| a.word == "night"),
            "{reading:?}"
        );
        assert!(
            !reading
                .added
                .iter()
                .any(|a| a.because.contains("names no land")),
            "a pond is a lake"
        );
    }

    #[test]
    fn a_poem_of_unknown_words_is_still_a_landscape_and_a_seed_decides_it() {
        for seed in 0..20 {
            let reading = read(&poem("qwerty uiop\nasdf"), &vocabulary(), seed);
            assert!(reading.added.len() >= 2, "{reading:?}");
            assert_eq!(
                reading,
                read(&poem("qwerty uiop\nasdf"), &vocabulary(), seed)
            );
        }
        let captions: std::collections::HashSet<String> = (0..20)
            .map(|seed| read(&poem("qwerty"), &vocabulary(), seed).caption)
            .collect();
        assert!(captions.len() > 5);
    }

    #[test]
    fn a_mood_decides_what_a_poem_leaves_open() {
        for seed in 0..30 {
            let sad = Poem {
                mood: Some(Mood::Sadness),
                ..poem("nothing")
            };
            let caption = read(&sad, &vocabulary(), seed).caption;
            assert!(
                !caption.contains("spring") && !caption.contains("summer"),
                "{caption}"
            );
        }
    }

    #[test]
    fn a_folder_and_both_kinds_of_file_are_read() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Poem::read(dir.path()).is_err());
        std::fs::write(dir.path().join("poem.txt"), "a\nb\n").unwrap();
        assert_eq!(Poem::read(dir.path()).unwrap().lines, ["a", "b"]);
        std::fs::write(
            dir.path().join("poem.json"),
            r#"{"lines":["c"],"mood":"joy","topic":"sea","seed":3}"#,
        )
        .unwrap();
        let poem = Poem::read(dir.path()).unwrap();
        assert_eq!(
            (poem.lines.as_slice(), poem.mood),
            (["c".to_owned()].as_slice(), Some(Mood::Happiness))
        );
        assert!(read(&poem, &vocabulary(), 1).caption.contains("sea"));
    }
}
