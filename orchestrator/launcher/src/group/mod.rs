//! The processes of a distributed step that one launcher starts: all of them on one
//! machine, those of one instance in a Pod. Which variables each is given, how what they
//! write becomes one, and which of their ends is the attempt's.

mod merge;
pub(crate) mod peers;
mod port;

pub(crate) use merge::{Conflict, merge};
#[cfg(feature = "brokered")]
pub(crate) use peers::Ends;
pub(crate) use peers::{Others, Peers};

use crate::command::{EndedBy, Finished};
use crate::failure::{Failure, verdict};
use auria_core::distribution::{Distribution, Meeting, Shape};
use auria_core::outcome::Cause;
use auria_core::ticket::Ticket;
use port::Port;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Where the processes of a Pod meet: PyTorch's own default.
const POD_PORT: u16 = 29_500;

/// The processes of a distributed step that this launcher starts.
#[derive(Debug)]
pub(crate) struct Group {
    distribution: Distribution,
    shape: Shape,
    /// Those that this launcher starts.
    ranks: Range<u32>,
    meeting: Meeting,
    /// Processes of one `mpirun`.
    processes: u32,
    /// Instances on this machine, that of `mpirun` included.
    hosted: u32,
    /// Held until the attempt has ended.
    _ports: Vec<Port>,
}

impl Group {
    /// All processes of a step on this machine; none of one that is not distributed.
    ///
    /// # Errors
    /// Where no ports are free.
    pub(crate) fn here(ticket: &Ticket) -> Result<Option<Self>, Failure> {
        let Some(distribution) = ticket.distribution else {
            return Ok(None);
        };
        let shape = distribution.shape(ticket.resources.instances);
        let wanted = match distribution {
            Distribution::Pytorch { .. } => 1,
            Distribution::Mpi { .. } => 0,
            Distribution::Tensorflow { .. } => shape.instances,
        };
        let ports: Result<Vec<Port>, _> = (0..wanted).map(|_| Port::reserve()).collect();
        let ports = ports.map_err(|error| {
            Failure::of_disk(
                "no port is free at which its processes could find each other",
                &error,
            )
        })?;
        let meeting = Meeting {
            addresses: vec!["127.0.0.1".to_owned(); shape.instances as usize],
            ports: ports.iter().map(Port::number).collect(),
        };
        Ok(Some(Self {
            distribution,
            shape,
            ranks: 0..shape.ranks(),
            meeting,
            processes: distribution.processes(ticket.resources.instances),
            hosted: ticket.resources.instances.max(1),
            _ports: ports,
        }))
    }

