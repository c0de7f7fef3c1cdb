//! The deep attentional multimodal similarity model (section 3.2): how well captions
//! and pictures fit, by words and regions, and by sentence and whole.

use tch::{Kind, Tensor};

use super::Config;
use super::image_encoder::Seen;
use super::text_encoder::Encoded;

/// Keeps a length from being zero.
const EPSILON: f64 = 1e-8;

/// The two losses of a batch, each the sum of both directions.
#[derive(Debug)]
pub struct Loss {
    /// L1w + L2w.
    pub words: Tensor,
    /// L1s + L2s.
    pub sentences: Tensor,
}

impl Loss {
    /// All four terms.
    pub fn total(&self) -> Tensor {
        &self.words + &self.sentences
    }
}

/// Cosine of vectors along `dim`.
fn cosine(a: &Tensor, b: &Tensor, dim: i64) -> Tensor {
    let dims = [dim];
    let dot = (a * b).sum_dim_intlist(dims.as_slice(), false, Kind::Float);
    let norm = |t: &Tensor| {
        t.square()
            .sum_dim_intlist(dims.as_slice(), false, Kind::Float)
            .clamp_min(EPSILON)
            .sqrt()
    };
    dot / (norm(a) * norm(b))
}

/// R(Q, D): the attention-driven match of every picture with every caption,
/// `[pictures, captions]` (equations 7 to 10).
pub fn word_scores(config: &Config, seen: &Seen, text: &Encoded) -> Tensor {
    let pictures = seen.regions.size()[0];
    let width = seen.regions.size()[1];
    let (captions, _, _) = text.words.size3().unwrap_or((0, 0, 0));
    // v: [pictures, D, regions]
    let v = seen.regions.reshape([pictures, width, -1]);
    let mut columns = Vec::new();
    for caption in 0..captions {
        // e: [D, T], only the caption's own words
        let ended = text.padding.get(caption);
        let length = ended.logical_not().sum(Kind::Int64).int64_value(&[]);
        let e = text.words.get(caption).narrow(1, 0, length);
        // s = eᵀ v: [pictures, T, regions], normalised over words (equation 8)
        let s = e.tr().unsqueeze(0).matmul(&v).softmax(1, Kind::Float);
        // α over regions (equation 9): [pictures, T, regions]
        let alpha = (s * config.gamma1).softmax(2, Kind::Float);
        // c = Σ α v: [pictures, D, T]
        let c = v.matmul(&alpha.transpose(1, 2));
        // R(c, e): [pictures, T]; log Σ exp(γ2 R) / γ2: [pictures] (equation 10)
        let r = cosine(&c, &e.unsqueeze(0), 1);
        columns.push((r * config.gamma2).logsumexp([1i64].as_slice(), false) / config.gamma2);
    }
    Tensor::stack(&columns, 1)
}

/// Cosine of every picture's whole with every sentence: `[pictures, captions]`.
pub fn sentence_scores(seen: &Seen, text: &Encoded) -> Tensor {
    cosine(&seen.whole.unsqueeze(1), &text.sentence.unsqueeze(0), 2)
}

/// -log P(D|Q) and -log P(Q|D) of the pairs on the diagonal (equations 11 to 13).
/// `same`, `[batch, batch]`: pairs beside the diagonal whose captions fit as well, which
/// are left out of the sums.
fn posterior(config: &Config, scores: &Tensor, same: &Tensor) -> Tensor {
    let batch = scores.size()[0];
    let logits = (scores * config.gamma3).masked_fill(same, f64::NEG_INFINITY);
    let target = Tensor::arange(batch, (Kind::Int64, scores.device()));
    logits.cross_entropy_for_logits(&target) + logits.tr().cross_entropy_for_logits(&target)
}

/// The DAMSM loss of a batch in which picture i belongs to caption i.
pub fn loss(config: &Config, seen: &Seen, text: &Encoded, same: &Tensor) -> Loss {
    Loss {
        words: posterior(config, &word_scores(config, seen, text), same),
        sentences: posterior(config, &sentence_scores(seen, text), same),
    }
}
