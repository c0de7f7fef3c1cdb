//! Where the launchers of a distributed step meet: each says that it is there and at which
//! address, the first instance's learns when all are, claims, and the others may begin.
//! What they say stands in the store, so that any replica answers; it counts for the nonce
//! alone that the claim is then made with. It decides nothing about the step.

use super::{Broker, Known, no_ticket};
use crate::body::Taken;
use crate::caller::Bounded;
use crate::problem::Refusal;
use auria_core::distribution::Shape;
use auria_core::outcome::{InstanceEnd, Member};
use auria_core::protocol::{self, ATTEMPT_LOST, AskedJoin, Begin, Group, GroupEnds};
use auria_core::ticket::Ticket;
use auria_core::{AttemptId, Nonce};
use auria_store::Journal;
use axum::Json;
use axum::extract::{Extension, State};
use futures::{StreamExt, TryStreamExt};
use http::StatusCode;
use std::time::{Duration, Instant};

/// How long it is remembered who has ended: all members of a group ask.
const FRESH: Duration = Duration::from_millis(500);
/// Groups that are remembered.
const GROUPS: usize = 1_000;
/// Records that are read at once.
const READS: usize = 16;
/// Longer addresses and names are none.
const LONGEST: usize = 256;

/// What the members of groups ask again and again.
pub(super) struct Groups(Bounded<(AttemptId, Nonce), (Instant, GroupEnds)>);

impl Groups {
    pub(super) fn new() -> Self {
        Self(Bounded::new(GROUPS))
    }
}

/// Where the processes of a ticket's step are; none of one that is not distributed.
pub(super) fn shape(ticket: &Ticket) -> Option<Shape> {
    let distribution = ticket.distribution.as_ref()?;
    Some(distribution.shape(ticket.resources.instances))
}

pub(super) async fn join(
    State(broker): State<Broker>,
    Extension(known): Extension<Known>,
    asked: Taken<AskedJoin>,
) -> Result<Json<Group>, Refusal> {
    let AskedJoin {
        instance,
        address,
        process,
        node,
        secret,
    } = asked.value;
    let attempt = &known.attempt;
    let journal = Journal::new(broker.0.options.store.clone(), attempt.run.clone());
    let ticket = journal.read_ticket(attempt).await;
    let ticket = ticket.map_err(|error| Refusal::of(&error))?;
    let ticket = ticket.ok_or_else(|| no_ticket(attempt))?;
    let shape = shape(&ticket).filter(|shape| instance < shape.instances);
    let shape = shape.ok_or_else(Refusal::forbidden)?;
    let own = protocol::nonce_of(&secret).ok_or_else(Refusal::forbidden)?;
    if [Some(&address), Some(&process), node.as_ref()]
        .into_iter()
        .flatten()
        .any(|text| text.len() > LONGEST)
    {
        return Err(Refusal::forbidden());
    }
    let failed = |error| Refusal::of(&error);
    let claim = journal.read_claim(attempt).await.map_err(failed)?;
    let group = match instance {
        0 => Some(own.clone()),
        _ => {
            let first = journal.read_member(attempt, 0).await.map_err(failed)?;
            first.map(|first| first.group)
        }
    };
    let Some(group) = group else {
        // Nobody to join yet.
        return Ok(Json(Group::default()));
    };
    let member = Member {
        instance,
        group: group.clone(),
        nonce: own.clone(),
        address,
        process,
        node,
    };
    let stands = journal.read_member(attempt, instance).await;
    let stands = stands.map_err(failed)?;
    if let Some(claim) = claim {
        let is_member = stands.is_some_and(|stands| stands.nonce == own && stands.group == group);
        if claim.nonce != group || !is_member {
            let message = "the group has begun without this launcher";
            return Err(Refusal::new(StatusCode::CONFLICT, message).of_kind(ATTEMPT_LOST));
        }
        let addresses = addresses(&journal, attempt, shape, &group).await?;
        let session = broker.session(attempt, &group, Some(instance));
        let begun = (instance > 0).then_some(Begin {
            nonce: group,
            session,
        });
        return Ok(Json(Group { addresses, begun }));
    }
    if stands.as_ref() != Some(&member) {
        journal.join(attempt, &member).await.map_err(failed)?;
    }
    let addresses = match instance {
        0 => addresses(&journal, attempt, shape, &group).await?,
        // They are complete once the first has claimed.
        _ => Vec::new(),
    };
    Ok(Json(Group {
        addresses,
        begun: None,
    }))
}

/// The addresses of those that are in this group.
async fn addresses(
    journal: &Journal,
    attempt: &AttemptId,
    shape: Shape,
    group: &Nonce,
) -> Result<Vec<Option<String>>, Refusal> {
    let found = futures::stream::iter(0..shape.instances)
        .map(|instance| journal.read_member(attempt, instance))
        .buffered(READS)
        .map_ok(|member| {
            member
                .filter(|member| member.group == *group)
                .map(|member| member.address)
        })
        .try_collect()
        .await;
    found.map_err(|error| Refusal::of(&error))
}

pub(super) async fn ends(
    State(broker): State<Broker>,
    Extension(known): Extension<Known>,
) -> Result<Json<GroupEnds>, Refusal> {
    let nonce = known.nonce.ok_or_else(Refusal::forbidden)?;
    let key = (known.attempt.clone(), nonce.clone());
    if let Some((at, ends)) = broker.0.groups.0.get(&key)
        && at.elapsed() < FRESH
    {
        return Ok(Json(ends));
    }
    let attempt = &known.attempt;
    let journal = Journal::new(broker.0.options.store.clone(), attempt.run.clone());
    let failed = |error| Refusal::of(&error);
    let ticket = journal.read_ticket(attempt).await.map_err(failed)?;
    let ticket = ticket.ok_or_else(|| no_ticket(attempt))?;
    let shape = shape(&ticket).ok_or_else(Refusal::forbidden)?;
    let first_ranks = (0..shape.instances).map(|instance| shape.ranks_of(instance).start);
    let ends = journal.read_instance_ends(attempt, &nonce, first_ranks);
    let ends: Vec<InstanceEnd> = ends.await.map_err(failed)?;
    let over = broker.0.standing.is_over(attempt).await?;
    let ends = GroupEnds { ends, over };
    broker.0.groups.0.put(key, (Instant::now(), ends.clone()));
    Ok(Json(ends))
}
