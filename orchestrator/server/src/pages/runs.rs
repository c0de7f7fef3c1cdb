//! The list of runs.

use super::shell::{OF_RUNS, Room, between, pill, query, time, whole, word};
use crate::api::resources::{ListQuery, Page};
use maud::{Markup, html};

pub(super) fn list(found: &Page, asked: &ListQuery) -> Markup {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let status = asked.status.map(|status| format!("{status:?}"));
    let (pipeline, experiment) = (text(&asked.pipeline), text(&asked.experiment));
    let status = status.unwrap_or_default();
    let filtered = !(pipeline.is_empty() && experiment.is_empty() && status.is_empty());
    let page = |after: &str| {
        let query = query(&[
            ("pipeline", &pipeline),
            ("experiment", &experiment),
            ("status", &status),
            ("after", after),
        ]);
        format!("/?{query}")
    };
    whole(
        Room::Runs,
        "Runs",
        &html! {
            h1 { "Runs" }
            form class="filter" method="get" action="/" role="search" {
                div { label for="pipeline" { "Pipeline" } input id="pipeline" name="pipeline" value=(pipeline); }
                div { label for="experiment" { "Experiment" } input id="experiment" name="experiment" value=(experiment); }
                div {
                    label for="status" { "Status" }
                    select id="status" name="status" {
                        option value="" { "Any" }
                        @for one in OF_RUNS {
                            @let value = format!("{one:?}");
                            option value=(value) selected[value == status] { (word(one)) }
                        }
                    }
                }
                button { "Filter" }
                @if filtered { a href="/" { "Show all" } }
            }
            div class="card wide" {
                @if found.runs.is_empty() {
                    p class="none" {
                        @if filtered { "No run is like that." }
                        @else { "There are no runs yet. " code { "auria-pipeline --server URL submit" } " makes one." }
                    }
                } @else {
                    table class="cards" {
                        thead {
                            tr {
                                th { "Run" } th { "Status" } th { "Pipeline" } th { "Experiment" } th { "Submitted" }
                                th class="n" { "Took" }
                            }
                        }
                        tbody {
                            @for run in &found.runs {
                                tr {
                                    td class="name" { a href=(format!("/run/{}", run.run)) { (run.run) } }
                                    td data-label="Status" { (pill(run.status)) }
                                    td data-label="Pipeline" { (run.pipeline) }
                                    td data-label="Experiment" { (run.experiment) }
                                    td data-label="Submitted" { (time(run.created)) }
                                    td class="n" data-label="Took" { (between(run.started, run.ended)) }
                                }
                            }
                        }
                    }
                }
            }
            @if let Some(next) = &found.next {
                p { a rel="next" href=(page(next)) { "Older runs" } }
            }
        },
    )
}
