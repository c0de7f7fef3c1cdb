//! Optimisers whose state can be saved and restored: tch's own keep theirs where no
//! checkpoint can reach it. The update rules are PyTorch's, term for term.

use tch::Tensor;

use crate::weights::Tensors;

/// Adam (Kingma and Ba 2015), as `torch.optim.Adam`; weight decay as in AdamW.
#[derive(Debug)]
pub struct Adam {
    variables: Vec<(String, Tensor)>,
    first: Vec<Tensor>,
    second: Vec<Tensor>,
    steps: u64,
    /// The learning rate; may be changed between steps.
    pub lr: f64,
    /// Decay of the two moments.
    pub betas: (f64, f64),
    /// Added to the denominator.
    pub eps: f64,
    /// Decoupled weight decay (Loshchilov and Hutter 2019); 0 is plain Adam.
    pub weight_decay: f64,
}

impl Adam {
    /// An optimiser of `variables`, in the order of their names.
    pub fn new(variables: &Tensors, lr: f64, betas: (f64, f64)) -> Self {
        let variables = trainable(variables);
        let zeros = || {
            variables
                .iter()
                .map(|(_, v)| tch::no_grad(|| v.zeros_like()))
                .collect()
        };
        Self {
            first: zeros(),
            second: zeros(),
            steps: 0,
            lr,
            betas,
            eps: 1e-8,
            weight_decay: 0.0,
            variables,
        }
    }

    /// Forgets the gradients of the last step.
    pub fn zero_grad(&mut self) {
        zero_grad(&mut self.variables);
    }

    /// Scales the gradients so that their norm over all variables is at most `max`;
    /// returns the norm before.
    pub fn clip_grad_norm(&self, max: f64) -> f64 {
        clip_grad_norm(&self.variables, max)
    }

    /// One update from the gradients that are there.
    pub fn step(&mut self) {
        self.steps += 1;
        let (b1, b2) = self.betas;
        let t = self.steps.min(i32::MAX as u64) as i32;
        let (c1, c2) = (1.0 - b1.powi(t), 1.0 - b2.powi(t));
        tch::no_grad(|| {
            let moments = self.first.iter_mut().zip(&mut self.second);
            for ((_, variable), (first, second)) in self.variables.iter_mut().zip(moments) {
                let grad = variable.grad();
                if !grad.defined() {
                    continue;
                }
                if self.weight_decay > 0.0 {
                    let _ = variable.g_mul_scalar_(1.0 - self.lr * self.weight_decay);
                }
                let _ = first.lerp_(&grad, 1.0 - b1);
                let _ = second.g_mul_scalar_(b2);
                let _ = second.addcmul_(&grad, &grad);
                // `addcmul_` has no scale in tch: (1 - b2) is folded into what is read.
                let denominator =
                    (second.sqrt() * ((1.0 - b2).sqrt() / c2.sqrt())).g_add_scalar_(self.eps);
                let update = &*first / denominator * (self.lr / c1);
                let _ = variable.g_sub_(&update);
            }
        });
    }

    /// The state, for a checkpoint; names begin with `prefix`.
    pub fn state(&self, prefix: &str) -> Tensors {
        let mut all = Tensors::new();
        for (i, (name, _)) in self.variables.iter().enumerate() {
            all.insert(
                format!("{prefix}.first.{name}"),
                self.first[i].shallow_clone(),
            );
            all.insert(
                format!("{prefix}.second.{name}"),
                self.second[i].shallow_clone(),
            );
        }
        all.insert(
            format!("{prefix}.steps"),
            Tensor::from_slice(&[self.steps as i64]),
        );
        all
    }

    /// Restores what [`Adam::state`] gave. Returns false, and changes nothing more,
    /// where a tensor is missing or of another shape.
    #[must_use]
    pub fn restore(&mut self, prefix: &str, state: &Tensors) -> bool {
        let Some(steps) = state.get(&format!("{prefix}.steps")) else {
            return false;
        };
        self.steps = steps.int64_value(&[0]).max(0) as u64;
        self.variables.iter().enumerate().all(|(i, (name, _))| {
            copy(
                &mut self.first[i],
                state.get(&format!("{prefix}.first.{name}")),
            ) && copy(
                &mut self.second[i],
                state.get(&format!("{prefix}.second.{name}")),
            )
        })
    }
}

/// Plain stochastic gradient descent with weight decay, as `torch.optim.SGD` without
/// momentum: it has no state.
#[derive(Debug)]
pub struct Sgd {
    variables: Vec<(String, Tensor)>,
    /// The learning rate; may be changed between steps.
    pub lr: f64,
    /// L2 penalty.
    pub weight_decay: f64,
}

impl Sgd {
    /// An optimiser of `variables`.
    pub fn new(variables: &Tensors, lr: f64, weight_decay: f64) -> Self {
        Self {
            variables: trainable(variables),
            lr,
            weight_decay,
        }
    }

