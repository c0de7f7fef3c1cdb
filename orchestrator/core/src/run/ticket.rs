//! Tickets and keys: a step of the plan joined with the artifacts of those that
//! it takes data from.

use super::graph::Index;
use super::state::RunState;
use crate::digest::Digest;
use crate::ids::StepPath;
use crate::key::{InputIdentity, key_of, key_parts};
use crate::mutant;
use crate::plan::{PlannedInput, Reuse};
use crate::ticket::{TICKET_VERSION, Ticket, TicketInput};
use std::collections::BTreeMap;

/// A step ended well and left no output of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("input `{input}` takes output `{output}` of `{}`, which left none", step.display())]
pub(super) struct MissingOutput {
    input: String,
    step: StepPath,
    output: String,
}

impl RunState {
    /// The key of a step whose inputs are there, and its parts. None where its
    /// component is not deterministic.
    pub(super) fn key(
        &self,
        i: Index,
    ) -> Result<Option<(Digest, serde_json::Value)>, MissingOutput> {
        let step = self.step_at(i);
        if matches!(step.reuse, Reuse::NotDeterministic) {
            return Ok(None);
        }
        let inputs = step
            .inputs
            .iter()
            .map(|(name, input)| Ok((name.clone(), self.identity(name, input)?)))
            .collect::<Result<BTreeMap<_, _>, _>>()?;
        let parts = key_parts(step, &inputs);
        Ok(Some((key_of(&parts), parts)))
    }

    fn identity(&self, name: &str, input: &PlannedInput) -> Result<InputIdentity, MissingOutput> {
        match self.value(name, input)? {
            TicketInput::Artifact { artifact, .. } => Ok(InputIdentity::Content {
                digest: artifact.digest,
            }),
            _ => Ok(InputIdentity::of(input).unwrap_or(InputIdentity::Absent)),
        }
    }

    fn value(&self, name: &str, input: &PlannedInput) -> Result<TicketInput, MissingOutput> {
        Ok(match input {
            PlannedInput::Literal { value } => TicketInput::Literal {
                value: value.clone(),
            },
            PlannedInput::Snapshot {
                digest,
                data_type,
                mode,
            } => TicketInput::Snapshot {
                digest: *digest,
                data_type: *data_type,
                mode: *mode,
            },
            PlannedInput::External {
                uri,
                pin,
                data_type,
                mode,
            } => TicketInput::External {
                uri: uri.clone(),
                pin: pin.clone(),
                data_type: *data_type,
                mode: *mode,
            },
            PlannedInput::Step {
                step,
                output,
                mode,
                optional,
                data_type: _,
            } => match self.artifact(step, output) {
                Some(artifact) => TicketInput::Artifact {
                    artifact: artifact.clone(),
                    mode: *mode,
                },
                None if *optional => TicketInput::Absent,
                None => {
                    return Err(MissingOutput {
                        input: name.to_owned(),
                        step: step.clone(),
                        output: output.clone(),
                    });
                }
            },
            PlannedInput::Absent => TicketInput::Absent,
        })
    }

    /// All that attempt `number` needs.
    pub(super) fn ticket(&self, i: Index, number: u32) -> Result<Ticket, MissingOutput> {
        let step = self.step_at(i);
        let key = self.key(i)?.map(|(key, _)| key);
        let inputs = step
            .inputs
            .iter()
            .map(|(name, input)| Ok((name.clone(), self.value(name, input)?)))
            .collect::<Result<_, _>>()?;
        let slot = &self.slots[i];
        Ok(Ticket {
            version: TICKET_VERSION,
            attempt: self.id(i, number),
            claims_before: slot.claims(),
            pipeline: self.plan.pipeline.clone(),
            experiment: self.plan.experiment.clone(),
            command: step.command.clone(),
            code: step.code,
            environment: step.environment.clone(),
            variables: step.variables.clone(),
            inputs,
            outputs: step
                .outputs
                .iter()
                .map(|(name, output)| (name.clone(), output.data_type))
                .collect(),
            resources: step.resources.clone(),
            distribution: step.distribution,
            compute: step.compute.clone(),
            network: step.network,
            timeout_ms: step.timeout_ms,
            grace_ms: step.grace_ms,
            publish_grace_ms: self.limits.publish_grace_ms,
            restore: slot
                .attempt(number)
                .filter(|_| !mutant!(RestoreUnpinned))
                .and_then(|attempt| attempt.restore.clone()),
            key,
            keep_warm: step.keep_warm.clone(),
        })
    }
}
