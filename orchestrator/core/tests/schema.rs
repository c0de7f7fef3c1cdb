//! The JSON schema: every reference in it leads somewhere, and what it takes is
//! what the check takes.

use auria_core::check::{SchemaKind, json_schema};
use serde_json::Value;

fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("$ref").and_then(Value::as_str));
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere() {
    for kind in [
        SchemaKind::Pipeline,
        SchemaKind::Component,
        SchemaKind::Environment,
    ] {
        let schema = json_schema(kind);
        let mut found = Vec::new();
        references(&schema, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let definition = schema.pointer(reference.trim_start_matches('#'));
            assert!(
                definition.is_some_and(Value::is_object),
                "{kind:?}: {reference}"
            );
        }
    }
}

#[test]
fn a_field_says_what_it_is_for_and_how_far_it_is_built() {
    let schema = json_schema(SchemaKind::Pipeline);
    let job = &schema["$defs"]["command_job"]["properties"];
    assert_eq!(
        job["network"]["enum"],
        serde_json::json!(["default", "none"])
    );
    assert_eq!(job["priority"]["deprecated"], true);
    let said = job["priority"]["description"].as_str().unwrap();
    assert!(said.contains("Not built yet; instead: "), "{said}");
    assert_eq!(schema["$defs"]["settings"]["additionalProperties"], true);
    assert_eq!(schema["$defs"]["pipeline"]["additionalProperties"], false);
}
