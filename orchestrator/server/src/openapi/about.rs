//! What is said of an operation beside what its handler's signature says: its name, its
//! meaning, headers, and the answer of a handler that makes its response itself.

use super::Sketch;
use crate::idempotency;
use http::Method;
use schemars::JsonSchema;
use serde_json::{Map, Value, json};

/// What an operation is for.
pub(crate) struct About {
    id: &'static str,
    summary: &'static str,
    status: Option<u16>,
    /// Answers by status, beside that of the handler's result.
    answers: Vec<(u16, &'static str, Answered)>,
    headers: Vec<(&'static str, Value)>,
    anyone: bool,
    /// The path by which it is routed, where that says less.
    pub(super) served_at: Option<&'static str>,
}

/// What an answer holds: by its media type, schemas made when they are asked for.
type Answered = Option<(&'static str, fn(&mut Sketch<'_>) -> Value)>;

fn schema<T: JsonSchema>(sketch: &mut Sketch<'_>) -> Value {
    sketch.got.subschema_for::<T>().to_value()
}

fn any(_: &mut Sketch<'_>) -> Value {
    json!({})
}

impl About {
    /// An operation of this name, unique in the API.
    pub(crate) fn new(id: &'static str, summary: &'static str) -> Self {
        Self {
            id,
            summary,
            status: None,
            answers: Vec::new(),
            headers: Vec::new(),
            anyone: false,
            served_at: None,
        }
    }

    /// The status of its answer where all is well; 200 where nothing is said.
    pub(crate) fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// It answers JSON with this status, where its handler makes the response itself.
    pub(crate) fn answers<T: JsonSchema>(mut self, status: u16, what: &'static str) -> Self {
        let answered = Some((
            "application/json",
            schema::<T> as fn(&mut Sketch<'_>) -> Value,
        ));
        self.answers.push((status, what, answered));
        self
    }

    /// It answers bytes of this media type.
    pub(crate) fn streams(mut self, status: u16, kind: &'static str, what: &'static str) -> Self {
        let any: fn(&mut Sketch<'_>) -> Value = any;
        self.answers.push((status, what, Some((kind, any))));
        self
    }

    /// It answers with no body.
    pub(crate) fn empty(mut self, status: u16, what: &'static str) -> Self {
        self.answers.push((status, what, None));
        self
    }

    /// It takes a header.
    pub(crate) fn header(mut self, name: &'static str, schema: Value) -> Self {
        self.headers.push((name, schema));
        self
    }

    /// The same key is the same run.
    pub(crate) fn keyed(self) -> Self {
        self.header(
            idempotency::HEADER,
            json!({
                "type": "string", "minLength": 1, "maxLength": idempotency::LONGEST,
                "pattern": "^[!-~]+$",
                "description": "With the same key the same request is the same run, however often it is sent.",
            }),
        )
    }

    /// It needs no token.
    pub(crate) fn anyone(mut self) -> Self {
        self.anyone = true;
        self
    }

    /// It is routed by a path with fewer names in it.
    pub(crate) fn served_at(mut self, path: &'static str) -> Self {
        self.served_at = Some(path);
        self
    }

    /// The operation as OpenAPI has it.
    pub(super) fn operation(&self, path: &str, method: &Method, mut sketch: Sketch<'_>) -> Value {
        let tag = path
            .strip_prefix(auria_core::protocol::API)
            .unwrap_or("/published")
            .split('/')
            .nth(1)
            .unwrap_or_default();
        let mut parameters: Vec<Value> = names(path).map(in_path).collect();
        parameters.append(&mut sketch.parameters);
        parameters.extend(self.headers.iter().map(|(name, schema)| {
            let mut schema = schema.clone();
            let described = schema.as_object_mut();
            let described = described.and_then(|schema| schema.remove("description"));
            let required = schema.get("const").is_some();
            json!({"name": name, "in": "header", "required": required,
                "description": described.unwrap_or_default(), "schema": schema})
        }));
        let mut responses = Map::new();
        if self.answers.is_empty() || !sketch.content.is_empty() {
            let status = sketch.status.or(self.status).unwrap_or(200);
            let mut response = json!({"description": "Done."});
            if !sketch.content.is_empty() {
                response["content"] = Value::Object(std::mem::take(&mut sketch.content));
            }
            responses.insert(status.to_string(), response);
        }
        for (status, what, answered) in &self.answers {
            let mut response = json!({"description": what});
            if let Some((kind, schema)) = answered {
                let schema = schema(&mut sketch);
                let content = &mut responses.get_mut(&status.to_string());
                // Another form of an answer that was told already.
                if let Some(known) = content {
                    known["content"][*kind] = json!({"schema": schema});
                    continue;
                }
                response["content"] = json!({*kind: {"schema": schema}});
            }
            responses.insert(status.to_string(), response);
        }
        for class in ["4XX", "5XX"] {
            if method == Method::HEAD {
                let refused = json!({"description": "Refused; the same GET says why."});
                responses.insert(class.to_owned(), refused);
            } else {
                let refused = json!({"$ref": "#/components/responses/Refused"});
                responses.insert(class.to_owned(), refused);
            }
        }
        let mut operation = json!({
            "operationId": self.id, "summary": self.summary, "tags": [tag],
            "parameters": parameters, "responses": responses,
        });
        if let Some(body) = sketch.body {
            operation["requestBody"] = body;
        }
        if self.anyone {
            operation["security"] = json!([]);
        }
        operation
    }
}

/// The names in a path.
fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn in_path(name: &str) -> Value {
    let (what, schema) = match name {
        "run" => (
            "A run's name, a unique beginning of one, or `latest`.",
            json!({"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$", "minLength": 1, "maxLength": 50}),
        ),
        "step" => (
            "A step's path.",
            json!({"type": "string", "minLength": 1, "maxLength": 512}),
        ),
        "id" => (
            "A token's id.",
            json!({"type": "string", "pattern": "^[0-9a-f]{12}$"}),
        ),
        "collection" => (
            "A collection's id.",
            json!({"type": "string", "pattern": "^[0-9a-f]{16}$"}),
        ),
        "name" | "deployment" | "endpoint" => (
            "A name.",
            json!({"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]*$", "minLength": 1, "maxLength": 63}),
        ),
        _ => ("", json!({"type": "string", "minLength": 1})),
    };
    json!({"name": name, "in": "path", "required": true, "description": what, "schema": schema})
}
