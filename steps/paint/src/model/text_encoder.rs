//! The text encoder: a bidirectional LSTM (section 3.2 of the paper).

use tch::nn::{self, Init, Path};
use tch::{Device, Kind, Tensor};

use super::Config;

/// Captions as numbers, padded to one length.
#[derive(Debug)]
pub struct Captions {
    /// `[batch, words]`, int64; 0 where a caption has ended.
    pub words: Tensor,
    /// `[batch]`, int64, on the CPU; at least 1 each.
    pub lengths: Tensor,
}

/// What the encoder makes of captions.
#[derive(Debug)]
pub struct Encoded {
    /// e: `[batch, D, words]`, a column for each word.
    pub words: Tensor,
    /// ē: `[batch, D]`, one vector for the whole caption.
    pub sentence: Tensor,
    /// `[batch, words]`, true where a caption has ended.
    pub padding: Tensor,
}

impl Encoded {
    /// The captions of the given rows.
    pub fn select(&self, rows: &Tensor) -> Self {
        Self {
            words: self.words.index_select(0, rows),
            sentence: self.sentence.index_select(0, rows),
            padding: self.padding.index_select(0, rows),
        }
    }
}

/// Embedding and bidirectional LSTM.
#[derive(Debug)]
pub struct TextEncoder {
    embedding: nn::Embedding,
    lstm: Vec<Tensor>,
    hidden: i64,
    dropout: f64,
}

impl TextEncoder {
    /// A new encoder under `p`.
    pub fn new(p: &Path<'_>, config: &Config) -> Self {
        // The authors' 0.1 is too quiet for narrow embeddings to be heard by the LSTM.
        let loud = (3.0 / (config.embedding as f64).sqrt()).max(0.1);
        let uniform = Init::Uniform {
            lo: -loud,
            up: loud,
        };
        let embedding_config = nn::EmbeddingConfig {
            ws_init: uniform,
            padding_idx: 0,
            ..Default::default()
        };
        let embedding = nn::embedding(
            p / "encoder",
            config.vocabulary,
            config.embedding,
            embedding_config,
        );
        let hidden = config.shared / 2;
        let rnn = p / "rnn";
        let bound = 1.0 / (hidden as f64).sqrt();
        let init = Init::Uniform {
            lo: -bound,
            up: bound,
        };
        let mut lstm = Vec::new();
        for direction in ["", "_reverse"] {
            for (name, shape) in [
                ("weight_ih_l0", vec![4 * hidden, config.embedding]),
                ("weight_hh_l0", vec![4 * hidden, hidden]),
                ("bias_ih_l0", vec![4 * hidden]),
                ("bias_hh_l0", vec![4 * hidden]),
            ] {
                lstm.push(rnn.var(&format!("{name}{direction}"), &shape, init));
            }
        }
        Self {
            embedding,
            lstm,
            hidden,
            dropout: config.dropout,
        }
    }

    /// Encodes captions; each word's column holds both directions' states.
    pub fn forward(&self, captions: &Captions, train: bool) -> Encoded {
        let device = captions.words.device();
        let (batch, length) = captions.words.size2().unwrap_or((0, 0));
        // Packing wants the longest first; the order is put back at the end.
        let (lengths, order) = captions.lengths.sort(0, true);
        let back = order.argsort(0, false).to_device(device);
        let words = captions.words.index_select(0, &order.to_device(device));
        // [batch, words, embedding]
        let embedded = words.apply(&self.embedding).dropout(self.dropout, train);
        let (packed, sizes) = embedded.internal_pack_padded_sequence(&lengths, true);
        let zeros = Tensor::zeros([2, batch, self.hidden], (Kind::Float, device));
        let states = [&zeros, &zeros];
        let weights: Vec<&Tensor> = self.lstm.iter().collect();
        let (out, last, _) = Tensor::lstm_data(
            &packed, &sizes, &states, &weights, true, 1, 0.0, train, true,
        );
        // [batch, words, D], with zeros after each caption's end
        let (columns, _) = Tensor::internal_pad_packed_sequence(&out, &sizes, true, 0.0, length);
        // [2, batch, hidden] to [batch, D]
        let sentence = last.transpose(0, 1).reshape([batch, 2 * self.hidden]);
        Encoded {
            words: columns.index_select(0, &back).transpose(1, 2).contiguous(),
            sentence: sentence.index_select(0, &back),
            padding: padding(&captions.lengths, length).to_device(device),
        }
    }
}

/// `[batch, words]`, true from each caption's end on.
fn padding(lengths: &Tensor, length: i64) -> Tensor {
    Tensor::arange(length, (Kind::Int64, Device::Cpu))
        .unsqueeze(0)
        .ge_tensor(&lengths.unsqueeze(1))
}
