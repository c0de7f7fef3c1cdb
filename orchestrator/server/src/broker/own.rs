//! What a claim may say in its own name: outcomes and ends that name it, with outputs of
//! its own prefix and no others. Pure; it reads and writes nothing.

use auria_core::outcome::{
    Artifact, Checkpoint, Claim, EndRecord, OUTCOME_VERSION, Outcome, Status,
};
use auria_core::plan::DataType;
use auria_core::run::AttemptNews;
use auria_core::ticket::Ticket;
use auria_core::{AttemptId, Digest, Nonce};
use auria_store::layout;
use std::collections::BTreeMap;

/// One claim, and what its ticket asks for.
pub(super) struct Own {
    pub(super) attempt: AttemptId,
    pub(super) nonce: Nonce,
    /// None where the ticket is not at hand.
    asked: Option<Asked>,
}

struct Asked {
    outputs: BTreeMap<String, DataType>,
    key: Option<Digest>,
}

impl Own {
    /// The claim `nonce` of the attempt that `ticket` is for.
    pub(super) fn of(ticket: &Ticket, nonce: &Nonce) -> Self {
        Self {
            attempt: ticket.attempt.clone(),
            nonce: nonce.clone(),
            asked: Some(Asked {
                outputs: ticket.outputs.clone(),
                key: ticket.key,
            }),
        }
    }

    /// A claim whose ticket is not at hand.
    pub(super) fn without_ticket(attempt: AttemptId, nonce: Nonce) -> Self {
        Self {
            attempt,
            nonce,
            asked: None,
        }
    }

    /// Whether an outcome is this claim's: it names it, and all outputs that the ticket
    /// asks for, each below the claim's own prefix, since those who take them may read what
    /// it names; and the ticket's key, by which other runs find them.
    pub(super) fn is_outcome(&self, outcome: &Outcome) -> bool {
        let Outcome {
            version,
            run,
            step,
            status,
            attempt,
            nonce,
            attempts: _,
            cause: _,
            exit_code: _,
            message: _,
            outputs,
            reused_from,
            key,
            timings: _,
            last_lines: _,
            node: _,
            started: _,
            ended: _,
        } = outcome;
        let asked_for = self.asked.as_ref().is_none_or(|asked| {
            let types = outputs.iter().map(|(name, made)| (name, made.data_type));
            types.eq(asked.outputs.iter().map(|(name, kind)| (name, *kind))) && *key == asked.key
        });
        *version == OUTCOME_VERSION
            && (run, step) == (&self.attempt.run, &self.attempt.step)
            && *attempt == Some(self.attempt.number)
            && nonce.as_ref() == Some(&self.nonce)
            && *status == Status::Completed
            && reused_from.is_none()
            && outputs
                .iter()
                .all(|(name, made)| self.is_output(name, made))
            && asked_for
    }

    fn is_output(&self, name: &str, made: &Artifact) -> bool {
        let prefix = layout::output(&self.attempt, &self.nonce, name);
        let manifest = layout::output_manifest(&self.attempt, &self.nonce, name);
        made.prefix == prefix.as_ref() && made.manifest == manifest.as_ref()
    }

    /// Whether an end is this claim's, and what it holds.
    pub(super) fn is_end(&self, end: &EndRecord) -> bool {
        let EndRecord {
            attempt,
            nonce,
            cause: _,
            exit_code: _,
            message: _,
            last_lines: _,
            timings: _,
            checkpoint,
            published,
            node: _,
            started: _,
            ended: _,
        } = end;
        let mut published = published.iter();
        *attempt == self.attempt
            && nonce.as_ref() == Some(&self.nonce)
            && self.is_checkpoint(checkpoint.as_ref())
            && published.all(|outcome| self.is_outcome(outcome))
    }

    fn is_checkpoint(&self, checkpoint: Option<&Checkpoint>) -> bool {
        checkpoint.is_none_or(|checkpoint| {
            checkpoint.attempt == self.attempt.number && checkpoint.nonce == self.nonce
        })
    }

    /// Whether a launcher's last word is this claim's.
    pub(super) fn is_word(&self, news: &AttemptNews) -> bool {
        let AttemptNews::Gone {
            claim,
            end: Some(end),
            checkpoint,
        } = news
        else {
            return false;
        };
        let is_claim = |claim: &Claim| claim.attempt == self.attempt && claim.nonce == self.nonce;
        claim.as_ref().is_none_or(is_claim)
            && self.is_checkpoint(checkpoint.as_ref())
            && self.is_end(end)
    }
}
