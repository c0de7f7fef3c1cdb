//! A run: its graph, its steps, where its time went, what it took and made, what it measured.

use super::files::{self, Budget};
use super::graph::{self, Told};
use super::shell::{Room, between, framed, maybe, pill, query, time, took};
use super::{plots, timeline};
use crate::api::{Api, outputs};
use crate::problem::Refusal;
use crate::report::{RunReport, StepReport};
use auria_core::outcome::Status;
use auria_core::run::RunState;
use auria_store::runs::RunJson;
use maud::{Markup, html};
use std::collections::BTreeMap;

/// Steps in the table.
const STEPS: usize = 1000;
/// Of more than these, those are told first that want to be looked at.
const FEW: usize = 40;

/// How a step stands, in a few letters.
fn note(step: &StepReport) -> String {
    if step.reused_from.is_some() {
        return String::new();
    }
    match (step.started, step.ended) {
        (Some(from), Some(to)) => took(to.millis_since(from)),
        _ => String::new(),
    }
}

/// What may be done to it, for whom it may.
fn acts(report: &RunReport) -> Markup {
    let run = &report.run;
    html! {
        div class="acts" {
            @if report.ended.is_none() {
                form method="post" action=(format!("/run/{run}/cancel")) { button { "Cancel" } }
            } @else {
                form method="post" action=(format!("/run/{run}/retry")) {
                    button { @if report.status == Status::Completed { "Run again" } @else { "Retry" } }
                }
            }
        }
    }
}

/// The page.
pub(super) async fn page(api: &Api, run: &RunJson, may_change: bool) -> Result<Markup, Refusal> {
    let state = api.look(run).await?;
    let report = api.report(run).await?;
    let metrics = outputs::measured(api, run, &state).await?;
    let made = made(api, run, &state).await?;
    let told: BTreeMap<String, Told> = report
        .steps
        .iter()
        .map(|(path, step)| {
            let told = Told {
                status: step.status,
                note: note(step),
            };
            (path.clone(), told)
        })
        .collect();
    let name = report.run.as_str();
    let events = format!("/run/{name}/events");
    let events = report.ended.is_none().then_some(events.as_str());
    let title = run.plan.display_name.as_deref().unwrap_or(&report.pipeline);
    let body = html! {
        p class="crumbs" { a href="/" { "Runs" } " / " span class="mono" { (name) } }
        h1 { (title) }
        div id="about" data-live role="status" {
            div class="meta" {
                (pill(report.status))
                @if report.experiment != report.pipeline { span { "Experiment " (report.experiment) } }
                span { "Submitted " (time(report.created)) }
                @if report.ended.is_some() { span { "Took " (between(report.started, report.ended)) } }
                @let place = api.taken(&report.run).queue;
                @if let Some(place) = place { span { (place.ahead) " before it in the queue" } }
            }
            @for problem in &report.problems { p class="alert" role="alert" { (problem) } }
            @for (path, step) in report.steps.iter().filter(|(_, step)| step.status == Status::Failed).take(3) {
                div class="alert" role="alert" {
                    a href=(step_href(name, path)) { (path) } ": "
                    (step.message.as_deref().unwrap_or("failed"))
                    @if !step.last_lines.is_empty() { "\n" (step.last_lines.join("\n")) }
                }
            }
            @if may_change { (acts(&report)) }
        }
        h2 { "Graph" }
        div class="card wide graph" tabindex="0" role="region" aria-label="Graph of the run" {
            div id="graph" data-live { (graph::of(name, &run.plan, &told)) }
        }
        h2 { "Steps" }
        div class="card wide" id="steps" data-live { (steps(&report)) }
        p { a href=(format!("/run/{name}/logs")) { "All logs" } }
        div id="time" data-live {
            h2 { "Time" }
            div class="card pad time" { (timeline::bars(&report, api.now())) }
            @if let Some(ledger) = timeline::ledger(&run.plan, &report) { (ledger) }
        }
        @if let Some(plots) = plots::of(&metrics) {
            h2 { "Metrics" }
            (plots)
        }
        @if !report.inputs.is_empty() {
            h2 { "Inputs" }
            div class="card pad" {
                dl class="facts" {
                    @for (name, value) in &report.inputs { dt { (name) } dd { (shown(value)) } }
                }
            }
        }
        div id="outputs" data-live { (made) }
    };
    Ok(framed(Room::Runs, title, events, &body))
}

