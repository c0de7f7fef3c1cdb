//! Endpoints, and a form of what one takes, made from its pipeline's inputs.

use super::shell::{Room, pill, query, time, whole};
use crate::api::resources::Line;
use crate::endpoints::Endpoint;
use crate::submission::{InputFacts, InputKind};
use maud::{Markup, html};
use std::collections::BTreeMap;

pub(super) fn list(found: &[Endpoint]) -> Markup {
    whole(
        Room::Endpoints,
        "Endpoints",
        &html! {
            h1 { "Endpoints" }
            div class="card wide" {
                @if found.is_empty() {
                    p class="none" {
                        "There are none. " code { "auria-pipeline endpoint create NAME --from pipelines.yaml" } " publishes a pipeline."
                    }
                } @else {
                    table class="cards" {
                        thead { tr { th { "Endpoint" } th { "What for" } th { "Deployments" } th { "Made" } } }
                        tbody {
                            @for one in found {
                                tr {
                                    td class="name" { a href=(format!("/endpoints/{}", one.name)) { (one.name) } }
                                    td data-label="What for" { (one.description) }
                                    td data-label="Serves" { (deployments(one)) }
                                    td data-label="Made" { (time(one.created)) }
                                }
                            }
                        }
                    }
                }
            }
        },
    )
}

fn deployments(endpoint: &Endpoint) -> String {
    let all = endpoint.deployments.iter().map(|(name, version)| {
        let default = endpoint.default.as_ref() == Some(name) && endpoint.deployments.len() > 1;
        format!(
            "{name} (version {version}{})",
            if default { ", default" } else { "" }
        )
    });
    all.collect::<Vec<_>>().join(", ")
}

/// What a form shows: what the pipeline takes, or why that cannot be told.
pub(super) type Form = Result<Vec<InputFacts>, String>;

pub(super) fn page(
    endpoint: &Endpoint,
    form: &Form,
    given: &BTreeMap<String, String>,
    wrong: Option<&str>,
    may_invoke: bool,
    jobs: &[Line],
) -> Markup {
    let name = endpoint.name.as_str();
    whole(
        Room::Endpoints,
        name,
        &html! {
            p class="crumbs" { a href="/endpoints" { "Endpoints" } }
            h1 { (name) }
            @if !endpoint.description.is_empty() { p { (endpoint.description) } }
            div class="meta" { span { (deployments(endpoint)) } span { "Made " (time(endpoint.created)) } }
            @if let Some(why) = wrong { p class="alert" role="alert" { (why) } }
            @if may_invoke { h2 { "Invoke" } (ask(name, form, given)) }
            h2 { "Latest runs" }
            div class="card wide" {
                @if jobs.is_empty() { p class="none" { "Nobody has invoked it yet." } }
                @else {
                    table class="cards" {
                        thead { tr { th { "Run" } th { "Status" } th { "Submitted" } } }
                        tbody {
                            @for run in jobs {
                                tr {
                                    td class="name" { a href=(format!("/run/{}", run.run)) { (run.run) } }
                                    td data-label="Status" { (pill(run.status)) }
                                    td data-label="Submitted" { (time(run.created)) }
                                }
                            }
                        }
                    }
                }
            }
            @if !jobs.is_empty() { p { a href=(format!("/?{}", query(&[("experiment", name)]))) { "All of them" } } }
            h2 { "From a program" }
            div class="card" { pre tabindex="0" { (example(name, form)) } }
        },
    )
}

fn ask(name: &str, form: &Form, given: &BTreeMap<String, String>) -> Markup {
    html! {
        @match form {
            Err(why) => p class="alert" role="alert" { (why) },
            Ok(inputs) => {
                form class="ask card pad" method="post" action=(format!("/endpoints/{name}")) {
                    @for input in inputs { (field(input, given.get(&input.name))) }
                    @if inputs.is_empty() { p class="quiet" { "It takes nothing." } }
                    div { button class="first" { "Invoke" } }
                }
            }
        }
    }
}

fn field(input: &InputFacts, given: Option<&String>) -> Markup {
    let id = format!("input-{}", input.name);
    let name = format!("input.{}", input.name);
    let value = given.or(input.default.as_ref());
    let value = value.map_or("", String::as_str);
    let required = !input.optional && input.default.is_none();
    let limits: Vec<String> = [
        input.min.map(|min| format!("at least {min}")),
        input.max.map(|max| format!("at most {max}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    html! {
        div {
            label for=(id) { (input.name) @if input.optional { " (optional)" } }
            @if !input.choices.is_empty() {
                select id=(id) name=(name) required[required] {
                    @if !required && input.default.is_none() { option value="" { "" } }
                    @for choice in &input.choices { option value=(choice) selected[choice == value] { (choice) } }
                }
            } @else {
                @match input.kind {
                    InputKind::Boolean => {
                        select id=(id) name=(name) required[required] {
                            @for choice in ["true", "false"] { option value=(choice) selected[choice == value] { (choice) } }
                        }
                    }
                    InputKind::Integer => {
                        input id=(id) name=(name) type="number" step="1" min=[input.min] max=[input.max] value=(value) required[required];
                    }
                    InputKind::Number => {
                        input id=(id) name=(name) type="number" step="any" min=[input.min] max=[input.max] value=(value) required[required];
                    }
                    InputKind::Text => {
                        input id=(id) name=(name) value=(value) required[required && given.is_some()];
                    }
                    InputKind::Data => {
                        input id=(id) name=(name) value=(given.map_or("", String::as_str)) placeholder="https://…"
                            required[required] inputmode="url";
                    }
                }
            }
            @if !limits.is_empty() { p class="hint" { (limits.join(", ")) } }
            @if input.kind == InputKind::Data {
                p class="hint" {
                    "A file or folder" @if !required { "; left empty, that of the pipeline" }
                    @if let Some(default) = &input.default { " (" (default) ")" } "."
                }
            }
        }
    }
}

fn example(name: &str, form: &Form) -> String {
    let values: serde_json::Map<_, _> = form
        .iter()
        .flatten()
        .filter(|input| input.kind != InputKind::Data)
        .map(|input| {
            let value = serde_json::json!({"JobInputType": "Literal",
                "Value": input.default.clone().unwrap_or_default()});
            (input.name.clone(), value)
        })
        .collect();
    let body = serde_json::json!({"properties": {"InputData": values}});
    let body = serde_json::to_string_pretty(&body).unwrap_or_default();
    format!("POST /api/v1/endpoints/{name}/jobs?wait=30s\nAuthorization: Bearer …\n\n{body}")
}
