//! Training of the wavelet autoencoder, from nothing, on pictures of the
//! project's own.
//!
//! Two errors are lowered at once. The first is reconstruction, as the paper
//! trains its decoder. The second makes up for the VGG-19 features that the
//! paper starts from: a picture `x` is recoloured to `y` by a random map of
//! colours, and the network must turn `x` into `y` from nothing but the
//! statistics of `y`'s features, by the very whitening and colouring that a
//! transfer uses. The maps count as constants; the gradient goes through what
//! they are applied to.
//!
//! Every step draws from a generator of its own, seeded by the training's seed
//! and the step, so a resumed training equals an uninterrupted one.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use auria_steps_common::checkpoint::{Checkpoint, Checkpoints};
use auria_steps_common::digest;
use auria_steps_common::metrics::Metrics;
use auria_steps_common::optim::Adam;
use auria_steps_common::weights::Tensors;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::json;
use tch::{Device, Kind, Tensor};

use crate::budget::Sizes;
use crate::data::{self, Data, Part};
use crate::evaluate;
use crate::model::{Config, Network};
use crate::transfer::{Affine, Moments, Rule, Settings, Transfer, moments};

/// The peak of the learning rate.
const RATE: f64 = 2e-3;
/// How far a colour map may amplify.
const RECOLOUR_GAIN: f64 = 2.5;

/// What a training is asked for.
#[derive(Debug)]
pub struct Request<'a> {
    /// A prepared folder.
    pub folder: &'a Path,
    /// What it may cost.
    pub sizes: Sizes,
    /// Seed of parameters and crops.
    pub seed: u64,
    /// Widths of the network.
    pub config: Config,
    /// Ends after so many minutes at the latest, with the learning rate lowered
    /// in time; the result then depends on the speed of the machine.
    pub minutes: Option<f64>,
    /// Where to compute.
    pub device: Device,
}

/// A finished training.
#[derive(Debug)]
pub struct Trained {
    /// The network.
    pub network: Network,
    /// What it was trained on.
    pub data: Data,
    /// Steps made.
    pub steps: u64,
    /// Minutes of all attempts together.
    pub minutes: f64,
    /// Held-out reconstruction error before the first step.
    pub untrained: f64,
}

/// A place in a training.
struct Progress {
    step: u64,
    spent: Duration,
    untrained: f64,
}

/// Trains.
///
/// # Errors
/// Where the data cannot be read, a checkpoint belongs to another training, or
/// the loss is not a number.
pub fn train(
    request: &Request<'_>,
    checkpoints: &mut Checkpoints,
    metrics: &mut Metrics,
) -> Result<Trained> {
    let data = data::read(request.folder)?;
    let pictures = data::pictures(request.folder, Part::Train)?;
    let held_out = data::pictures(request.folder, Part::HeldOut)?;
    let sizes = request.sizes;
    let fingerprint = fingerprint(request, &data, &sizes)?;
    let begun = Instant::now();
    let resumed = checkpoints.resume(&fingerprint, request.device)?;
    let (network, mut optimiser, mut at) = match resumed {
        Some(checkpoint) => restore(request, &checkpoint)?,
        None => {
            let network =
                Network::random(request.config.clone(), request.seed, request.device)?.trainable();
            let optimiser = optimiser(&network);
            let untrained = evaluate::reconstruction_error(&network, &held_out);
            metrics.log("held_out/reconstruction_error", untrained, 0)?;
            eprintln!("untrained: held-out reconstruction error {untrained:.3}");
            (
                network,
                optimiser,
                Progress {
                    step: 0,
                    spent: Duration::ZERO,
                    untrained,
                },
            )
        }
    };
    if at.step > 0 {
        eprintln!("resuming after step {} of {}", at.step, sizes.steps);
    }
    let before = at.spent;
    let mut shown = Instant::now();
    while at.step < sizes.steps {
        at.spent = before + begun.elapsed();
        let by_time = request
            .minutes
            .map_or(0.0, |m| at.spent.as_secs_f64() / 60.0 / m);
        if by_time >= 1.0 {
            break;
        }
        let part = by_time.max(at.step as f64 / sizes.steps as f64);
        optimiser.lr = RATE
            * (0.5 + 0.5 * (part * std::f64::consts::PI).cos()).max(0.01)
            * (at.step as f64 / 30.0 + 0.03).min(1.0);
        let loss = step(
            &network,
            &mut optimiser,
            &pictures,
            request.seed,
            at.step,
            &sizes,
        )?;
        at.step += 1;
        ensure!(
            loss.0.is_finite() && loss.1.is_finite(),
            "the loss of step {} is not a number",
            at.step
        );
        if at.step.is_multiple_of(20) || at.step == sizes.steps {
            metrics.log("reconstruction_loss", loss.0, at.step)?;
            metrics.log("recolour_loss", loss.1, at.step)?;
        }
        if shown.elapsed() > Duration::from_secs(10) || at.step == sizes.steps {
            shown = Instant::now();
            eprintln!(
                "step {} of {}: reconstruction {:.4}, recolouring {:.4}, {:.1} min",
                at.step,
                sizes.steps,
                loss.0,
                loss.1,
                at.spent.as_secs_f64() / 60.0
            );
        }
        if checkpoints.due() {
            at.spent = before + begun.elapsed();
            checkpoints.publish(&save(&network, &optimiser, &at, request.seed, &fingerprint))?;
        }
    }
    at.spent = before + begun.elapsed();
    checkpoints.publish(&save(&network, &optimiser, &at, request.seed, &fingerprint))?;
    Ok(Trained {
        network,
        data,
        steps: at.step,
        minutes: at.spent.as_secs_f64() / 60.0,
        untrained: at.untrained,
    })
}

