//! `distribution`: which processes a step is made of, and whether that agrees with its
//! `resources.instance_count`.

use super::Checker;
use super::fields::{DISTRIBUTION, Status};
use super::read::{Object, entry_place, object, refused};
use crate::diagnostic::{Code, Diagnostic};
use crate::distribution::{Distribution, MOST_RANKS};
use crate::document::{Entry, Node, Place};
use crate::resources::Resources;

/// What `distribution` says, before it is held against the instances.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    kind: Kind,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Pytorch { per_instance: u32 },
    Mpi { per_instance: u32 },
    Tensorflow { workers: Option<u32>, servers: u32 },
}

impl Checker<'_> {
    /// `distribution` of a job or component; `Err` where it is wrong, which has been said.
    pub(crate) fn distribution(&mut self, from: &Object<'_>) -> Result<Option<Asked>, ()> {
        if !from.has("distribution") {
            return Ok(None);
        }
        let entry = from.get("distribution").ok_or(())?;
        if let Some(kind) = entry.value.get("type")
            && kind.as_text() == Some("ray")
        {
            // Its other keys are not looked at: nothing of it works.
            let status =
                Status::NotYet("start Ray from the command of one instance, or use `pytorch`");
            let what = "`distribution` of type `ray`";
            self.out.push(refused(what, status, kind.shown_at()));
            return Err(());
        }
        self.of(entry).ok_or(()).map(Some)
    }

    fn of(&mut self, entry: &Entry) -> Option<Asked> {
        let before = self.errors();
        let from = object(&entry.value, &entry.key_place, &DISTRIBUTION, &mut self.out)?;
        let Some(kind) = from.text("type") else {
            if from.lacks("type") {
                let message = "`distribution` needs a `type`";
                self.out.push(
                    Diagnostic::error(Code::MissingKey, message, &entry.key_place)
                        .help("write `distribution: {type: pytorch}`; others: `mpi`, `tensorflow`"),
                );
            }
            return None;
        };
        let (own, others): (&[&str], &[&str]) = match kind {
            "tensorflow" => (
                &["worker_count", "parameter_server_count"],
                &["process_count_per_instance"],
            ),
            _ => (
                &["process_count_per_instance"],
                &["worker_count", "parameter_server_count"],
            ),
        };
        for key in others {
            if let Some(other) = from.get(key) {
                let message = format!("`{key}` says nothing of a distribution of type `{kind}`");
                let own = own.join("`, `");
                self.out.push(
                    Diagnostic::error(Code::ExclusiveKeys, message, &other.key_place)
                        .help(format!("take it away; `{kind}` takes `{own}`")),
                );
            }
        }
        let number = |key: &str| {
            from.integer(key)
                .map(|value| u32::try_from(value).unwrap_or(u32::MAX))
        };
        let per_instance = number("process_count_per_instance").unwrap_or(1);
        let kind = match kind {
            "tensorflow" => Kind::Tensorflow {
                workers: number("worker_count"),
                servers: number("parameter_server_count").unwrap_or(0),
            },
            "mpi" => Kind::Mpi { per_instance },
            _ => Kind::Pytorch { per_instance },
        };
        (self.errors() == before).then(|| Asked {
            kind,
            place: entry_place(entry).clone(),
        })
    }

    /// What a step is made of that asks for `asked` and `resources`; `from` is its job.
    pub(crate) fn distributed(
        &mut self,
        asked: Option<&Asked>,
        resources: &Resources,
        from: &Object<'_>,
    ) -> Option<Distribution> {
        let instances = resources.instances;
        let Some(Asked { kind, place }) = asked else {
            if instances > 1 {
                let place = count_place(from);
                let message = format!(
                    "the step has {instances} instances, and nothing says what they are to each other"
                );
                self.out.push(
                    Diagnostic::error(Code::MissingKey, message, &place).help(
                        "write `distribution: {type: pytorch}`, `mpi` or `tensorflow`; the command runs once for each process",
                    ),
                );
            }
            return None;
        };
        let distribution = match *kind {
            Kind::Pytorch { per_instance } => Distribution::Pytorch {
                process_count_per_instance: per_instance,
            },
            Kind::Mpi { per_instance } => Distribution::Mpi {
                process_count_per_instance: per_instance,
            },
            Kind::Tensorflow { workers, servers } => {
                let workers = workers.unwrap_or(instances.saturating_sub(servers));
                let tasks = u64::from(workers) + u64::from(servers);
                if tasks != u64::from(instances) || workers == 0 {
                    let message = format!(
                        "the step has {workers} workers and {servers} parameter servers on {instances} instances: each is an instance of its own"
                    );
                    let help = if workers == 0 {
                        "at least one worker is needed: `worker_count: 1`".to_owned()
                    } else {
                        format!("write `resources: {{instance_count: {tasks}}}`")
                    };
                    self.out
                        .push(Diagnostic::error(Code::OutOfRange, message, place).help(help));
                    return None;
                }
                Distribution::Tensorflow {
                    worker_count: workers,
                    parameter_server_count: servers,
                }
            }
        };
        let processes = distribution.processes(instances);
        if processes > MOST_RANKS {
            let message = format!("the step is {processes} processes");
            self.out.push(
                Diagnostic::error(Code::OutOfRange, message, place).help(format!(
                    "at most {MOST_RANKS} are started: lower `instance_count` or `process_count_per_instance`"
                )),
            );
            return None;
        }
        Some(distribution)
    }
}

/// Where a job says how many instances it has; where its component does, the job itself.
fn count_place(from: &Object<'_>) -> Place {
    let count = from
        .node("resources")
        .and_then(Node::as_mapping)
        .and_then(|resources| resources.get("instance_count"));
    count.map_or_else(|| from.place().clone(), |count| entry_place(count).clone())
}
