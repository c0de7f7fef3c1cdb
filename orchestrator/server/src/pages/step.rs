//! A step of a run: its attempts, where its time went, what it took and made.

use super::files::{self, Budget};
use super::shell::{Room, between, framed, maybe, pill, query, took};
use crate::api::Api;
use crate::problem::Refusal;
use auria_core::outcome::{EndRecord, Timings};
use auria_core::plan::{Environment, PlannedInput, PlannedStep, TemplatePart};
use auria_core::{StepPath, Timestamp};
use auria_store::Journal;
use auria_store::runs::RunJson;
use maud::{Markup, html};

/// What is known of one attempt.
struct Attempt {
    number: u32,
    host: String,
    claimed: Option<Timestamp>,
    end: Option<EndRecord>,
}

fn attempts(found: &auria_core::run::Recovered, step: &StepPath) -> Vec<Attempt> {
    let mut all: Vec<Attempt> = Vec::new();
    for claim in found
        .claims
        .iter()
        .filter(|claim| claim.attempt.step == *step)
    {
        all.push(Attempt {
            number: claim.attempt.number,
            host: claim.host.clone(),
            claimed: Some(claim.claimed),
            end: None,
        });
    }
    for end in found.ends.iter().filter(|end| end.attempt.step == *step) {
        match all.iter_mut().find(|one| one.number == end.attempt.number) {
            Some(attempt) => attempt.end = Some(end.clone()),
            None => all.push(Attempt {
                number: end.attempt.number,
                host: end.node.clone().unwrap_or_default(),
                claimed: None,
                end: Some(end.clone()),
            }),
        }
    }
    all.sort_by_key(|attempt| attempt.number);
    all
}

/// The page.
pub(super) async fn page(api: &Api, run: &RunJson, path: &StepPath) -> Result<Markup, Refusal> {
    let journal = Journal::new(api.store().clone(), run.run.clone());
    let found = journal.recover().await;
    let attempts = attempts(&found.map_err(|error| Refusal::of(&error))?, path);
    let state = api.look(run).await?;
    let report = api.report(run).await?;
    let shown = path.display();
    let step = report.steps.iter().find(|(name, _)| *name == shown);
    let (Some((_, step)), Some(view)) = (step, state.step(path)) else {
        let why = format!("run {} has no step {shown}", run.run);
        return Err(Refusal::new(http::StatusCode::NOT_FOUND, why));
    };
    let mut budget = Budget::default();
    let mut made = Vec::new();
    for (name, artifact) in view.outcome.iter().flat_map(|outcome| &outcome.outputs) {
        let from = (shown.as_str(), name.as_str());
        let files = files::preview(api, run.run.as_str(), from, artifact, &mut budget).await?;
        made.push(html! { h3 { (name) } (files) });
    }
    let name = run.run.as_str();
    let events = format!("/run/{name}/events");
    let events = report.ended.is_none().then_some(events.as_str());
    let title = view.step.display_name.as_deref().unwrap_or(&shown);
    let body = html! {
        p class="crumbs" {
            a href="/" { "Runs" } " / " a class="mono" href=(format!("/run/{name}")) { (name) }
        }
        h1 { (title) }
        div id="about" data-live role="status" {
            div class="meta" {
                (pill(step.status))
                @if title != shown { span class="mono" { (shown) } }
                @if let Some(node) = &step.node { span { "on " (node) } }
                @if step.started.is_some() { span { "Began " (maybe(step.started)) } }
                @if step.ended.is_some() && step.reused_from.is_none() {
                    span { "Took " (between(step.started, step.ended)) }
                }
                @if let Some(code) = step.exit_code { @if code != 0 { span { "Exit status " (code) } } }
            }
            @if let Some(source) = &step.reused_from {
                p {
                    "Its outputs are those of "
                    a href=(format!("/run/{}/step?{}", source.run, query(&[("step", &source.step.display())]))) {
                        (source.step.display()) " in " (source.run)
                    } "."
                }
            }
            @if let Some(message) = &step.message { p class=(if step.cause.is_some() { "alert" } else { "quiet" }) { (message) } }
            @if !step.last_lines.is_empty() { pre class="card" { (step.last_lines.join("\n")) } }
        }
        p { a href=(format!("/run/{name}/logs?{}", query(&[("step", &shown)]))) { "Log" } }
        div id="attempts" data-live { (told(&attempts, &step.timings)) }
        (definition(run, view.step))
        div id="outputs" data-live { @if !made.is_empty() { h2 { "Outputs" } @for one in made { (one) } } }
    };
    Ok(framed(Room::Runs, title, events, &body))
}