fn optimiser(network: &Network) -> Adam {
    Adam::new(network.parameters(), RATE, (0.9, 0.99))
}

/// Tells trainings apart: everything that decides what a step does.
fn fingerprint(request: &Request<'_>, data: &Data, sizes: &Sizes) -> Result<String> {
    let all = json!({
        "config": request.config, "data": data.digest, "seed": request.seed, "sizes": sizes,
        "minutes": request.minutes,
    });
    Ok(digest::bytes(
        &serde_json::to_vec(&all).context("naming the training")?,
    ))
}

fn save(
    network: &Network,
    optimiser: &Adam,
    at: &Progress,
    seed: u64,
    fingerprint: &str,
) -> Checkpoint {
    let mut tensors: Tensors = optimiser.state("optimiser");
    for (name, tensor) in network.parameters() {
        tensors.insert(format!("model.{name}"), tensor.detach());
    }
    // As a tensor, because decimal digits need not come back to the last bit.
    tensors.insert("untrained".to_owned(), Tensor::from_slice(&[at.untrained]));
    let state = json!({ "milliseconds": at.spent.as_millis() as u64 });
    Checkpoint {
        step: at.step,
        seed,
        fingerprint: fingerprint.to_owned(),
        state,
        tensors,
    }
}

fn restore(request: &Request<'_>, checkpoint: &Checkpoint) -> Result<(Network, Adam, Progress)> {
    let parameters = checkpoint
        .tensors
        .iter()
        .filter_map(|(name, tensor)| {
            name.strip_prefix("model.")
                .map(|n| (n.to_owned(), tensor.copy()))
        })
        .collect();
    let network = Network::from_parameters(request.config.clone(), parameters, request.device)
        .context("restoring the network of the checkpoint")?
        .trainable();
    let mut optimiser = optimiser(&network);
    ensure!(
        optimiser.restore("optimiser", &checkpoint.tensors),
        "the checkpoint lacks a part of the optimiser's state"
    );
    let milliseconds = checkpoint
        .state
        .get("milliseconds")
        .and_then(serde_json::Value::as_u64);
    let untrained = checkpoint
        .tensors
        .get("untrained")
        .filter(|t| t.size() == [1]);
    let (Some(milliseconds), Some(untrained)) = (milliseconds, untrained) else {
        anyhow::bail!("the checkpoint does not say how long it took, or what it began with");
    };
    let at = Progress {
        step: checkpoint.step,
        spent: Duration::from_millis(milliseconds),
        untrained: untrained.double_value(&[0]),
    };
    Ok((network, optimiser, at))
}

/// One step; gives the two losses.
fn step(
    network: &Network,
    optimiser: &mut Adam,
    pictures: &[Tensor],
    seed: u64,
    step: u64,
    sizes: &Sizes,
) -> Result<(f64, f64)> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // A stream of the generator for each step.
    rng.set_stream(step + 1);
    let crops: Vec<Tensor> = (0..sizes.batch)
        .map(|_| crop(pictures, sizes.crop, &mut rng))
        .collect();
    let (x, y) = tch::no_grad(|| {
        let x = Tensor::stack(&crops, 0).to_device(network.device());
        let goal = crop(pictures, sizes.crop, &mut rng).unsqueeze(0);
        let y = recoloured(&x, &goal)?;
        // The clipped colours of `y` are harder to leave than to reach.
        Ok::<_, anyhow::Error>(if rng.random_bool(0.5) { (x, y) } else { (y, x) })
    })?;
    let (seen, again) = moments(network, &y);
    let settings = Settings::default();
    let (_, coloured) = Transfer::fit(network, &x, &seen, &settings)?;
    let error = |a: &Tensor| {
        let difference = a - &y;
        difference.abs().mean(Kind::Float) + difference.square().mean(Kind::Float) * 2.0
    };
    let (reconstruction, recolouring) = (error(&again), error(&coloured));
    optimiser.zero_grad();
    (&reconstruction + &recolouring * 0.5).backward();
    optimiser.clip_grad_norm(1.0);
    optimiser.step();
    Ok((
        reconstruction.double_value(&[]),
        recolouring.double_value(&[]),
    ))
}

