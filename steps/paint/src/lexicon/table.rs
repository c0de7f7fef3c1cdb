//! The table of words: how captions say each concept, and which words name it.

use super::{Concept, Entry};
use crate::scene::{Land, Light, Season, Time, Tree, Weather};

const fn entry(
    concept: Concept,
    phrases: &'static [&'static str],
    words: &'static [&'static str],
) -> Entry {
    Entry {
        concept,
        phrases,
        words,
    }
}

/// All entries. The first of `words` is the concept's plain name; the words of one
/// entry mean nothing else.
#[rustfmt::skip] // one line a concept's phrases, one its words
pub const ENTRIES: &[Entry] = &[
    entry(
        Concept::Season(Season::Spring),
        &["spring", "in spring", "early spring", "spring comes", "a spring scene", "the young spring"],
        &["spring", "april", "sprout", "bud", "seedling", "tender", "lark", "nest", "awake"],
    ),
    entry(
        Concept::Season(Season::Summer),
        &["summer", "in summer", "a summer scene", "summer heat", "deep summer", "the warm summer"],
        &["summer", "june", "july", "august", "heat", "hot", "warm", "cicada", "cricket", "dragonfly", "firefly", "green", "ripe"],
    ),
    entry(
        Concept::Season(Season::Autumn),
        &["autumn", "in autumn", "late autumn", "autumn leaves", "an autumn scene", "golden autumn", "fallen leaves"],
        &["autumn", "september", "october", "november", "leaves", "golden", "harvest", "wither", "withered", "faded", "brown", "acorn", "chrysanthemum", "scarecrow", "rust", "amber"],
    ),
    entry(
        Concept::Season(Season::Winter),
        &["winter", "in winter", "deep winter", "a winter scene", "cold winter", "frost and cold"],
        &["winter", "cold", "frost", "ice", "icy", "frozen", "freeze", "december", "january", "february", "chill", "bare", "frosty", "icicle"],
    ),
    entry(
        Concept::Time(Time::Dawn),
        &["dawn", "at dawn", "in the morning", "early morning", "sunrise", "the light of dawn", "daybreak"],
        &["dawn", "morning", "sunrise", "daybreak", "dew", "rooster", "waking", "morn"],
    ),
    entry(
        Concept::Time(Time::Day),
        &["day", "by day", "at noon", "in the afternoon", "daylight", "a bright day"],
        &["day", "noon", "afternoon", "daylight", "bright", "midday"],
    ),
    entry(
        Concept::Time(Time::Dusk),
        &["dusk", "at dusk", "in the evening", "sunset", "twilight", "a red evening", "the red light"],
        &["dusk", "evening", "sunset", "twilight", "red", "glow", "ember", "burning", "fire", "flame", "farewell", "gloaming", "crimson", "shadow"],
    ),
    entry(
        Concept::Time(Time::Night),
        &["night", "at night", "in the night", "midnight", "a dark night", "darkness"],
        &["night", "midnight", "dark", "darkness", "black", "owl", "dream", "sleep", "asleep", "bat", "nightfall", "tonight"],
    ),
    entry(
        Concept::Weather(Weather::Clear),
        &["a clear sky", "clear air", "under a blue sky", "a cloudless sky", "clear and still"],
        &["clear", "blue", "cloudless", "crystal"],
    ),
    entry(
        Concept::Weather(Weather::Cloudy),
        &["clouds", "drifting clouds", "under clouds", "a cloudy sky", "clouds in the wind", "white clouds"],
        &["clouds", "cloud", "cloudy", "wind", "windy", "breeze", "overcast", "blow", "gust", "drift"],
    ),
    entry(
        Concept::Weather(Weather::Rain),
        &["rain", "in the rain", "rain falls", "falling rain", "a storm", "heavy rain"],
        &["rain", "storm", "rainy", "raining", "wet", "drops", "drop", "puddle", "shower", "umbrella", "drizzle", "thunder", "thunderstorm", "lightning", "tear", "weep"],
    ),
    entry(
        Concept::Weather(Weather::Snow),
        &["snow", "in the snow", "snow falls", "falling snow", "white snow", "snowfall"],
        &["snow", "snowfall", "snowy", "flake", "flakes", "snowflake", "blizzard", "sleet"],
    ),
    entry(
        Concept::Weather(Weather::Mist),
        &["mist", "in the mist", "white mist", "fog", "a pale fog", "mist and silence", "veiled in mist"],
        &["mist", "fog", "misty", "foggy", "haze", "hazy", "silence", "silent", "veil", "ghost", "smoke", "breath", "quiet", "stillness", "vapor", "steam", "dim", "grey", "gray"],
    ),
    entry(
        Concept::Land(Land::Mountains),
        &["mountains", "the mountains", "a high mountain", "mountain peaks", "the far mountain", "rocks and mountains"],
        &["mountains", "mountain", "peak", "peaks", "rock", "rocks", "stone", "stones", "summit", "cliff", "fuji", "ridge", "temple", "shrine", "bell", "echo", "eagle", "hawk", "crag", "alp"],
    ),
    entry(
        Concept::Land(Land::Hills),
        &["hills", "soft hills", "rolling hills", "the far hills", "over the hills", "a hill"],
        &["hills", "hill", "valley", "slope", "rolling", "sheep", "path", "road", "hillside", "wander", "journey", "walk", "moor", "heath"],
    ),
    entry(
        Concept::Land(Land::Sea),
        &["the sea", "the ocean", "waves", "waves on the shore", "a beach", "the sea shore"],
        &["sea", "ocean", "waves", "wave", "shore", "beach", "sand", "tide", "salt", "coast", "bay", "island", "shell", "foam", "surf", "whale", "gull", "seagull", "harbor", "horizon"],
    ),
    entry(
        Concept::Land(Land::Lake),
        &["a lake", "the lake", "still water", "the river", "a pond", "a calm lake", "water and reflections"],
        &["lake", "water", "river", "pond", "stream", "reflection", "reflections", "frog", "fish", "heron", "swan", "duck", "ripple", "lotus", "reed", "brook", "waterfall", "mirror", "bridge", "flow", "koi", "turtle", "marsh"],
    ),
    entry(
        Concept::Land(Land::Fields),
        &["fields", "the fields", "a wide field", "rows of grain", "farmland", "a ploughed field"],
        &["fields", "field", "grain", "farmland", "farm", "rice", "wheat", "barley", "corn", "farmer", "plough", "meadow", "plain", "furrow", "crop", "hay", "horse", "ox", "rows", "seed", "crow", "mouse"],
    ),
    entry(
        Concept::Land(Land::Forest),
        &["a forest", "the forest", "deep woods", "the woods", "among trees", "a stand of trees"],
        &["forest", "woods", "wood", "trees", "grove", "deer", "fox", "moss", "mushroom", "woodland", "bamboo", "wolf", "fern", "bear", "squirrel", "cuckoo"],
    ),
    entry(
        Concept::Light(Light::Sun),
        &["the sun", "a low sun", "sunlight", "the sun shines", "sun in the sky", "sunshine"],
        &["sun", "sunlight", "sunshine", "shine", "shines", "sunny", "sunbeam", "ray", "rays"],
    ),
    entry(
        Concept::Light(Light::Moon),
        &["the moon", "a full moon", "moonlight", "the moon rises", "a pale moon", "under the moon"],
        &["moon", "moonlight", "moonlit", "moonrise", "crescent", "lunar"],
    ),
    entry(
        Concept::Tree(Tree::Leafy),
        &["a tree", "an old tree", "a lone tree", "branches", "a maple tree", "a tree stands"],
        &["tree", "branches", "branch", "maple", "oak", "leaf", "twig", "willow", "bough", "shade", "root", "elm", "birch", "apple", "orchard", "persimmon"],
    ),
    entry(
        Concept::Tree(Tree::Pine),
        &["a pine", "a pine tree", "a tall pine", "an evergreen pine", "a lone pine"],
        &["pine", "evergreen", "cedar", "fir", "needle", "cypress", "spruce", "conifer"],
    ),
    entry(
        Concept::Tree(Tree::Blossom),
        &["cherry blossom", "blossoms", "a cherry tree in bloom", "pink blossom", "petals", "plum blossom"],
        &["blossom", "blossoms", "cherry", "petals", "petal", "plum", "pink", "bloom", "sakura", "peach", "blooming", "nightingale"],
    ),
    entry(
        Concept::Stars,
        &["stars", "the stars", "many stars", "a starry sky", "starlight", "the milky way"],
        &["stars", "star", "starry", "starlight", "milky", "constellation", "galaxy", "comet", "heaven", "heavens"],
    ),
    entry(
        Concept::Birds,
        &["birds", "flying birds", "birds in the sky", "wild geese", "crows", "a flock of birds", "swallows"],
        &["birds", "bird", "geese", "goose", "crows", "flock", "swallows", "swallow", "wing", "wings", "sparrow", "crane", "feather", "flight", "raven", "fly", "flying", "robin", "thrush", "song", "sing"],
    ),
    entry(
        Concept::Boat,
        &["a boat", "a sail", "a boat floats by", "a white sail", "a fishing boat", "a small boat"],
        &["boat", "sail", "sails", "ship", "fisherman", "anchor", "mast", "oar", "ferry", "voyage", "canoe", "vessel", "fishing"],
    ),
    entry(
        Concept::House,
        &["a house", "a small house", "a hut", "a cottage", "a lit window", "an old house"],
        &["house", "hut", "cottage", "window", "home", "roof", "door", "village", "lamp", "lantern", "candle", "cabin", "hearth", "mother", "father", "child", "children", "room", "wall", "barn", "chimney"],
    ),
    entry(
        Concept::Flowers,
        &["flowers", "wild flowers", "flowers in the grass", "poppies", "flowers and bees", "many flowers"],
        &["flowers", "flower", "poppies", "poppy", "butterfly", "butterflies", "bee", "bees", "rose", "garden", "violet", "lily", "daisy", "clover", "iris", "tulip", "honey", "fragrance", "dandelion", "morning-glory", "peony", "wildflower", "grass"],
    ),
];
