//! Draws haiku from the model, conditioned on the form, by sequential Monte Carlo: many
//! drafts grow side by side; each is weighted by how much of the model's probability the
//! rules left it, and drafts that the model finds forced give way to those that come
//! naturally (Doucet and Johansen 2009). One seed gives one set of drafts.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use crate::data::Kind as Of;
use crate::model::Model;
use crate::rules::{Draft, Table};
use crate::vocab::Vocab;

/// How drafts are drawn.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Drafts side by side.
    pub drafts: usize,
    /// Flattens (above 1) or sharpens (below) the model's choices.
    pub temperature: f64,
    /// Only the likeliest tokens that make up this share are drawn from.
    pub top_p: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            drafts: 128,
            temperature: 0.85,
            top_p: 0.9,
        }
    }
}

/// A finished draft with what the model thinks of it.
#[derive(Debug, Clone)]
pub struct Drawn {
    /// The poem.
    pub draft: Draft,
    /// The model's own mean log-probability of its tokens, the ends of lines included,
    /// without temperature, tilt or rules.
    pub log_probability: f64,
}

struct Particle {
    draft: Draft,
    weight: f64,
    sum: f64,
    tokens: u32,
}

/// Draws drafts. `tilt` is added to the log-odds of the tokens: so mood and topic are heard.
pub fn draw(
    model: &Model,
    table: &Table,
    tilt: &Tilt,
    settings: &Settings,
    seed: u64,
) -> Vec<Drawn> {
    tch::no_grad(|| draw_inner(model, table, tilt, settings, seed))
}

/// What pulls the choice of words.
#[derive(Debug, Clone, Default)]
pub struct Tilt {
    /// Added to the log-odds of each token, `[V]`.
    pub tokens: Vec<f32>,
    /// Tokens of the topic: added until one of them is said.
    pub topic: Vec<(i64, f32)>,
}

fn draw_inner(
    model: &Model,
    table: &Table,
    tilt: &Tilt,
    settings: &Settings,
    seed: u64,
) -> Vec<Drawn> {
    // The longest poem: 17 words of a syllable, a mark for each line and within, ends.
    const LONGEST: usize = 32;
    let n = settings.drafts;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut particles: Vec<Particle> = (0..n)
        .map(|_| Particle {
            draft: Draft::default(),
            weight: 0.0,
            sum: 0.0,
            tokens: 0,
        })
        .collect();
    let size = model.config().vocab as usize;
    let pull = Tensor::from_slice(&tilt.tokens).to_device(model.device());
    let mut state = model.zero_state(n as i64);
    let mut input = vec![Vocab::begin(Of::Poem); n];
    for _ in 0..LONGEST {
        let tokens = Tensor::from_slice(&input)
            .view([1, n as i64])
            .to_device(model.device());
        let output = model.forward(&tokens, &state, None);
        state = output.state;
        let logits = output.logits.get(0);
        let own = values(&logits.log_softmax(-1, Kind::Float));
        let tilted = (logits + &pull) / settings.temperature;
        let tilted = values(&tilted.softmax(-1, Kind::Float));
        let rows = own.chunks_exact(size).zip(tilted.chunks_exact(size));
        for ((particle, input), rows) in particles.iter_mut().zip(&mut input).zip(rows) {
            if !particle.draft.is_done() {
                *input = step(particle, rows, table, tilt, settings, &mut rng);
            }
        }
        if particles.iter().all(|p| p.draft.is_done()) {
            break;
        }
        if let Some(parents) = resample(&particles, &mut rng) {
            particles = parents.iter().map(|&i| copy(&particles[i])).collect();
            input = parents.iter().map(|&i| input[i]).collect();
            let rows: Vec<i64> = parents.iter().map(|&i| i as i64).collect();
            state = state.select(&Tensor::from_slice(&rows).to_device(model.device()));
        }
    }
    let done = particles.into_iter().filter(|p| p.draft.is_done());
    done.map(|p| Drawn {
        draft: p.draft,
        log_probability: p.sum / f64::from(p.tokens.max(1)),
    })
    .collect()
}

