//! Going on from a checkpoint together: rank 0 reads it, and the others are given what it
//! read. So it does not matter which of them finds a checkpoint, or that all find the same.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::{Group, GroupError};
use crate::Error;
use crate::checkpoint::{Checkpoint, Checkpoints};
use crate::weights::Tensors;

const DURING: &str = "while a checkpoint was shared";

/// What rank 0 found, without the tensors' values.
#[derive(Serialize, Deserialize)]
enum Found {
    Nothing,
    Wrong(String),
    Checkpoint {
        step: u64,
        seed: u64,
        state: serde_json::Value,
        tensors: Vec<(String, Element, Vec<i64>)>,
    },
}

/// What a tensor is made of.
#[derive(Clone, Copy, Serialize, Deserialize)]
enum Element {
    F32,
    F64,
    I64,
}

/// The newest whole checkpoint that rank 0 finds, which must be of the training
/// `fingerprint`.
///
/// # Errors
/// What is wrong with the checkpoint, on every member; a member that is lost.
pub fn resume(
    group: &Group,
    checkpoints: &Checkpoints,
    fingerprint: &str,
    device: Device,
) -> Result<Option<Checkpoint>, Error> {
    if group.is_alone() {
        return checkpoints.resume(fingerprint, device);
    }
    let read = if group.is_first() {
        checkpoints.resume(fingerprint, device)
    } else {
        Ok(None)
    };
    let (found, own, failure) = match read {
        Err(error) => (Found::Wrong(error.to_string()), None, Some(error)),
        Ok(None) => (Found::Nothing, None, None),
        Ok(Some(checkpoint)) => match outline(&checkpoint) {
            Ok(outline) => (outline, Some(checkpoint), None),
            Err(problem) => (Found::Wrong(problem), None, None),
        },
    };
    let text = serde_json::to_vec(&found).unwrap_or_default();
    let text = group.bytes_of_first(text, DURING)?;
    let wrong = |problem: String| GroupError::State {
        rank: group.rank(),
        problem,
    };
    let found = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    match (found, failure) {
        (_, Some(error)) => Err(error),
        (Found::Wrong(problem), None) => Err(wrong(problem).into()),
        (Found::Nothing, None) => Ok(None),
        (
            Found::Checkpoint {
                step,
                seed,
                state,
                tensors,
            },
            None,
        ) => {
            let own = own.map(|checkpoint| checkpoint.tensors);
            Ok(Some(Checkpoint {
                step,
                seed,
                fingerprint: fingerprint.to_owned(),
                state,
                tensors: share(group, own, tensors, device)?,
            }))
        }
    }
}

fn outline(checkpoint: &Checkpoint) -> Result<Found, String> {
    let tensors = checkpoint.tensors.iter().map(|(name, tensor)| {
        let element = match tensor.kind() {
            Kind::Float => Element::F32,
            Kind::Double => Element::F64,
            Kind::Int64 => Element::I64,
            other => return Err(format!("`{name}` holds {other:?}")),
        };
        Ok((name.clone(), element, tensor.size()))
    });
    Ok(Found::Checkpoint {
        step: checkpoint.step,
        seed: checkpoint.seed,
        state: checkpoint.state.clone(),
        tensors: tensors.collect::<Result<_, _>>()?,
    })
}

fn share(
    group: &Group,
    own: Option<Tensors>,
    outlines: Vec<(String, Element, Vec<i64>)>,
    device: Device,
) -> Result<Tensors, GroupError> {
    let mut all = own.unwrap_or_default();
    for (name, element, shape) in outlines {
        let kind = match element {
            Element::F32 => Kind::Float,
            Element::F64 => Kind::Double,
            Element::I64 => Kind::Int64,
        };
        let tensor = all
            .entry(name)
            .or_insert_with(|| Tensor::zeros(&shape, (kind, device)));
        if tensor.numel() > 0 {
            group.broadcast(tensor, 0, DURING)?;
        }
    }
    Ok(all)
}