    /// Forgets the gradients of the last step.
    pub fn zero_grad(&mut self) {
        zero_grad(&mut self.variables);
    }

    /// See [`Adam::clip_grad_norm`].
    pub fn clip_grad_norm(&self, max: f64) -> f64 {
        clip_grad_norm(&self.variables, max)
    }

    /// One update from the gradients that are there.
    pub fn step(&mut self) {
        tch::no_grad(|| {
            for (_, variable) in &mut self.variables {
                let grad = variable.grad();
                if grad.defined() {
                    if self.weight_decay > 0.0 {
                        let _ = variable.g_mul_scalar_(1.0 - self.lr * self.weight_decay);
                    }
                    let _ = variable.g_sub_(&(grad * self.lr));
                }
            }
        });
    }
}

fn trainable(variables: &Tensors) -> Vec<(String, Tensor)> {
    variables
        .iter()
        .filter(|(_, v)| v.requires_grad())
        .map(|(name, v)| (name.clone(), v.shallow_clone()))
        .collect()
}

fn zero_grad(variables: &mut [(String, Tensor)]) {
    for (_, variable) in variables {
        variable.zero_grad();
    }
}

fn copy(target: &mut Tensor, source: Option<&Tensor>) -> bool {
    match source {
        Some(source) if source.size() == target.size() => {
            tch::no_grad(|| target.copy_(source));
            true
        }
        _ => false,
    }
}

fn clip_grad_norm(variables: &[(String, Tensor)], max: f64) -> f64 {
    tch::no_grad(|| {
        let grads: Vec<Tensor> = variables
            .iter()
            .map(|(_, v)| v.grad())
            .filter(Tensor::defined)
            .collect();
        let squares: Vec<Tensor> = grads
            .iter()
            .map(|g| g.square().sum(tch::Kind::Float))
            .collect();
        if squares.is_empty() {
            return 0.0;
        }
        let norm = Tensor::stack(&squares, 0)
            .sum(tch::Kind::Float)
            .sqrt()
            .double_value(&[]);
        if norm > max {
            for mut grad in grads {
                let _ = grad.g_mul_scalar_(max / (norm + 1e-6));
            }
        }
        norm
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::nn::{self, OptimizerConfig, VarStore};
    use tch::{Device, Kind};

    fn start(store: &VarStore) -> Tensor {
        let mut w = store.root().zeros("w", &[3]);
        tch::no_grad(|| w.copy_(&Tensor::from_slice(&[1f32, -2.0, 3.0])));
        w
    }

    fn loss(w: &Tensor) -> Tensor {
        (w.square() * Tensor::from_slice(&[1f32, 10.0, 0.1])).sum(Kind::Float)
    }

    #[test]
    fn adam_equals_libtorchs_own() {
        let (ours, theirs) = (VarStore::new(Device::Cpu), VarStore::new(Device::Cpu));
        let (a, b) = (start(&ours), start(&theirs));
        let mut one = Adam::new(&crate::weights::of_store(&ours), 0.1, (0.9, 0.999));
        let mut two = nn::Adam::default().build(&theirs, 0.1).unwrap();
        for _ in 0..50 {
            one.zero_grad();
            loss(&a).backward();
            one.step();
            two.backward_step(&loss(&b));
        }
        assert!(a.allclose(&b, 1e-5, 1e-6, false), "{a} {b}");
    }

    #[test]
    fn a_restored_adam_goes_on_as_the_first() {
        let train = |w: &Tensor, adam: &mut Adam, n: usize| {
            for _ in 0..n {
                adam.zero_grad();
                loss(w).backward();
                adam.step();
            }
        };
        let store = VarStore::new(Device::Cpu);
        let w = start(&store);
        let variables = crate::weights::of_store(&store);
        let mut first = Adam::new(&variables, 0.05, (0.9, 0.99));
        train(&w, &mut first, 5);
        let (saved, state) = (w.detach().copy(), first.state("opt"));
        let state: Tensors = state.into_iter().map(|(k, v)| (k, v.copy())).collect();
        train(&w, &mut first, 5);
        let end = w.detach().copy();
        tch::no_grad(|| w.shallow_clone().copy_(&saved));
        let mut second = Adam::new(&variables, 0.05, (0.9, 0.99));
        assert!(second.restore("opt", &state));
        train(&w, &mut second, 5);
        assert_eq!(w.detach(), end);
        assert!(!second.restore("other", &state));
    }

    #[test]
    fn clipping_bounds_the_norm() {
        let store = VarStore::new(Device::Cpu);
        let w = start(&store);
        let sgd = Sgd::new(&crate::weights::of_store(&store), 0.1, 0.0);
        loss(&w).backward();
        assert!(sgd.clip_grad_norm(1.0) > 30.0);
        assert!((w.grad().norm().double_value(&[]) - 1.0).abs() < 1e-4);
    }
}