fn copy(particle: &Particle) -> Particle {
    Particle {
        draft: particle.draft.clone(),
        weight: 0.0,
        ..*particle
    }
}

/// The values of a tensor, row by row.
fn values(tensor: &Tensor) -> Vec<f32> {
    let flat = tensor.to_device(tch::Device::Cpu).contiguous().view([-1]);
    Vec::<f32>::try_from(flat).unwrap_or_default()
}

/// Grows one draft by one token and returns it. `own` are the model's log-probabilities,
/// `tilted` the probabilities that are drawn from.
fn step(
    particle: &mut Particle,
    (own, tilted): (&[f32], &[f32]),
    table: &Table,
    tilt: &Tilt,
    settings: &Settings,
    rng: &mut ChaCha8Rng,
) -> i64 {
    // The topic pulls until one of its words is said.
    let said = |topic: i64| particle.draft.tokens().any(|token| token == topic);
    let topic: &[(i64, f32)] = if tilt.topic.iter().any(|(t, _)| said(*t)) {
        &[]
    } else {
        &tilt.topic
    };
    let pulled = |token: i64| {
        let pull = topic
            .iter()
            .find(|(t, _)| *t == token)
            .map_or(0.0, |(_, pull)| *pull);
        f64::from(tilted[token as usize]) * (f64::from(pull) / settings.temperature).exp()
    };
    let mut choices: Vec<(i64, f64)> = Vec::new();
    particle.draft.next(table, |token| {
        choices.push((token, f64::from(tilted[token as usize])))
    });
    if !topic.is_empty() {
        choices.iter_mut().for_each(|c| c.1 = pulled(c.0));
    }
    let mass: f64 = choices.iter().map(|c| c.1).sum();
    let more: f64 = topic
        .iter()
        .map(|(t, _)| pulled(*t) - f64::from(tilted[*t as usize]))
        .sum();
    let all = 1.0 + more;
    // What lies below this can have no place among the likeliest `top_p`: all of it
    // together is less than the rest that is cut off.
    let least = (1.0 - settings.top_p) * mass / choices.len().max(1) as f64;
    choices.retain(|c| c.1 >= least);
    choices.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut kept = 0.0;
    let enough = choices.iter().position(|c| {
        kept += c.1;
        kept >= settings.top_p * mass
    });
    choices.truncate(enough.map_or(choices.len(), |i| i + 1));
    let total: f64 = choices.iter().map(|c| c.1).sum();
    let mut at = rng.random::<f64>() * total;
    let chosen = choices.iter().find(|c| {
        at -= c.1;
        at <= 0.0
    });
    // A small vocabulary can run out of words for a line: `END` closes such a draft, whose
    // weight is nothing, and the writer leaves it out.
    let token = chosen.or(choices.last()).map_or(crate::vocab::END, |c| c.0);
    particle.weight += (mass / all).ln();
    particle.sum += f64::from(own[token as usize]);
    particle.tokens += 1;
    particle.draft.push(table, token);
    token
}

/// Which drafts go on, when the weights have become too uneven.
fn resample(particles: &[Particle], rng: &mut ChaCha8Rng) -> Option<Vec<usize>> {
    let most = particles
        .iter()
        .map(|p| p.weight)
        .fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = particles.iter().map(|p| (p.weight - most).exp()).collect();
    if !most.is_finite() {
        return None;
    }
    let sum: f64 = weights.iter().sum();
    let squares: f64 = weights.iter().map(|w| w * w).sum();
    let n = particles.len();
    if squares <= 0.0 || sum * sum / squares >= n as f64 / 2.0 {
        return None;
    }
    // Systematic resampling: one draw, n evenly spaced points.
    let start: f64 = rng.random();
    let (mut parents, mut reached, mut i) = (Vec::with_capacity(n), weights[0], 0);
    for k in 0..n {
        let point = (start + k as f64) / n as f64 * sum;
        while reached < point && i + 1 < n {
            i += 1;
            reached += weights[i];
        }
        parents.push(i);
    }
    Some(parents)
}