/// `x` `[batch, 3, height, width]` with the mean and covariance of colours that
/// `goal` has.
pub(crate) fn recoloured(x: &Tensor, goal: &Tensor) -> Result<Tensor> {
    let settings = Settings {
        strength: 1.0,
        rule: Rule::Transport,
        gain: RECOLOUR_GAIN,
    };
    let map = Affine::between(&Moments::of(x), &Moments::of(goal), &settings)?;
    Ok(map.apply(x).clamp(0.0, 1.0))
}

/// A random square of a random picture, turned and with its channels exchanged
/// at random.
fn crop(pictures: &[Tensor], side: i64, rng: &mut ChaCha8Rng) -> Tensor {
    let picture = &pictures[rng.random_range(0..pictures.len())];
    let (height, width) = (picture.size()[1], picture.size()[2]);
    let (h, w) = (side.min(height), side.min(width));
    let top = rng.random_range(0..=height - h);
    let left = rng.random_range(0..=width - w);
    let mut part = data::as_float(&picture.narrow(1, top, h).narrow(2, left, w));
    if (h, w) != (side, side) {
        part = crate::canvas::resize(&part, side, side);
    }
    if rng.random_bool(0.5) {
        part = part.flip([2]);
    }
    if rng.random_bool(0.5) {
        part = part.transpose(1, 2);
    }
    if rng.random_bool(0.5) {
        let order =
            [[0i64, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]][rng.random_range(0..5)];
        part = part.index_select(0, &Tensor::from_slice(&order));
    }
    part.contiguous()
}

/// The moments of `y` and the network's transfer of `x` to them, for measuring.
pub(crate) fn recolour_error(network: &Network, x: &Tensor, goal: &Tensor) -> Result<f64> {
    let y = recoloured(x, goal)?;
    let (style, _) = moments(network, &y);
    let (_, coloured) = Transfer::fit(network, x, &style, &Settings::default())?;
    Ok(crate::measures::squared_error(
        &coloured.clamp(0.0, 1.0),
        &y,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use auria_steps_common::checkpoint::CheckpointArgs;

    fn run(data: &Path, checkpoints: Option<&Path>, seed: u64, steps: u64) -> Result<Trained> {
        let args = CheckpointArgs {
            checkpoints: checkpoints.map(Path::to_path_buf),
            checkpoint_every: 0,
        };
        let mut metrics = Metrics::open(&data.join("metrics.jsonl"))?;
        let request = Request {
            folder: data,
            sizes: Sizes {
                steps,
                batch: 2,
                crop: 16,
                ..Budget::Smoke.sizes()
            },
            seed,
            config: Config::tiny(),
            minutes: None,
            device: Device::Cpu,
        };
        train(&request, &mut Checkpoints::open(&args)?, &mut metrics)
    }

    fn same(a: &Network, b: &Network) -> bool {
        a.parameters()
            .iter()
            .all(|(name, tensor)| *tensor == b.parameters()[name])
    }

    #[test]
    fn a_resumed_training_equals_an_uninterrupted_one() {
        tch::set_num_threads(1);
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        data::prepare(1, Budget::Smoke, None, &data, &mut |_| {}).unwrap();
        let whole = run(&data, None, 4, 8).unwrap();
        let folder = dir.path().join("checkpoints");
        let first = run(&data, Some(&folder), 4, 8).unwrap();
        assert!(same(&whole.network, &first.network));
        // As if it had been killed after its seventh step.
        std::fs::remove_dir_all(folder.join("step-0000000008")).unwrap();
        let seventh = folder.join("step-0000000007");
        assert!(seventh.is_dir());
        let resumed = run(&data, Some(&folder), 4, 8).unwrap();
        assert!(same(&whole.network, &resumed.network));
        assert_eq!((resumed.steps, resumed.untrained), (8, whole.untrained));
        assert!(!same(
            &whole.network,
            &run(&data, None, 5, 8).unwrap().network
        ));
        let other = run(&data, Some(&folder), 4, 9).unwrap_err().to_string();
        assert!(other.contains("other data or settings"), "{other}");
    }

    #[test]
    fn recolouring_gives_the_colours_of_the_goal() {
        tch::manual_seed(2);
        let x = Tensor::rand([2, 3, 16, 16], (Kind::Float, Device::Cpu)) * 0.2 + 0.4;
        let goal = Tensor::rand([1, 3, 16, 16], (Kind::Float, Device::Cpu)) * 0.3 + 0.2;
        let y = recoloured(&x, &goal).unwrap();
        let mean = |t: &Tensor| t.mean_dim([0i64, 2, 3].as_slice(), false, Kind::Float);
        assert!((mean(&y) - mean(&goal)).abs().max().double_value(&[]) < 1e-3);
        assert!((y.std(false) - goal.std(false)).abs().double_value(&[]) < 1e-2);
    }
}
