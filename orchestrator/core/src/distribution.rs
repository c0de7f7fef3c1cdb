//! The shape of a distributed step: how many processes it is, what each is called, and by
//! which variables they find each other. Pure; who starts them is a launcher's matter.
//!
//! Words as PyTorch has them: an *instance* is a machine (or Pod) of the step, a *rank* one
//! process of its command, counted over all instances.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;

/// Most processes of one step, over all of its instances.
pub const MOST_RANKS: u32 = 1024;

/// `distribution`: how a step is several processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Distribution {
    /// The command once for each process, with the variables that `torch.distributed` reads.
    Pytorch {
        /// Processes on each instance.
        process_count_per_instance: u32,
    },
    /// The command once, by `mpirun`, on the first instance.
    Mpi {
        /// Processes on each instance.
        process_count_per_instance: u32,
    },
    /// The command once on each instance, with `TF_CONFIG`.
    Tensorflow {
        /// Workers.
        worker_count: u32,
        /// Parameter servers.
        parameter_server_count: u32,
    },
}

/// Where the processes of a step are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How many instances it has.
    pub instances: u32,
    /// How many processes of the command each instance starts.
    pub per_instance: u32,
}

/// What [`Distribution::variables`] has to know of where the processes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meeting {
    /// The address of each instance.
    pub addresses: Vec<String>,
    /// The port of each instance, on which its processes may listen: for `pytorch` that of
    /// the first alone counts.
    pub ports: Vec<u16>,
}

impl Distribution {
    /// As a file writes it.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Pytorch { .. } => "pytorch",
            Self::Mpi { .. } => "mpi",
            Self::Tensorflow { .. } => "tensorflow",
        }
    }

    /// Which processes of a step of `instances` are started by us: of `mpi` the one that
    /// starts the others.
    #[must_use]
    pub fn shape(&self, instances: u32) -> Shape {
        let instances = instances.max(1);
        match self {
            Self::Pytorch {
                process_count_per_instance: per_instance,
            } => Shape {
                instances,
                per_instance: (*per_instance).max(1),
            },
            Self::Mpi { .. } => Shape {
                instances: 1,
                per_instance: 1,
            },
            Self::Tensorflow { .. } => Shape {
                instances,
                per_instance: 1,
            },
        }
    }

    /// All processes of a step of `instances`, whoever starts them.
    #[must_use]
    pub fn processes(&self, instances: u32) -> u32 {
        let instances = instances.max(1);
        match self {
            Self::Pytorch {
                process_count_per_instance: each,
            }
            | Self::Mpi {
                process_count_per_instance: each,
            } => instances.saturating_mul((*each).max(1)),
            Self::Tensorflow { .. } => instances,
        }
    }

    /// Whether a rank is done by itself: a parameter server serves until all workers are.
    #[must_use]
    pub fn ends_by_itself(&self, rank: u32) -> bool {
        match self {
            Self::Pytorch { .. } | Self::Mpi { .. } => true,
            Self::Tensorflow { worker_count, .. } => rank < *worker_count,
        }
    }

    /// The variables of one rank.
    #[must_use]
    pub fn variables(
        &self,
        shape: Shape,
        rank: u32,
        meeting: &Meeting,
    ) -> BTreeMap<String, String> {
        let address = |instance: usize| meeting.addresses.get(instance).cloned();
        let port = |instance: usize| meeting.ports.get(instance).copied();
        match self {
            Self::Pytorch { .. } => {
                let (node, local) = (rank / shape.per_instance, rank % shape.per_instance);
                [
                    ("MASTER_ADDR", address(0).unwrap_or_default()),
                    ("MASTER_PORT", port(0).unwrap_or_default().to_string()),
                    ("WORLD_SIZE", shape.ranks().to_string()),
                    ("LOCAL_WORLD_SIZE", shape.per_instance.to_string()),
                    ("RANK", rank.to_string()),
                    ("LOCAL_RANK", local.to_string()),
                    ("NODE_RANK", node.to_string()),
                ]
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()
            }
            Self::Mpi { .. } => BTreeMap::new(),
            Self::Tensorflow {
                worker_count,
                parameter_server_count: _,
            } => {
                let hosts = |range: Range<u32>| -> Vec<String> {
                    range
                        .map(|rank| {
                            let (host, port) = (address(rank as usize), port(rank as usize));
                            format!("{}:{}", host.unwrap_or_default(), port.unwrap_or_default())
                        })
                        .collect()
                };
                let workers = (*worker_count).min(shape.instances);
                let mut cluster = BTreeMap::from([("worker", hosts(0..workers))]);
                if workers < shape.instances {
                    cluster.insert("ps", hosts(workers..shape.instances));
                }
                let (kind, index) = if rank < workers {
                    ("worker", rank)
                } else {
                    ("ps", rank - workers)
                };
                let config = serde_json::json!({
                    "cluster": cluster,
                    "task": {"type": kind, "index": index},
                });
                BTreeMap::from([("TF_CONFIG".to_owned(), config.to_string())])
            }
        }
    }
}

