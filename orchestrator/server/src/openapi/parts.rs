//! What the parts of a handler's signature say of its operation.

use super::{Sketch, Told};
use crate::api::extract::{Asked, Said};
use crate::body::Taken;
use crate::problem::Refusal;
use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, Request, State};
use axum::response::{Response, Sse};
use http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde_json::{Value, json};

/// What a handler takes.
pub(crate) trait Input {
    /// Says so.
    fn describe(_: &mut Sketch<'_>) {}
}

impl<T> Input for State<T> {}
impl<T> Input for Extension<T> {}
/// Its names stand in the path itself.
impl<T> Input for Path<T> {}
/// Which ones is said beside it.
impl Input for HeaderMap {}

impl<T: JsonSchema> Input for Asked<T> {
    fn describe(sketch: &mut Sketch<'_>) {
        let schema = sketch.sent.subschema_for::<T>().to_value();
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            let mut schema = schema.clone();
            plain(&mut schema);
            let described = schema.as_object_mut();
            let described = described.and_then(|schema| schema.remove("description"));
            sketch.parameters.push(json!({
                "name": name, "in": "query", "required": required.contains(&json!(name)),
                "description": described.unwrap_or_default(), "schema": schema,
            }));
        }
    }
}

/// What is absent from a query is absent: no value there is null.
fn plain(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else {
        return;
    };
    if let Some(Value::Array(types)) = schema.get("type") {
        let mut types = types.iter().filter(|one| *one != "null");
        if let (Some(one), None) = (types.next().cloned(), types.next()) {
            schema.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    if let Some(Value::Array(mut choices)) = schema.remove("anyOf") {
        choices.retain(|choice| choice["type"] != "null");
        match choices.as_slice() {
            [Value::Object(one)] => {
                for (name, value) in one.clone() {
                    schema.entry(name).or_insert(value);
                }
            }
            _ => drop(schema.insert("anyOf".to_owned(), Value::Array(choices))),
        }
    }
    schema.remove("default").filter(|value| !value.is_null());
}

fn json_body<T: JsonSchema>(sketch: &mut Sketch<'_>) {
    let schema = sketch.sent.subschema_for::<T>();
    sketch.body =
        Some(json!({"required": true, "content": {"application/json": {"schema": schema}}}));
}

impl<T: JsonSchema> Input for Said<T> {
    fn describe(sketch: &mut Sketch<'_>) {
        json_body::<T>(sketch);
    }
}

impl<T: JsonSchema, const MOST: usize> Input for Taken<T, MOST> {
    fn describe(sketch: &mut Sketch<'_>) {
        json_body::<T>(sketch);
    }
}

/// Bytes as they are.
impl Input for Body {
    fn describe(sketch: &mut Sketch<'_>) {
        sketch.body = Some(json!({"required": true, "content": {"application/octet-stream": {}}}));
    }
}

/// JSON that a handler reads late: of a plan, which is whatever this release writes.
impl Input for Request {
    fn describe(sketch: &mut Sketch<'_>) {
        let schema = json!({"type": "object", "description": "A plan, as a program of this release writes it."});
        sketch.body =
            Some(json!({"required": true, "content": {"application/json": {"schema": schema}}}));
    }
}

/// What a handler gives where all is well.
pub(crate) trait Output {
    /// Says so.
    fn describe(sketch: &mut Sketch<'_>);
}

impl<T: JsonSchema> Output for Json<T> {
    fn describe(sketch: &mut Sketch<'_>) {
        let schema = sketch.got.subschema_for::<T>();
        let content = json!({"schema": schema});
        sketch
            .content
            .insert("application/json".to_owned(), content);
    }
}

/// Its status is said beside it.
impl<T: Output> Output for (StatusCode, T) {
    fn describe(sketch: &mut Sketch<'_>) {
        T::describe(sketch);
    }
}

impl Output for StatusCode {
    fn describe(_: &mut Sketch<'_>) {}
}

/// All that it is is said beside it.
impl Output for Response {
    fn describe(_: &mut Sketch<'_>) {}
}

impl<T: Output> Output for Result<T, Refusal> {
    fn describe(sketch: &mut Sketch<'_>) {
        T::describe(sketch);
    }
}

impl<S> Output for Sse<S> {
    fn describe(sketch: &mut Sketch<'_>) {
        // Of an event stream there is no schema in OpenAPI 3.1: what an event is stands in the docs.
        let content = json!({"schema": {}});
        sketch
            .content
            .insert("text/event-stream".to_owned(), content);
    }
}

impl Output for Told {
    fn describe(sketch: &mut Sketch<'_>) {
        let content = json!({"schema": {"type": "object"}});
        sketch
            .content
            .insert("application/json".to_owned(), content);
    }
}

/// A handler whose signature says what it takes and gives.
pub(crate) trait Describes<T> {
    /// Says so.
    fn describe(sketch: &mut Sketch<'_>);
}

impl<F, Fut> Describes<((),)> for F
where
    F: FnOnce() -> Fut,
    Fut: Future<Output: Output>,
{
    fn describe(sketch: &mut Sketch<'_>) {
        Fut::Output::describe(sketch);
    }
}

macro_rules! handlers {
    ($($input:ident)*) => {
        // The first is what axum tells handlers apart by.
        impl<F, Fut, M, $($input),*> Describes<(M, $($input),*)> for F
        where
            F: FnOnce($($input),*) -> Fut,
            Fut: Future<Output: Output>,
            $($input: Input),*
        {
            fn describe(sketch: &mut Sketch<'_>) {
                $($input::describe(sketch);)*
                Fut::Output::describe(sketch);
            }
        }
    };
}

handlers!(A);
handlers!(A B);
handlers!(A B C);
handlers!(A B C D);
handlers!(A B C D E);
handlers!(A B C D E G);
