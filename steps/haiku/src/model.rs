//! The network: an AWD-LSTM (Merity, Keskar and Socher, "Regularizing and Optimizing
//! LSTM Language Models", ICLR 2018). Shapes: T tokens, B sequences, E embedding, H
//! hidden, V vocabulary. Never samples and never trains.

use auria_steps_common::device::reseed;
use auria_steps_common::distributed::Share;
use auria_steps_common::weights::{self, Tensors};
use tch::nn::{Init, VarStore};
use tch::{Device, Kind, Tensor};

use crate::config::Model as Config;

/// The weights of one layer.
#[derive(Debug)]
struct Layer {
    /// `[4 width, input]`
    w_ih: Tensor,
    /// `[4 width, width]`
    w_hh: Tensor,
    /// `[4 width]`
    b_ih: Tensor,
    /// `[4 width]`
    b_hh: Tensor,
    width: i64,
}

/// The network.
#[derive(Debug)]
pub struct Model {
    store: VarStore,
    /// `[V, E]`, tied: it embeds the input and scores the output.
    embedding: Tensor,
    /// `[V]`
    bias: Tensor,
    layers: Vec<Layer>,
    config: Config,
}

/// What the layers remember: for each, `h` and `c`, `[1, B, width]`.
#[derive(Debug)]
pub struct State(pub Vec<(Tensor, Tensor)>);

impl State {
    /// The same values, without the way they came.
    pub fn detach(&self) -> Self {
        Self(
            self.0
                .iter()
                .map(|(h, c)| (h.detach(), c.detach()))
                .collect(),
        )
    }

    /// A member's share of the sequences of the whole batch.
    pub fn narrow(&self, share: Share) -> Self {
        let part = |whole: &Tensor| whole.narrow(1, share.first, share.count).contiguous();
        Self(self.0.iter().map(|(h, c)| (part(h), part(c))).collect())
    }

    /// How many sequences it is of.
    pub fn batch(&self) -> i64 {
        self.0.first().map_or(0, |(h, _)| h.size()[1])
    }

    /// The given sequences of the batch.
    pub fn select(&self, rows: &Tensor) -> Self {
        Self(
            self.0
                .iter()
                .map(|(h, c)| (h.index_select(1, rows), c.index_select(1, rows)))
                .collect(),
        )
    }

    /// As named tensors, for a checkpoint.
    pub fn tensors(&self) -> Tensors {
        let pairs = self.0.iter().enumerate();
        pairs
            .flat_map(|(i, (h, c))| {
                [
                    (format!("state.{i}.h"), h.shallow_clone()),
                    (format!("state.{i}.c"), c.shallow_clone()),
                ]
            })
            .collect()
    }

    /// From what [`State::tensors`] gave.
    pub fn restore(tensors: &Tensors, layers: i64) -> Option<Self> {
        let get = |i, part| {
            tensors
                .get(&format!("state.{i}.{part}"))
                .map(Tensor::shallow_clone)
        };
        (0..layers)
            .map(|i| Some((get(i, "h")?, get(i, "c")?)))
            .collect::<Option<_>>()
            .map(Self)
    }
}

/// What a training step needs of a forward pass.
#[derive(Debug)]
pub struct Output {
    /// Log-odds of the next token, `[T, B, V]`.
    pub logits: Tensor,
    /// The last layer's output before dropout, `[T, B, E]`.
    pub raw: Tensor,
    /// The same after dropout.
    pub dropped: Tensor,
    /// What is remembered at the end.
    pub state: State,
}