    /// The processes of one instance, in a Pod of its own; `addresses` are those of all.
    #[cfg_attr(
        not(feature = "brokered"),
        allow(dead_code, reason = "Pods reach their store through a broker")
    )]
    pub(crate) fn in_pod(
        distribution: Distribution,
        instances: u32,
        instance: u32,
        addresses: Vec<String>,
    ) -> Self {
        let shape = distribution.shape(instances);
        Self {
            distribution,
            shape,
            ranks: shape.ranks_of(instance),
            // A Pod has all ports for itself.
            meeting: Meeting {
                ports: vec![POD_PORT; addresses.len()],
                addresses,
            },
            processes: distribution.processes(instances),
            hosted: 1,
            _ports: Vec::new(),
        }
    }

    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// Whether all processes of an instance serve others.
    pub(crate) fn all_serve(&self, instance: u32) -> bool {
        self.shape.ranks_of(instance).all(|rank| self.serves(rank))
    }

    /// The processes that this launcher starts.
    pub(crate) fn ranks(&self) -> Range<u32> {
        self.ranks.clone()
    }

    /// The instances whose processes this launcher starts.
    pub(crate) fn instances(&self) -> Range<u32> {
        let last = self.ranks.end.saturating_sub(1);
        self.instance_of(self.ranks.start)..self.instance_of(last) + 1
    }

    pub(crate) fn instance_of(&self, rank: u32) -> u32 {
        self.shape.instance_of(rank)
    }

    /// How many processes share what an instance asked for.
    pub(crate) fn per_instance(&self) -> u32 {
        self.shape.per_instance
    }

    /// How many instances are on this machine.
    pub(crate) fn hosted(&self) -> u32 {
        self.hosted
    }

    /// Whether the others' end is this one's, too.
    pub(crate) fn serves(&self, rank: u32) -> bool {
        !self.distribution.ends_by_itself(rank)
    }

    /// The variables by which a process finds the others.
    pub(crate) fn variables(&self, rank: u32) -> BTreeMap<String, String> {
        let mut variables = self.distribution.variables(self.shape, rank, &self.meeting);
        if matches!(self.distribution, Distribution::Mpi { .. }) && nix::unistd::getuid().is_root()
        {
            // Open MPI asks twice whether root means it.
            for name in ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] {
                variables.insert(name.to_owned(), "1".to_owned());
            }
        }
        variables
    }

    /// The text for the shell that starts `command`: itself, or `mpirun` with it. `hosts`
    /// is where the list of hosts is written, `path` where `mpirun` is looked for.
    ///
    /// # Errors
    /// Where there is no `mpirun`, or the list cannot be written.
    pub(crate) fn started(
        &self,
        command: String,
        hosts: &Path,
        path: &std::ffi::OsStr,
    ) -> Result<String, Failure> {
        let Distribution::Mpi { .. } = self.distribution else {
            return Ok(command);
        };
        let found = std::env::split_paths(path).any(|folder| folder.join("mpirun").is_file());
        if !found {
            return Err(Failure::new(
                Cause::Image,
                "there is no `mpirun` in its PATH: `distribution` of type `mpi` needs Open MPI or MPICH where the step runs",
            ));
        }
        // A line for each process: Open MPI and MPICH both count hosts that are named twice.
        let line = format!(
            "{}\n",
            self.meeting.addresses.first().map_or("127.0.0.1", |a| a)
        );
        std::fs::write(hosts, line.repeat(self.processes as usize))
            .map_err(|error| Failure::of_disk("could not write the list of hosts", &error))?;
        let quoted = command.replace('\'', r"'\''");
        Ok(format!(
            "exec mpirun -np {} --hostfile '{}' \"$0\" -c '{quoted}'",
            self.processes,
            hosts.display()
        ))
    }

    /// Whether the processes ended well; else which of them did not, first of all.
    pub(crate) fn verdict(
        &self,
        finished: &[Finished],
        timeout_ms: Option<u64>,
    ) -> Result<(), (u32, Failure)> {
        let failures = self.ranks().zip(finished).filter_map(|(rank, finished)| {
            let failure = verdict(finished, timeout_ms).err()?;
            Some((rank, finished, failure))
        });
        let first = failures.min_by_key(|(rank, finished, _)| {
            // What was made to end says nothing of why. Of those that fell together, one
            // that was killed has rather drawn the others along.
            (
                finished.ended_by.is_some(),
                !finished.out_of_memory,
                finished.signal.is_none(),
                *rank,
            )
        });
        match first {
            None => Ok(()),
            Some((rank, finished, mut failure)) => {
                if !matches!(finished.ended_by, Some(EndedBy::Timeout | EndedBy::Stop(_))) {
                    failure.message =
                        format!("rank {rank} of {}: {}", self.shape.ranks(), failure.message);
                }
                Err((rank, failure))
            }
        }
    }

    /// The folders in which the processes wrote one output, by rank.
    pub(crate) fn written(&self, place: impl Fn(u32) -> PathBuf) -> Vec<(u32, PathBuf)> {
        self.ranks().map(|rank| (rank, place(rank))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Group;
    use crate::command::{EndedBy, Finished};
    use auria_core::distribution::{Distribution, Meeting};
    use auria_core::outcome::Cause;
    use std::time::Duration;

    fn group() -> Group {
        let distribution = Distribution::Pytorch {
            process_count_per_instance: 1,
        };
        let shape = distribution.shape(3);
        Group {
            distribution,
            shape,
            ranks: 0..3,
            meeting: Meeting {
                addresses: Vec::new(),
                ports: Vec::new(),
            },
            processes: 3,
            hosted: 3,
            _ports: Vec::new(),
        }
    }

    fn finished(code: i32, ended_by: Option<EndedBy>) -> Finished {
        Finished {
            code,
            signal: (code > 128).then_some(code - 128),
            ran: Duration::ZERO,
            ended_by,
            out_of_memory: false,
            left_behind: 0,
        }
    }

    #[test]
    fn the_first_to_fall_is_named_and_not_those_that_it_drew_along() {
        let verdict = |ends: [Finished; 3]| {
            group()
                .verdict(&ends, None)
                .map_err(|(rank, failure)| (rank, failure.cause, failure.message))
        };
        let well = || finished(0, None);
        assert_eq!(verdict([well(), well(), well()]), Ok(()));
        let drawn = || finished(143, Some(EndedBy::Peer));
        let (rank, cause, message) = verdict([drawn(), finished(3, None), drawn()]).unwrap_err();
        assert_eq!((rank, cause), (1, Cause::Exit));
        assert_eq!(message, "rank 1 of 3: the command exited with 3");
        // They fell together: rank 2 was killed, and rank 0 saw its connection close.
        let together = [finished(1, None), drawn(), finished(137, None)];
        assert_eq!(verdict(together).unwrap_err().0, 2);
        let stopped = || finished(143, Some(EndedBy::Stop(Cause::Evicted)));
        let (_, cause, message) = verdict([stopped(), well(), stopped()]).unwrap_err();
        assert_eq!(cause, Cause::Evicted);
        assert!(message.starts_with("its launcher got SIGTERM"), "{message}");
    }

    #[test]
    fn without_mpirun_an_mpi_step_says_what_is_missing() {
        let mut mpi = group();
        mpi.distribution = Distribution::Mpi {
            process_count_per_instance: 3,
        };
        let dir = tempfile::tempdir().unwrap();
        let hosts = dir.path().join("hosts");
        let start =
            |path: &std::path::Path| mpi.started("echo 'a'".into(), &hosts, path.as_os_str());
        let failure = start(dir.path()).unwrap_err();
        assert_eq!(failure.cause, Cause::Image);
        assert!(
            failure.message.contains("no `mpirun`"),
            "{}",
            failure.message
        );
        std::fs::write(dir.path().join("mpirun"), "").unwrap();
        let text = start(dir.path()).unwrap();
        assert!(text.starts_with("exec mpirun -np 3 --hostfile "), "{text}");
        assert!(text.ends_with(r#""$0" -c 'echo '\''a'\'''"#), "{text}");
        let lines = std::fs::read_to_string(&hosts).unwrap();
        assert_eq!(lines, "127.0.0.1\n".repeat(3));
    }
}
