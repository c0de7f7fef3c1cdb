//! JSON schemas of names, digests and times, as they stand in what goes over HTTP. Those of
//! records are derived beside them. It reads and checks nothing.

use crate::{Digest, Nonce, RunId, StepPath, Timestamp};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

macro_rules! text {
    ($type:ty, $name:literal, $schema:tt) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

text!(RunId, "RunId", {
    "type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$", "minLength": 1, "maxLength": 50,
    "description": "A run's name."
});
text!(StepPath, "StepPath", {
    "type": "string", "minLength": 1, "maxLength": 512,
    "description": "A step's path in its pipeline."
});
text!(Nonce, "Nonce", {
    "type": "string", "pattern": "^[0-9a-f]{16}$",
    "description": "Drawn at random, so that one record is told from another."
});
text!(Digest, "Digest", {
    "type": "string", "pattern": "^blake3:[0-9a-f]{64}$",
    "description": "A digest of 32 bytes."
});
text!(Timestamp, "Timestamp", {
    "type": "string", "format": "date-time",
    "description": "A time to the millisecond, in UTC."
});
