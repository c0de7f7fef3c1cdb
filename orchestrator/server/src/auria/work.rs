//! A work, as far as visitors see it: its poem and its pictures, as soon as they are there. Only
//! works of visitors and of the gallery are anybody's to see.

use super::studio::VISITORS;
use crate::api::Api;
use crate::api::resources::ListQuery;
use crate::caller::Bounded;
use crate::pages::files;
use crate::problem::Refusal;
use auria_core::outcome::{Artifact, Status};
use auria_core::run::RunChange;
use auria_core::{RunId, Timestamp};
use auria_store::served;
use futures::StreamExt;
use http::StatusCode;
use serde::Serialize;

/// Bytes of a poem that are read.
const POEM: u64 = 4096;
/// Lines of a poem that are shown.
const LINES: usize = 12;
/// Works that are remembered.
const REMEMBERED: usize = 1024;

/// Nothing to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// There is no such work, or it is not for visitors.
    Unknown,
    /// The store does not answer.
    Away,
}

impl Missing {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Unknown => StatusCode::NOT_FOUND,
            Self::Away => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl From<Refusal> for Missing {
    fn from(refusal: Refusal) -> Self {
        if refusal.status().is_server_error() {
            Self::Away
        } else {
            Self::Unknown
        }
    }
}

/// How far a work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    Waiting,
    Writing,
    Painting,
    Colouring,
    Done,
    Failed,
}

/// What is seen of a work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Seen {
    pub(super) stage: Stage,
    /// Works before it, where it waits.
    pub(super) ahead: usize,
    pub(super) poem: Vec<String>,
    pub(super) mood: String,
    pub(super) word: String,
    pub(super) made: Option<Timestamp>,
}

impl Seen {
    pub(super) fn waiting(ahead: usize) -> Self {
        Self {
            stage: Stage::Waiting,
            ahead,
            poem: Vec::new(),
            mood: String::new(),
            word: String::new(),
            made: None,
        }
    }

    /// Whether nothing more comes.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Done | Stage::Failed)
    }
}

/// A picture of a work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// What the network saw.
    Sketch,
    /// As it was painted.
    Painting,
    /// In its colours.
    Picture,
}

/// How large a picture is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Size {
    /// Of the gallery.
    Small,
    /// Of the page.
    Shown,
    /// As it was made.
    Whole,
}

impl Part {
    /// What the last part of an address names.
    pub(super) fn of(name: &str) -> Option<(Self, Size)> {
        Some(match name {
            "sketch.png" => (Self::Sketch, Size::Whole),
            "painting.jpg" => (Self::Painting, Size::Shown),
            "picture.jpg" => (Self::Picture, Size::Shown),
            "picture-small.jpg" => (Self::Picture, Size::Small),
            "picture.png" => (Self::Picture, Size::Whole),
            _ => return None,
        })
    }

    fn output(self) -> &'static str {
        match self {
            Self::Sketch | Self::Painting => "painting",
            Self::Picture => "picture",
        }
    }

    /// The file in that output.
    pub(super) fn file(self) -> &'static str {
        match self {
            Self::Sketch => "generated.png",
            Self::Painting => "painting.png",
            Self::Picture => "coloured.png",
        }
    }
}

/// A work of the gallery.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) run: RunId,
    pub(super) seen: Seen,
}

/// The works of a server.
pub(super) struct Works {
    api: Api,
    endpoint: String,
    experiment: String,
    /// What does not change any more.
    known: Bounded<RunId, Seen>,
}

impl Works {
    pub(super) fn new(api: Api, endpoint: &str, experiment: &str) -> Self {
        Self {
            api,
            endpoint: endpoint.to_owned(),
            experiment: experiment.to_owned(),
            known: Bounded::new(REMEMBERED),
        }
    }

    /// The run of a work that visitors may see.
    async fn run(&self, text: &str) -> Result<auria_store::runs::RunJson, Missing> {
        // In full: nobody finds works by a beginning of their names.
        let name: RunId = text.parse().map_err(|_| Missing::Unknown)?;
        let run = auria_store::runs::read(self.api.store(), &name).await;
        let run = run.map_err(|error| Missing::from(Refusal::of(&error)))?;
        if run.plan.experiment == self.experiment {
            return Ok(run);
        }
        // Jobs of those who have tokens are not for visitors.
        let job = served::job(&self.endpoint, &name);
        match self.api.store().read_json::<serde_json::Value>(&job).await {
            Ok(Some(job)) if job["by"] == VISITORS => Ok(run),
            Ok(_) => Err(Missing::Unknown),
            Err(_) => Err(Missing::Away),
        }
    }