/// A value as a person writes it.
fn shown(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) if text.is_empty() => "“”".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn step_href(run: &str, step: &str) -> String {
    format!("/run/{run}/step?{}", query(&[("step", step)]))
}

fn steps(report: &RunReport) -> Markup {
    let all: Vec<&(String, StepReport)> = report.steps.iter().take(STEPS).collect();
    if all.len() <= FEW {
        return table(report.run.as_str(), &all, "s");
    }
    let told = |status: Status| {
        !matches!(
            status,
            Status::Completed | Status::Reused | Status::NotStarted | Status::Queued
        )
    };
    let first = all.iter().filter(|(_, step)| told(step.status));
    let first: Vec<_> = first.copied().take(FEW).collect();
    html! {
        @if !first.is_empty() { (table(report.run.as_str(), &first, "f")) }
        details {
            summary { "All " (report.steps.len()) " steps" }
            (table(report.run.as_str(), &all, "s"))
            @if report.steps.len() > STEPS { p class="quiet pad" { "The first " (STEPS) " of them." } }
        }
    }
}

fn table(run: &str, steps: &[&(String, StepReport)], id: &str) -> Markup {
    html! {
        table class="cards" {
            thead {
                tr {
                    th { "Step" } th { "Status" } th class="n" { "Attempts" } th { "Began" } th class="n" { "Took" }
                    th { "" }
                }
            }
            tbody {
                @for (path, step) in steps {
                    tr {
                        td class="name" { a id=(format!("{id}-{path}")) href=(step_href(run, path)) { (path) } }
                        td data-label="Status" { (pill(step.status)) }
                        td class="n" data-label="Attempts" { @if step.attempts > 0 { (step.attempts) } }
                        td data-label="Began" { (maybe(step.started)) }
                        td class="n" data-label="Took" { (note(step)) }
                        td class="say" data-label="Says" {
                            @if let Some(source) = &step.reused_from {
                                "from " a href=(step_href(source.run.as_str(), &source.step.display())) { (source.run) }
                            } @else {
                                (step.message.as_deref().unwrap_or_default())
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The pipeline's own outputs, with what is in them.
async fn made(api: &Api, run: &RunJson, state: &RunState) -> Result<Markup, Refusal> {
    let mut budget = Budget::default();
    let mut shown = Vec::new();
    for (name, output) in &run.plan.outputs {
        let outcome = state.step(&output.step).and_then(|view| view.outcome);
        let Some(made) = outcome.and_then(|outcome| outcome.outputs.get(&output.output)) else {
            continue;
        };
        let step = output.step.display();
        let from = (step.as_str(), output.output.as_str());
        let files = files::preview(api, run.run.as_str(), from, made, &mut budget).await?;
        shown.push(html! { h3 { (name) } (files) });
    }
    Ok(html! { @if !shown.is_empty() { h2 { "Outputs" } @for one in shown { (one) } } })
}

/// The page of a run's log, or of a step's.
pub(super) fn log(run: &str, step: Option<&str>) -> Markup {
    let query = query(&[("step", step.unwrap_or_default())]);
    let text = format!("/run/{run}/logs/text?{query}");
    let title = step.map_or_else(|| "All logs".to_owned(), |step| format!("Log of {step}"));
    framed(
        Room::Runs,
        &title,
        None,
        &html! {
            p class="crumbs" {
                a href="/" { "Runs" } " / " a class="mono" href=(format!("/run/{run}")) { (run) }
            }
            h1 { (title) }
            p class="quiet" {
                span id="log-state" role="status" {} " "
                a href=(text) { "As plain text" }
            }
            pre class="log card" data-log=(text) tabindex="0" role="log" aria-label=(title) {}
        },
    )
}
