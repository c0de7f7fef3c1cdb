//! The JSON schema of what the check takes, made from the same tables. Editors
//! complete and underline with it; the check itself is stricter.

use super::fields::{
    COMMAND_COMPONENT, COMMAND_JOB, ENVIRONMENT, Field, JOB_TYPES, PIPELINE, PIPELINE_COMPONENT,
    PIPELINE_JOB, Shape, Status, Table,
};
use serde_json::{Map, Value, json};

/// Which file a schema is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaKind {
    /// A pipeline: a document of `pipelines.yaml`.
    Pipeline,
    /// A component file.
    Component,
    /// An environment file.
    Environment,
}

/// The JSON schema (draft 2020-12) of a kind of file.
#[must_use]
pub fn json_schema(kind: SchemaKind) -> Value {
    let mut definitions = Map::new();
    let (title, root) = match kind {
        SchemaKind::Pipeline => ("pipeline", table(&PIPELINE, &mut definitions)),
        SchemaKind::Component => (
            "component",
            json!({"anyOf": [table(&COMMAND_COMPONENT, &mut definitions), table(&PIPELINE_COMPONENT, &mut definitions)]}),
        ),
        SchemaKind::Environment => ("environment", table(&ENVIRONMENT, &mut definitions)),
    };
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("auria-pipeline {title}"),
        "$ref": root.get("$ref").cloned().unwrap_or(Value::Null),
        "anyOf": root.get("anyOf").cloned().unwrap_or(Value::Null),
        "$defs": definitions,
    })
    .as_object()
    .map(|object| {
        object
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect::<Map<_, _>>()
    })
    .map_or(Value::Null, Value::Object)
}

/// A reference to the definition of a table, which is made on its first use.
fn table(of: &'static Table, definitions: &mut Map<String, Value>) -> Value {
    let name = slug(of.name);
    let reference = json!({"$ref": format!("#/$defs/{name}")});
    if definitions.contains_key(&name) {
        return reference;
    }
    // Before its fields, because a pipeline's jobs may hold pipelines.
    definitions.insert(name.clone(), Value::Null);
    let properties: Map<String, Value> = of
        .fields
        .iter()
        .map(|entry| (entry.key.to_owned(), field(entry, definitions)))
        .collect();
    let definition = json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": of.open,
    });
    definitions.insert(name, definition);
    reference
}

fn slug(name: &str) -> String {
    let name = name.trim_start_matches("a ").trim_start_matches("an ");
    name.chars()
        .filter(|c| *c != '`')
        .map(|c| if c == ' ' { '_' } else { c })
        .collect()
}

fn field(of: &Field, definitions: &mut Map<String, Value>) -> Value {
    let mut schema = match shape(&of.shape, definitions) {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    let doc = match of.status {
        Status::Supported => of.doc.to_owned(),
        Status::Ignored(why) => format!("{} Changes nothing here: {why}.", of.doc),
        Status::NotYet(instead) => format!("{} Not built yet; instead: {instead}.", of.doc),
        Status::AzureOnly(instead) => {
            format!("{} Needs a service of Azure; instead: {instead}.", of.doc)
        }
    };
    if !matches!(of.status, Status::Supported) {
        schema.insert("deprecated".to_owned(), Value::Bool(true));
    }
    schema.insert("description".to_owned(), Value::String(doc));
    Value::Object(schema)
}

fn shape(of: &Shape, definitions: &mut Map<String, Value>) -> Value {
    match of {
        Shape::Any => json!({}),
        Shape::Text => json!({"type": ["string", "number", "boolean", "null"]}),
        Shape::Scalar => json!({"type": ["string", "number", "boolean", "null"]}),
        Shape::Boolean => json!({"type": "boolean"}),
        Shape::Integer(least) => json!({"type": "integer", "minimum": least}),
        Shape::Number => json!({"type": ["number", "string"]}),
        Shape::Choice(words) => json!({"enum": words}),
        Shape::Duration => json!({"type": ["integer", "number", "string"]}),
        Shape::Bytes => json!({"type": ["integer", "string"]}),
        Shape::List(item) => json!({"type": "array", "items": shape(item, definitions)}),
        Shape::Map(item) => {
            let item = shape(item, definitions);
            json!({"type": ["object", "null"], "additionalProperties": {"anyOf": [item, {"type": "null"}]}})
        }
        Shape::Object(inner) => table(inner, definitions),
        Shape::OneOf(shapes) => {
            let any: Vec<Value> = shapes.iter().map(|one| shape(one, definitions)).collect();
            json!({"anyOf": any})
        }
        Shape::Job => {
            let command = table(&COMMAND_JOB, definitions);
            let pipeline = table(&PIPELINE_JOB, definitions);
            json!({
                "type": "object",
                "properties": {"type": {"enum": JOB_TYPES}},
                "if": {"properties": {"type": {"const": "pipeline"}}, "required": ["type"]},
                "then": pipeline,
                "else": command,
            })
        }
    }
}