fn told(attempts: &[Attempt], timings: &Timings) -> Markup {
    html! {
        @if !attempts.is_empty() {
            h2 { "Attempts" }
            div class="card wide" {
                table class="cards" {
                    thead { tr { th class="n" { "Attempt" } th { "Began" } th class="n" { "Took" } th { "Where" } th { "How it ended" } } }
                    tbody {
                        @for attempt in attempts {
                            tr {
                                td class="n" data-label="Attempt" { (attempt.number) }
                                td data-label="Began" { (maybe(attempt.claimed)) }
                                td class="n" data-label="Took" { (between(attempt.claimed, attempt.end.as_ref().map(|end| end.ended))) }
                                td data-label="Where" { (attempt.host) }
                                td class="say" data-label="Ended" { @if let Some(end) = &attempt.end { (end.message) } }
                            }
                        }
                    }
                }
            }
        }
        @let parts = [
            ("Waiting for room", timings.queued_ms), ("Scheduling", timings.scheduled_ms),
            ("Pulling the image", timings.pulled_ms), ("Fetching inputs", timings.fetched_ms),
            ("The command", timings.ran_ms), ("Publishing outputs", timings.published_ms),
        ];
        @if parts.iter().any(|(_, part)| part.is_some()) {
            h2 { "Time" }
            div class="card pad" {
                dl class="facts" {
                    @for (what, part) in parts { @if let Some(part) = part { dt { (what) } dd { (took(part)) } } }
                }
            }
        }
    }
}

/// A command as its author wrote it.
fn command(parts: &[TemplatePart]) -> String {
    parts
        .iter()
        .map(|part| match part {
            TemplatePart::Text(text) => text.clone(),
            TemplatePart::Input(name) => format!("${{{{inputs.{name}}}}}"),
            TemplatePart::Output(name) => format!("${{{{outputs.{name}}}}}"),
            TemplatePart::Optional(parts) => format!("$[[{}]]", command(parts)),
        })
        .collect()
}

fn definition(run: &RunJson, step: &PlannedStep) -> Markup {
    let name = run.run.as_str();
    html! {
        h2 { "What it does" }
        div class="card" { pre tabindex="0" { (command(&step.command.0)) } }
        @let image = match &step.environment {
            Environment::Image { image, .. } => Some(image),
            Environment::Process(_) => None,
        };
        @if let Some(image) = image { p class="quiet" { "In the image " span class="mono" { (image) } "." } }
        @if !step.inputs.is_empty() {
            h2 { "Inputs" }
            div class="card pad" {
                dl class="facts" {
                    @for (input, value) in &step.inputs {
                        dt { (input) }
                        dd {
                            @match value {
                                PlannedInput::Step { step, output, .. } => {
                                    a href=(format!("/run/{name}/step?{}", query(&[("step", &step.display())]))) {
                                        (output) " of " (step.display())
                                    }
                                },
                                PlannedInput::Literal { value } => (value),
                                PlannedInput::Snapshot { digest, .. } => span class="mono" { (digest) },
                                PlannedInput::External { uri, .. } => (uri),
                                PlannedInput::Absent => {}
                            }
                        }
                    }
                }
            }
        }
    }
}
