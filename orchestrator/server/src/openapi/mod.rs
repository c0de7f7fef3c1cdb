//! The description of the API, in OpenAPI 3.1, made of what answers it: routes are added to a
//! [`Routes`] with a handler, and what the handler takes and gives is told by its own
//! signature. There is no other way for a route into the API, so that none goes without its
//! description. It answers nothing itself but the document.

mod about;
mod parts;

pub(crate) use about::About;
use parts::Describes;

use auria_core::protocol::{API, PROBLEM_TYPE, Problem};
use axum::Router;
use axum::extract::State;
use axum::handler::Handler;
use axum::response::{IntoResponse, Response};
use axum::routing::{self, MethodRouter};
use bytes::Bytes;
use http::{HeaderValue, Method, header};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// Where the document is, below the API's base.
pub(crate) const DOCUMENT: &str = "/openapi.json";

/// Routes, and what they do in words and schemas.
pub struct Routes<S = ()> {
    router: Router<S>,
    described: Vec<Described>,
}

/// One operation.
struct Described {
    method: Method,
    path: String,
    about: About,
    describe: fn(&mut Sketch<'_>),
}

/// An operation that is being described.
pub(crate) struct Sketch<'a> {
    /// Of what callers send: each schema stands where it is used.
    pub(crate) sent: &'a mut SchemaGenerator,
    /// Of what they get: schemas have names.
    pub(crate) got: &'a mut SchemaGenerator,
    pub(crate) parameters: Vec<Value>,
    pub(crate) body: Option<Value>,
    /// What the handler's result says of its answer where all is well: the status that it
    /// always has, where it has one, and the content by its media type.
    pub(crate) status: Option<u16>,
    pub(crate) content: Map<String, Value>,
}

impl<S> std::fmt::Debug for Routes<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Routes({})", self.described.len())
    }
}

impl<S: Clone + Send + Sync + 'static> Default for Routes<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self {
            router: Router::new(),
            described: Vec::new(),
        }
    }

    fn on<H, T>(
        mut self,
        (method, routed): (Method, MethodRouter<S>),
        path: &str,
        _: &H,
        about: About,
    ) -> Self
    where
        H: Describes<T>,
    {
        let routed_at = about.served_at.unwrap_or(path);
        self.router = self.router.route(routed_at, routed);
        self.described.push(Described {
            method,
            path: path.to_owned(),
            about,
            describe: H::describe,
        });
        self
    }

    /// These, and others.
    #[must_use]
    pub fn merge(mut self, others: Self) -> Self {
        self.router = self.router.merge(others.router);
        self.described.extend(others.described);
        self
    }

    /// These below a base.
    #[must_use]
    pub(crate) fn below(self, base: &str) -> Self {
        let below = |mut one: Described| {
            one.path = format!("{base}{}", one.path);
            one
        };
        Self {
            router: Router::new().nest(base, self.router),
            described: self.described.into_iter().map(below).collect(),
        }
    }

    /// These, answered by what `change` makes of their router. It must answer the same paths.
    #[must_use]
    pub(crate) fn map(self, change: impl FnOnce(Router<S>) -> Router<S>) -> Self {
        Self {
            router: change(self.router),
            described: self.described,
        }
    }

    /// These, with their state.
    #[must_use]
    pub(crate) fn with_state<T>(self, state: S) -> Routes<T> {
        Routes {
            router: self.router.with_state(state),
            described: self.described,
        }
    }

    /// What answers them, for who describes nothing.
    pub(crate) fn into_router(self) -> Router<S> {
        self.router
    }
}

macro_rules! methods {
    ($($name:ident, $method:ident;)*) => {
        impl<S: Clone + Send + Sync + 'static> Routes<S> {
            $(
                /// Answers a method at a path.
                #[must_use]
                pub(crate) fn $name<H, T>(self, path: &str, handler: H, about: About) -> Self
                where
                    H: Handler<T, S> + Describes<T>,
                    T: 'static,
                {
                    let routed = (Method::$method, routing::$name(handler.clone()));
                    self.on(routed, path, &handler, about)
                }
            )*
        }
    };
}

methods! {
    delete, DELETE;
    get, GET;
    head, HEAD;
    patch, PATCH;
    post, POST;
    put, PUT;
}

/// The document, once all routes are known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Document(Arc<OnceLock<Bytes>>);

impl Document {
    /// The route that answers it.
    pub(crate) fn routes(&self) -> Routes {
        described().with_state(self.clone())
    }

    /// It is that of `routes`; what answers them.
    pub(crate) fn of(&self, routes: Routes) -> Router {
        let text = serde_json::to_vec_pretty(&document(&routes.described));
        // A map with text keys: that cannot fail. It is set once, by who made it.
        let _ = self.0.set(text.unwrap_or_default().into());
        routes.router
    }
}

fn described() -> Routes<Document> {
    let about = About::new("openapi", "This document").anyone();
    Routes::new().get(DOCUMENT, told, about)
}

async fn told(State(Document(text)): State<Document>) -> Told {
    Told(text.get().cloned().unwrap_or_default())
}

/// The description of all that `serve` answers to programs.
#[must_use]
pub fn openapi() -> Value {
    let mut all = described().described;
    all.extend(crate::api::described().described);
    all.extend(crate::objects::described().described);
    all.extend(crate::access::described().described);
    all.extend(crate::endpoints::described().described);
    all.extend(crate::schedules::described().described);
    for one in &mut all {
        one.path = format!("{API}{}", one.path);
    }
    all.extend(crate::endpoints::published().described);
    document(&all)
}

/// The document as an answer.
pub(crate) struct Told(Bytes);

impl IntoResponse for Told {
    fn into_response(self) -> Response {
        let mut response = self.0.into_response();
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}

fn document(described: &[Described]) -> Value {
    let base = || SchemaSettings::draft2020_12().with(|settings| settings.meta_schema = None);
    let mut sent = base()
        .for_deserialize()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator();
    let mut got = base()
        .for_serialize()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    let problem = got.subschema_for::<Problem>();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for one in described {
        let mut sketch = Sketch {
            sent: &mut sent,
            got: &mut got,
            parameters: Vec::new(),
            body: None,
            status: None,
            content: Map::new(),
        };
        (one.describe)(&mut sketch);
        let operation = one.about.operation(&one.path, &one.method, sketch);
        let methods = paths.entry(&one.path).or_default();
        methods.insert(one.method.as_str().to_ascii_lowercase(), operation);
    }
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "auria-pipeline",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Runs of pipelines, endpoints and schedules.",
            "description": "docs/serve.md says how to serve it and who may do what. Errors are problem \
                documents (RFC 9457).",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {
                "type": "http", "scheme": "bearer",
                "description": "A token of `auria-pipeline token create`.",
            }},
            "responses": {"Refused": {
                "description": "Refused, and why.",
                "content": {PROBLEM_TYPE: {"schema": problem}},
            }},
            "schemas": got.take_definitions(true),
        },
    })
}
