//! Amounts as a config file writes them: `16Gi`, `500m`, `10m`.

use auria_core::check;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Whole(u64),
    Number(f64),
}

impl Written {
    fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Whole(number) => number.to_string(),
            Self::Number(number) => number.to_string(),
        }
    }
}

macro_rules! amount {
    ($(#[$doc:meta])* $name:ident, $read:path, $example:literal, |$value:ident| $write:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub u64);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Written::deserialize(deserializer)?.text();
                $read(&text).map(Self).ok_or_else(|| {
                    serde::de::Error::custom(format!(
                        concat!("`{}` is no amount; write it like `", $example, "`"),
                        text
                    ))
                })
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let $value = self.0;
                serializer.serialize_str(&$write)
            }
        }
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": ["string", "number"], "examples": [$example]})
            }
        }
    };
}

amount! {
    /// Bytes: `16Gi`, `512MiB`, `1048576`.
    Bytes, check::bytes, "16Gi", |value| value.to_string()
}
amount! {
    /// Thousandths of a core: `2`, `0.5`, `500m`.
    Cpus, check::cpu_millis, "500m", |value| format!("{value}m")
}
amount! {
    /// Milliseconds: `90` (seconds), `90s`, `10m`.
    Span, check::duration_ms, "10m", |value| format!("{value}ms")
}

impl Span {
    /// So many seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds * 1000)
    }
}