    /// A work as it stands.
    pub(super) async fn seen(&self, text: &str) -> Result<Seen, Missing> {
        if let Some(known) = text.parse().ok().and_then(|run| self.known.get(&run)) {
            return Ok(known);
        }
        let run = self.run(text).await?;
        let state = self.api.look(&run).await?;
        let view = state.view();
        let made = |output: &str| {
            let planned = run.plan.outputs.get(output)?;
            let outcome = state.step(&planned.step)?.outcome?;
            outcome.outputs.get(&planned.output)
        };
        let poem = match made("poem") {
            Some(made) => self.poem(made).await?,
            None => Vec::new(),
        };
        let ended = view.end.is_some();
        let stage = match (made("painting"), made("picture")) {
            (_, Some(_)) => Stage::Done,
            _ if ended || view.status == Status::Failed => Stage::Failed,
            (Some(_), None) => Stage::Colouring,
            (None, None) if poem.is_empty() => Stage::Writing,
            (None, None) => Stage::Painting,
        };
        let given = |name: &str| match run.plan.inputs.get(name) {
            Some(serde_json::Value::String(text)) => text.clone(),
            _ => String::new(),
        };
        let seen = Seen {
            stage,
            ahead: 0,
            poem,
            mood: given("mood"),
            word: given("topic"),
            made: Some(run.created),
        };
        if ended {
            self.known.put(run.run, seen.clone());
        }
        Ok(seen)
    }

    async fn poem(&self, made: &Artifact) -> Result<Vec<String>, Missing> {
        let files = files::list(&self.api, made).await?;
        let Some(file) = files.iter().find(|file| file.path == "poem.txt") else {
            return Ok(Vec::new());
        };
        let bytes = files::beginning(&self.api, file, POEM).await?;
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        Ok(lines.take(LINES).map(str::to_owned).collect())
    }

    /// Waits until something changes in a run that is driven from here.
    pub(super) fn change(&self, text: &str) -> impl Future<Output = ()> + Send + use<> {
        let feed = text.parse().ok().and_then(|run| self.api.feed(&run));
        async move {
            let Some(feed) = feed else {
                return std::future::pending().await;
            };
            let mut changes = std::pin::pin!(feed.follow());
            drop(feed);
            // First everything is told as it stands, which was looked at already.
            let mut first = true;
            while let Some(change) = changes.next().await {
                let news = match &change {
                    RunChange::Step(row) => row.status.is_terminal(),
                    RunChange::End { .. } => return,
                    RunChange::Run { .. } | RunChange::Line { .. } => false,
                };
                if news && !std::mem::take(&mut first) {
                    return;
                }
            }
        }
    }

    /// What a work's part is in the store.
    pub(super) async fn made(&self, text: &str, part: Part) -> Result<Artifact, Missing> {
        let run = self.run(text).await?;
        let state = self.api.look(&run).await?;
        let planned = run.plan.outputs.get(part.output());
        let made = planned.and_then(|planned| {
            let outcome = state.step(&planned.step)?.outcome?;
            outcome.outputs.get(&planned.output).cloned()
        });
        made.ok_or(Missing::Unknown)
    }

    /// Works of the gallery, newest first, and where the next page begins.
    pub(super) async fn gallery(
        &self,
        after: Option<String>,
        count: usize,
    ) -> Result<(Vec<Work>, Option<String>), Missing> {
        let query = ListQuery {
            limit: Some(count),
            after,
            status: Some(Status::Completed),
            experiment: Some(self.experiment.clone()),
            pipeline: None,
        };
        let found = crate::api::resources::page(&self.api, &query).await?;
        let mut works = Vec::new();
        for line in found.runs {
            match self.seen(line.run.as_str()).await {
                Ok(seen) if seen.stage == Stage::Done && !seen.poem.is_empty() => {
                    works.push(Work {
                        run: line.run,
                        seen,
                    });
                }
                // Another pipeline of this experiment, or one whose remains are gone.
                Ok(_) | Err(Missing::Unknown) => {}
                Err(away) => return Err(away),
            }
        }
        Ok((works, found.next))
    }
}