impl Shape {
    /// All processes.
    #[must_use]
    pub fn ranks(&self) -> u32 {
        self.instances.saturating_mul(self.per_instance)
    }

    /// Those of one instance.
    #[must_use]
    pub fn ranks_of(&self, instance: u32) -> Range<u32> {
        let first = instance.saturating_mul(self.per_instance);
        first..first.saturating_add(self.per_instance)
    }

    /// The instance of a rank.
    #[must_use]
    pub fn instance_of(&self, rank: u32) -> u32 {
        rank / self.per_instance.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::{Distribution, Meeting};

    fn meeting() -> Meeting {
        Meeting {
            addresses: vec!["10.0.0.1".to_owned(), "10.0.0.2".to_owned()],
            ports: vec![29500, 29501],
        }
    }

    #[test]
    fn each_rank_of_pytorch_knows_its_place() {
        let two_by_two = Distribution::Pytorch {
            process_count_per_instance: 2,
        };
        let shape = two_by_two.shape(2);
        assert_eq!(shape.ranks(), 4);
        assert_eq!(shape.ranks_of(1), 2..4);
        let seen: Vec<String> = (0..4)
            .map(|rank| {
                let mine = two_by_two.variables(shape, rank, &meeting());
                assert_eq!(mine["MASTER_ADDR"], "10.0.0.1");
                assert_eq!(mine["MASTER_PORT"], "29500");
                assert_eq!(mine["WORLD_SIZE"], "4");
                format!(
                    "{}{}{}",
                    mine["RANK"], mine["NODE_RANK"], mine["LOCAL_RANK"]
                )
            })
            .collect();
        assert_eq!(seen, ["000", "101", "210", "311"]);
    }

    #[test]
    fn tensorflow_has_workers_first_and_servers_that_never_end() {
        let both = Distribution::Tensorflow {
            worker_count: 1,
            parameter_server_count: 1,
        };
        let shape = both.shape(2);
        let config = &both.variables(shape, 1, &meeting())["TF_CONFIG"];
        let config: serde_json::Value = serde_json::from_str(config).unwrap();
        let expected = serde_json::json!({
            "cluster": {"worker": ["10.0.0.1:29500"], "ps": ["10.0.0.2:29501"]},
            "task": {"type": "ps", "index": 0},
        });
        assert_eq!(config, expected);
        assert!(both.ends_by_itself(0) && !both.ends_by_itself(1));
    }

    #[test]
    fn mpi_is_one_process_that_starts_the_others() {
        let mpi = Distribution::Mpi {
            process_count_per_instance: 4,
        };
        assert_eq!((mpi.shape(2).ranks(), mpi.processes(2)), (1, 8));
        assert!(mpi.variables(mpi.shape(2), 0, &meeting()).is_empty());
    }
}