impl Model {
    /// A network whose first weights are drawn from `seed`.
    pub fn new(config: &Config, seed: u64, device: Device) -> Self {
        reseed(seed, u64::MAX);
        let store = VarStore::new(device);
        let root = store.root();
        let uniform = |bound: f64| Init::Uniform {
            lo: -bound,
            up: bound,
        };
        let embedding = root.var("embedding", &[config.vocab, config.embedding], uniform(0.1));
        let bias = root.var("bias", &[config.vocab], Init::Const(0.0));
        let layers = (0..config.layers)
            .map(|i| {
                let input = if i == 0 {
                    config.embedding
                } else {
                    config.hidden
                };
                let width = if i + 1 == config.layers {
                    config.embedding
                } else {
                    config.hidden
                };
                let bound = 1.0 / (width as f64).sqrt();
                let path = root.sub(format!("lstm{i}"));
                let var = |name: &str, shape: &[i64]| path.var(name, shape, uniform(bound));
                Layer {
                    w_ih: var("w_ih", &[4 * width, input]),
                    w_hh: var("w_hh", &[4 * width, width]),
                    b_ih: var("b_ih", &[4 * width]),
                    b_hh: var("b_hh", &[4 * width]),
                    width,
                }
            })
            .collect();
        Self {
            store,
            embedding,
            bias,
            layers,
            config: config.clone(),
        }
    }

    /// Its settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where it lives.
    pub fn device(&self) -> Device {
        self.store.device()
    }

    /// Its weights by name.
    pub fn tensors(&self) -> Tensors {
        weights::of_store(&self.store)
    }

    /// Its store of weights, to load into.
    pub fn store_mut(&mut self) -> &mut VarStore {
        &mut self.store
    }

    /// Sets the output bias, `[V]`.
    pub fn set_bias(&mut self, values: &[f32]) {
        tch::no_grad(|| self.bias.copy_(&Tensor::from_slice(values)));
    }

    /// The tied embedding, `[V, E]`.
    pub fn embedding(&self) -> &Tensor {
        &self.embedding
    }

    /// Nothing remembered.
    pub fn zero_state(&self, batch: i64) -> State {
        let zeros = |width| Tensor::zeros([1, batch, width], (Kind::Float, self.device()));
        State(
            self.layers
                .iter()
                .map(|l| (zeros(l.width), zeros(l.width)))
                .collect(),
        )
    }

    /// Reads `tokens`, `[T, B]`, after `state`. In training, all five dropouts work, and
    /// `training` says which sequences of the whole batch these are: masks are drawn for the
    /// whole, so that several processes drop together what one would drop.
    pub fn forward(&self, tokens: &Tensor, state: &State, training: Option<Share>) -> Output {
        let c = &self.config;
        let train = training.is_some();
        let embedded = if train && c.dropout_embedding > 0.0 {
            // Whole words are dropped, the others scaled.
            let mask = mask(&[c.vocab, 1], c.dropout_embedding, self.device());
            Tensor::embedding(&(&self.embedding * mask), tokens, -1, false, false)
        } else {
            Tensor::embedding(&self.embedding, tokens, -1, false, false)
        };
        let mut x = locked(embedded, c.dropout_input, training);
        let mut next = Vec::with_capacity(self.layers.len());
        let mut raw = x.shallow_clone();
        for (i, (layer, (h, cell))) in self.layers.iter().zip(&state.0).enumerate() {
            let w_hh = layer.w_hh.dropout(c.weight_drop, train);
            let params = [&layer.w_ih, &w_hh, &layer.b_ih, &layer.b_hh];
            let (out, h, cell) = x.lstm(&[h, cell], &params, true, 1, 0.0, train, false, false);
            next.push((h, cell));
            let last = i + 1 == self.layers.len();
            x = locked(
                out.shallow_clone(),
                if last {
                    c.dropout_output
                } else {
                    c.dropout_hidden
                },
                training,
            );
            raw = out;
        }
        let logits = x.matmul(&self.embedding.tr()) + &self.bias;
        Output {
            logits,
            raw,
            dropped: x,
            state: State(next),
        }
    }

