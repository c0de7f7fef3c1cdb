//! The pages themselves.

use crate::api::resources::Page;
use crate::report::RunReport;
use auria_core::Timestamp;
use maud::{DOCTYPE, Markup, html};

/// One style for all pages; light or dark as the reader's system is.
pub(super) const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8886}\
body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:0 auto;padding:1rem}\
a{color:LinkText}table{border-collapse:collapse;width:100%}\
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid var(--line)}\
.wide{overflow-x:auto}svg text{font-size:13px;fill:CanvasText}\
svg line{stroke:#888}svg rect{fill:Canvas;stroke:#888}\
.Completed rect,.Reused rect{stroke:#2a8a3e;stroke-width:2}.Failed rect{stroke:#c62f2f;stroke-width:3}\
.Running rect,.Preparing rect,.Finalizing rect{stroke:#2b6fc2;stroke-width:3}\
.Canceled rect,.Skipped rect{stroke-dasharray:4}\
input{font:inherit;padding:.3rem;width:30rem;max-width:90%}button{font:inherit;padding:.3rem 1rem}\
:focus-visible{outline:3px solid #2b6fc2}\n";

fn whole(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                link rel="stylesheet" href="/style.css";
            }
            body {
                header { nav { a href="/" { "Runs" } } }
                main { h1 { (title) } (body) }
            }
        }
    }
}

fn time(at: Option<Timestamp>) -> Markup {
    html! { @if let Some(at) = at { time datetime=(at) { (at) } } }
}

pub(super) fn login(wrong: bool) -> Markup {
    whole(
        "Sign in",
        &html! {
            @if wrong { p role="alert" { "This token is not known, has expired, or was revoked." } }
            form method="post" action="/login" {
                p {
                    label for="token" { "Token" } br;
                    input id="token" name="token" type="password" autocomplete="off" required;
                }
                button { "Sign in" }
            }
            p { "`auria-pipeline token create NAME --scope read` makes one." }
        },
    )
}

pub(super) fn refused(why: &str) -> Markup {
    whole("Not here", &html! { p role="alert" { (why) } })
}

pub(super) fn runs(found: &Page) -> Markup {
    whole(
        "Runs",
        &html! {
            form method="get" action="/" role="search" {
                label for="pipeline" { "Pipeline " }
                input id="pipeline" name="pipeline" required;
                button { "Filter" }
            }
            div class="wide" {
                table {
                    thead { tr { th { "Run" } th { "Pipeline" } th { "Status" } th { "Submitted" } th { "Ended" } } }
                    tbody {
                        @for run in &found.runs {
                            tr {
                                td { a href=(format!("/run/{}", run.run)) { (run.run) } }
                                td { (run.pipeline) }
                                td { (format!("{:?}", run.status)) }
                                td { (time(Some(run.created))) }
                                td { (time(run.ended)) }
                            }
                        }
                    }
                }
            }
            @if found.runs.is_empty() { p { "There are none." } }
            @if let Some(next) = &found.next { p { a href=(format!("/?after={next}")) { "Older" } } }
        },
    )
}

pub(super) fn run(report: &RunReport, graph: &Markup) -> Markup {
    whole(
        report.run.as_str(),
        &html! {
            p {
                strong { (format!("{:?}", report.status)) } " · " (report.pipeline) " · "
                (time(report.started)) " – " (time(report.ended)) " · "
                a href=(format!("/run/{}/logs", report.run)) { "All logs" }
            }
            @for problem in &report.problems { p role="alert" { (problem) } }
            h2 { "Graph" }
            div class="wide" { (graph) }
            h2 { "Steps" }
            div class="wide" {
                table {
                    thead { tr { th { "Step" } th { "Status" } th { "Attempts" } th { "Began" } th { "Ended" } th { "" } } }
                    tbody {
                        @for (path, step) in &report.steps {
                            tr {
                                td { a href=(format!("/run/{}/logs?step={path}", report.run)) { (path) } }
                                td { (format!("{:?}", step.status)) }
                                td { (step.attempts) }
                                td { (time(step.started)) }
                                td { (time(step.ended)) }
                                td { (step.message.as_deref().unwrap_or_default()) }
                            }
                        }
                    }
                }
            }
            h2 { "Inputs" }
            dl { @for (name, value) in &report.inputs { dt { (name) } dd { (value) } } }
            h2 { "Outputs" }
            dl { @for (name, made) in &report.outputs { dt { (name) } dd { (made.files) " files, " (made.bytes) " bytes" } } }
        },
    )
}
