//! The moods of the project: the twenty emotions of WikiArt Emotions (Mohammad and
//! Kiritchenko 2018), and the everyday words that people use for them.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

macro_rules! moods {
    ($($variant:ident $name:literal [$($alias:literal)*])*) => {
        /// One of the twenty.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum Mood {
            $(
                #[doc = concat!("`", $name, "`")]
                $variant,
            )*
        }

        impl Mood {
            /// All of them, in the order of the data set.
            pub const ALL: &[Mood] = &[$(Mood::$variant),*];

            /// Its name, as the data set spells it.
            pub fn name(self) -> &'static str {
                match self { $(Mood::$variant => $name,)* }
            }

            /// Other words that are taken for it.
            pub fn aliases(self) -> &'static [&'static str] {
                match self { $(Mood::$variant => &[$($alias),*],)* }
            }
        }
    };
}

moods! {
    Agreeableness "agreeableness" ["agreeable" "kind" "kindness" "gentle" "gentleness" "friendly" "tender" "tenderness"]
    Anger "anger" ["angry" "rage" "fury" "furious"]
    Anticipation "anticipation" ["expectation" "excitement" "excited" "eager" "longing" "waiting"]
    Arrogance "arrogance" ["arrogant" "pride" "proud" "vanity"]
    Disagreeableness "disagreeableness" ["disagreeable" "harsh" "bitter" "bitterness" "cold"]
    Disgust "disgust" ["disgusted" "revulsion" "loathing"]
    Fear "fear" ["afraid" "scared" "dread" "terror" "anxiety" "anxious"]
    Gratitude "gratitude" ["grateful" "thankful" "thankfulness" "thanks"]
    Happiness "happiness" ["happy" "joy" "joyful" "cheerful" "delight" "bliss"]
    Humility "humility" ["humble" "modest" "modesty"]
    Love "love" ["loving" "romance" "romantic" "affection" "passion"]
    Optimism "optimism" ["optimistic" "hope" "hopeful"]
    Pessimism "pessimism" ["pessimistic" "despair" "hopeless" "gloom" "gloomy"]
    Regret "regret" ["remorse" "rueful" "nostalgia" "nostalgic" "guilt"]
    Sadness "sadness" ["sad" "sorrow" "grief" "melancholy" "melancholic" "lonely" "loneliness"]
    Shame "shame" ["ashamed" "embarrassment"]
    Shyness "shyness" ["shy" "timid" "timidity"]
    Surprise "surprise" ["surprised" "wonder" "awe" "astonishment" "amazement"]
    Trust "trust" ["trusting" "faith" "calm" "peace" "peaceful" "serene" "serenity"]
    Neutral "neutral" ["none" "plain" "any"]
}

/// The names of all moods, for messages and help.
pub fn names() -> String {
    let names: Vec<&str> = Mood::ALL.iter().map(|m| m.name()).collect();
    names.join(", ")
}

impl std::fmt::Display for Mood {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mood {
    type Err = Error;

    /// Reads a name or an alias, in any case.
    fn from_str(text: &str) -> Result<Self, Error> {
        let word = text.trim().to_lowercase();
        Mood::ALL
            .iter()
            .copied()
            .find(|m| m.name() == word || m.aliases().contains(&word.as_str()))
            .ok_or_else(|| Error::Mood {
                name: text.to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_are_read_in_any_case_and_mean_one_mood() {
        assert_eq!(" Joy ".parse::<Mood>().unwrap(), Mood::Happiness);
        let mut seen = std::collections::HashSet::new();
        for &mood in Mood::ALL {
            for word in [mood.name()].iter().chain(mood.aliases()) {
                assert!(seen.insert(*word), "{word} means two moods");
                assert_eq!(word.to_uppercase().parse::<Mood>().unwrap(), mood);
            }
            let json = serde_json::to_string(&mood).unwrap();
            assert_eq!(json, format!("\"{mood}\""));
        }
        assert_eq!(Mood::ALL.len(), 20);
    }

    #[test]
    fn an_unknown_mood_names_the_known_ones() {
        let error = "hungry".parse::<Mood>().unwrap_err().to_string();
        assert!(
            error.contains("hungry") && error.contains("sadness"),
            "{error}"
        );
    }
}