    /// The loss of a training step in nats per token: cross-entropy for `targets`,
    /// `[T, B]`, and with both activation regularisers.
    pub fn loss(&self, output: &Output, targets: &Tensor) -> (Tensor, Tensor) {
        let c = &self.config;
        let flat = output.logits.view([-1, c.vocab]);
        let cross = flat.cross_entropy_for_logits(&targets.reshape([-1]));
        let size = output.dropped.square().mean(Kind::Float) * c.alpha;
        let steps = output.raw.size()[0];
        let change = if steps > 1 {
            let next = output.raw.narrow(0, 1, steps - 1);
            (next - output.raw.narrow(0, 0, steps - 1))
                .square()
                .mean(Kind::Float)
                * c.beta
        } else {
            size.zeros_like()
        };
        let all = &cross + size + change;
        (cross, all)
    }
}

/// A dropout mask of a shape, scaled so that the mean stays.
fn mask(shape: &[i64], share: f64, device: Device) -> Tensor {
    Tensor::rand(shape, (Kind::Float, device))
        .ge(share)
        .to_kind(Kind::Float)
        / (1.0 - share)
}

/// Locked (variational) dropout: one mask for all steps of time.
fn locked(x: Tensor, dropped: f64, training: Option<Share>) -> Tensor {
    let Some(share) = training.filter(|_| dropped > 0.0) else {
        return x;
    };
    let width = x.size()[2];
    let mask = mask(&[1, share.batch, width], dropped, x.device());
    &x * mask.narrow(1, share.first, share.count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Config {
        Config {
            vocab: 20,
            embedding: 6,
            hidden: 8,
            layers: 3,
            ..Config::published()
        }
    }

    #[test]
    fn the_published_sizes_have_the_published_number_of_weights() {
        let model = Model::new(&Config::published(), 1, Device::Cpu);
        let count = weights::count(&model.tensors());
        // "24M parameters" in the paper's table 2.
        assert!((23_500_000..25_000_000).contains(&count), "{count}");
    }

    #[test]
    fn reading_in_two_parts_is_reading_in_one() {
        let model = Model::new(&small(), 3, Device::Cpu);
        let tokens = Tensor::from_slice(&[1i64, 5, 7, 2, 9, 11, 3, 4]).view([4, 2]);
        let whole = model.forward(&tokens, &model.zero_state(2), None);
        let first = model.forward(&tokens.narrow(0, 0, 2), &model.zero_state(2), None);
        let second = model.forward(&tokens.narrow(0, 2, 2), &first.state, None);
        let joined = Tensor::cat(&[first.logits, second.logits], 0);
        assert!(whole.logits.allclose(&joined, 1e-5, 1e-6, false));
        assert_eq!(whole.logits.size(), [4, 2, 20]);
    }

    #[test]
    fn a_locked_mask_is_one_for_all_time_and_keeps_the_mean() {
        reseed(5, 0);
        let x = Tensor::ones([7, 40, 50], (Kind::Float, Device::Cpu));
        let all = Some(Share::whole(40));
        let y = locked(x.shallow_clone(), 0.4, all);
        assert_eq!(y.get(0), y.get(6));
        assert!((y.mean(Kind::Float).double_value(&[]) - 1.0).abs() < 0.06);
        assert_eq!(locked(x.shallow_clone(), 0.4, None), x);
        // A member's part is that of the whole.
        reseed(5, 0);
        let part = locked(x.narrow(1, 0, 13), 0.4, Some(Share::of(40, 1, 3)));
        assert_eq!(part, y.narrow(1, 13, 13));
    }

    #[test]
    fn the_regularisers_only_add() {
        let model = Model::new(&small(), 3, Device::Cpu);
        let tokens = Tensor::from_slice(&[1i64, 5, 7, 2]).view([2, 2]);
        let output = model.forward(&tokens, &model.zero_state(2), None);
        let (cross, all) = model.loss(&output, &tokens);
        assert!(all.double_value(&[]) > cross.double_value(&[]));
        // Before training every token is about as likely.
        assert!((cross.double_value(&[]) - 20f64.ln()).abs() < 0.3);
    }
}
