//! Whether the command of an attempt is carried out by a program that stays: which one is
//! wanted, and what it is to do. Starts none and keeps none.

use super::{Attempt, text};
use crate::command::Prepared;
use crate::template::Values;
use crate::tree::MARK;
use crate::warm::{Ask, Job, JobInput, Kind, WARM_VERSION, Wanted, plain_words};
use auria_core::plan::{Environment, Template, TemplatePart};
use auria_core::ticket::TicketInput;
use std::collections::{BTreeMap, BTreeSet};

impl Attempt<'_> {
    /// The program that may carry out the command instead of `prepared`, where the step
    /// wants one, the executor keeps some, and the command is nothing but words.
    pub(super) fn wanted(&self, values: &Values, prepared: &Prepared) -> Option<Wanted> {
        let (Some(warm), Some(socket)) = (&self.ticket.keep_warm, &self.options.warm) else {
            return None;
        };
        if self.group.is_some() || self.around.in_image {
            return None;
        }
        let Some(mut words) = plain_words(&prepared.text) else {
            tracing::warn!("its command needs a shell: no warm program can carry it out");
            return None;
        };
        let program = words.remove(0);
        let start = warm.start.clone();
        let (own, lasting): (BTreeMap<_, _>, BTreeMap<_, _>) = {
            let of_attempt = self.of_attempt();
            let variables = prepared.environment.iter().filter_map(|(name, value)| {
                let pair = (name.to_str()?.to_owned(), value.to_str()?.to_owned());
                (pair.0 != MARK).then_some(pair)
            });
            variables.partition(|(name, _)| of_attempt.contains(name))
        };
        let executable = match &self.ticket.environment {
            Environment::Process(process) => process.executable.as_ref(),
            Environment::Image { .. } => None,
        };
        Some(Wanted {
            socket: socket.clone(),
            ask: Ask {
                kind: Kind {
                    version: WARM_VERSION,
                    start: start.unwrap_or_else(|| format!("{program} warm")),
                    executable: executable.map(|found| found.digest),
                    code: self.ticket.code,
                    environment: lasting,
                    memory_bytes: self.ticket.resources.memory_bytes,
                },
                folder: self.work.code(),
            },
            job: Job {
                id: u64::from(self.ticket.attempt.number),
                arguments: words,
                folder: text(&self.work.code()),
                environment: own,
                inputs: self.job_inputs(values),
            },
        })
    }

    /// The variables of the command that are another attempt's no longer: those of its
    /// work folder, unless the step itself sets them, and those that hold bindings.
    fn of_attempt(&self) -> BTreeSet<String> {
        let set = &self.ticket.variables;
        let own = self.work.variables(&self.ticket.attempt, 0);
        let own = own.into_keys().filter_map(|name| name.into_string().ok());
        let bound = set.iter().filter(|(_, value)| !is_text(value));
        own.filter(|name| !set.contains_key(name))
            .chain(bound.map(|(name, _)| name.clone()))
            .collect()
    }

    fn job_inputs(&self, values: &Values) -> BTreeMap<String, JobInput> {
        let content = |input: &TicketInput| match input {
            TicketInput::Artifact { artifact, .. } => Some(artifact.digest.to_string()),
            TicketInput::Snapshot { digest, .. } => Some(digest.to_string()),
            TicketInput::External { pin, .. } => Some(pin.clone()),
            TicketInput::Literal { .. } | TicketInput::Absent => None,
        };
        let inputs = self.ticket.inputs.iter();
        inputs
            .filter_map(|(name, input)| {
                let path = values.inputs.get(name)?.clone();
                let content = content(input)?;
                Some((name.clone(), JobInput { path, content }))
            })
            .collect()
    }
}

/// Whether it is the same for each attempt.
fn is_text(template: &Template) -> bool {
    let mut parts = template.0.iter();
    parts.all(|part| matches!(part, TemplatePart::Text(_)))
}
