//! Schedules: when each fires next, and what came of its last ticks.

use super::shell::{Room, time, whole};
use crate::schedules::{Concurrency, Missed, Shown, Trigger};
use maud::{Markup, html};

/// A trigger as a person says it.
fn when(trigger: &Trigger) -> String {
    format!("{}, {}", trigger.told(), trigger.zone_name())
}

fn state(shown: &Shown) -> Markup {
    html! {
        @if shown.schedule.enabled.is_some() {
            span class="pill Completed" { i aria-hidden="true" { "✓" } "Enabled" }
        } @else {
            span class="pill" { i aria-hidden="true" { "–" } "Disabled" }
        }
    }
}

pub(super) fn list(all: &[Shown]) -> Markup {
    whole(
        Room::Schedules,
        "Schedules",
        &html! {
            h1 { "Schedules" }
            div class="card wide" {
                @if all.is_empty() {
                    p class="none" {
                        "There are none. " code { "auria-pipeline schedule create daily --cron '0 6 * * *' --from pipelines.yaml" } " makes one."
                    }
                } @else {
                    table class="cards" {
                        thead { tr { th { "Schedule" } th { "State" } th { "When" } th { "Next" } th { "Last" } } }
                        tbody {
                            @for one in all {
                                tr {
                                    td class="name" { a href=(format!("/schedules/{}", one.schedule.name)) { (one.schedule.name) } }
                                    td data-label="State" { (state(one)) }
                                    td data-label="When" { (when(&one.schedule.definition.trigger)) }
                                    td data-label="Next" {
                                        @if one.schedule.enabled.is_some() { @if let Some(next) = one.next.first() { (time(*next)) } }
                                    }
                                    td data-label="Last" { @if let Some(last) = one.ticks.first() { (time(last.due)) } }
                                }
                            }
                        }
                    }
                }
            }
        },
    )
}

pub(super) fn page(shown: &Shown, may_change: bool) -> Markup {
    let schedule = &shown.schedule;
    let definition = &schedule.definition;
    let on = schedule.enabled.is_some();
    let act = |what: &str| format!("/schedules/{}/{what}", schedule.name);
    whole(
        Room::Schedules,
        &schedule.name,
        &html! {
            p class="crumbs" { a href="/schedules" { "Schedules" } }
            h1 { (schedule.name) }
            @if !definition.description.is_empty() { p { (definition.description) } }
            div class="meta" {
                (state(shown))
                span { (when(&definition.trigger)) }
                span { "By " (schedule.by) }
            }
            @if may_change {
                div class="acts" {
                    form method="post" action=(act("trigger")) { button class="first" { "Run now" } }
                    @if on { form method="post" action=(act("disable")) { button { "Disable" } } }
                    @else { form method="post" action=(act("enable")) { button { "Enable" } } }
                }
            }
            h2 { @if on { "Next ticks" } @else { "Next ticks, if it were enabled" } }
            div class="card pad" {
                @if shown.next.is_empty() { p class="quiet" { "None: its end has come." } }
                ol { @for next in &shown.next { li { (time(*next)) } } }
            }
            h2 { "Last ticks" }
            div class="card wide" {
                @if shown.ticks.is_empty() { p class="none" { "It has not fired yet." } }
                @else {
                    table class="cards" {
                        thead { tr { th { "Due" } th { "Run" } th { "" } } }
                        tbody {
                            @for tick in &shown.ticks {
                                tr {
                                    td data-label="Due" { (time(tick.due)) }
                                    td data-label="Run" { @if let Some(run) = &tick.run { a href=(format!("/run/{run}")) { (run) } } }
                                    td class="say" data-label="Skipped" { (tick.skipped.as_deref().unwrap_or_default()) }
                                }
                            }
                        }
                    }
                }
            }
            h2 { "What it does" }
            div class="card pad" {
                dl class="facts" {
                    @if let Some(pipeline) = &definition.pipeline { dt { "Pipeline" } dd { (pipeline) } }
                    @if let Some(file) = &definition.file { dt { "File" } dd { (file) } }
                    @for set in &definition.set { dt { "Set" } dd class="mono" { (set) } }
                    dt { "Missed ticks" }
                    dd {
                        (match definition.missed { Missed::All => "all are fired", Missed::Last => "the last is fired", Missed::None => "none is fired" })
                    }
                    dt { "While an earlier run goes on" }
                    dd {
                        (match definition.concurrency {
                            Concurrency::Allow => "both run", Concurrency::Forbid => "the tick is skipped",
                            Concurrency::Replace => "the earlier run is canceled",
                        })
                    }
                }
            }
            @if let Some(document) = &definition.document { div class="card" { pre tabindex="0" { (document) } } }
        },
    )
}
