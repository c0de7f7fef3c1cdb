//! The JSON schema of what `validate --output json` prints, with every code.

use super::Code;
use serde_json::{Value, json};

/// The JSON schema (draft 2020-12) of the output of `validate --output json`.
#[must_use]
pub fn json_schema() -> Value {
    let codes = Code::ALL.iter().map(|code| {
        json!({
            "const": code.as_str(),
            "title": code.group(),
            "description": code.meaning(),
        })
    });
    let place = json!({"type": ["integer", "null"], "minimum": 1});
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "auria-pipeline validate --output json",
        "type": "object",
        "required": ["valid", "pipelines", "diagnostics"],
        "properties": {
            "valid": {"type": "boolean", "description": "Whether there is no error."},
            "pipelines": {"type": "array", "items": {"type": "string"}, "description": "Names of the pipelines in the files."},
            "diagnostics": {"type": "array", "items": {"$ref": "#/$defs/diagnostic"}},
        },
        "$defs": {
            "diagnostic": {
                "type": "object",
                "required": ["severity", "code", "message", "help", "file", "line", "column"],
                "properties": {
                    "severity": {"enum": ["error", "warning"]},
                    "code": {"$ref": "#/$defs/code"},
                    "message": {"type": "string", "description": "What is wrong, in one sentence."},
                    "help": {"type": ["string", "null"], "description": "The way out."},
                    "file": {"type": ["string", "null"], "description": "A path, or the argument of `--set`."},
                    "line": place,
                    "column": {"type": ["integer", "null"], "minimum": 1, "description": "In characters."},
                    "span": {"type": ["array", "null"], "items": {"type": "integer"}, "description": "First byte, and the one behind the last."},
                    "labels": {"type": "array", "items": {"$ref": "#/$defs/label"}, "description": "Other places that have to do with it."},
                },
            },
            "label": {
                "type": "object",
                "properties": {
                    "message": {"type": "string"},
                    "file": {"type": "string"},
                    "line": {"type": "integer"},
                    "column": {"type": "integer"},
                },
            },
            "code": {"oneOf": codes.collect::<Vec<_>>()},
        },
    })
}
