//! Which of how many processes this one is, as the environment says, and what of a batch is
//! its own.

use std::net::{IpAddr, ToSocketAddrs};
use std::time::Duration;

use super::GroupError;
use crate::device::Choice;
use crate::warm;

/// The arguments of a program that several processes may carry out; `#[command(flatten)]` them.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct GroupArgs {
    /// Seconds after which a process that does not come along is lost, where several train
    /// together (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT say so)
    #[arg(
        long,
        env = "AURIA_GROUP_TIMEOUT",
        hide_env_values = true,
        default_value_t = 120,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    pub group_timeout: u64,
}

impl GroupArgs {
    /// The same as a duration.
    pub fn timeout(self) -> Duration {
        Duration::from_secs(self.group_timeout)
    }
}

/// The place of a process among those that train together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its number, from 0.
    pub rank: usize,
    /// How many there are; at least two.
    pub size: usize,
    /// The host on which rank 0 can be found.
    pub host: String,
    /// The port there.
    pub port: u16,
}

/// The share of a member in a batch of sequences: `count` of them from `first` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The first sequence.
    pub first: i64,
    /// How many.
    pub count: i64,
    /// How many sequences all members have together.
    pub batch: i64,
}

impl Share {
    /// The whole of a batch.
    pub fn whole(batch: i64) -> Self {
        Self {
            first: 0,
            count: batch,
            batch,
        }
    }

    /// The share of `rank` of `size`; shares differ by one sequence at most.
    pub fn of(batch: i64, rank: usize, size: usize) -> Self {
        let edge = |rank: usize| batch * rank as i64 / size as i64;
        let first = edge(rank);
        Self {
            first,
            count: edge(rank + 1) - first,
            batch,
        }
    }

    /// Which part of the batch it is; the parts of all members sum to one.
    pub fn weight(self) -> f64 {
        self.count as f64 / self.batch as f64
    }
}

impl Place {
    /// What the environment says; none where it names no other process.
    ///
    /// # Errors
    /// A variable that is missing, or is no number where one is needed.
    pub fn from_env() -> Result<Option<Self>, GroupError> {
        Self::read(|name| warm::variable(name).map(|value| value.to_string_lossy().into_owned()))
    }

    fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, GroupError> {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        let Some(all) = variable("WORLD_SIZE") else {
            return Ok(None);
        };
        let wrong = |name, problem: String| GroupError::Variable {
            name,
            problem,
            size: all.clone(),
        };
        let needed = |name| variable(name).ok_or_else(|| wrong(name, "is not set".to_owned()));
        let number = |name, value: String, most: u64| match value.trim().parse::<u64>() {
            Ok(number) if number <= most => Ok(number),
            _ => Err(wrong(
                name,
                format!("is `{value}`, which is no number up to {most}"),
            )),
        };
        let size = number("WORLD_SIZE", all.clone(), 65_536)?;
        if size <= 1 {
            return Ok(None);
        }
        Ok(Some(Self {
            rank: number("RANK", needed("RANK")?, size - 1)? as usize,
            size: size as usize,
            host: needed("MASTER_ADDR")?,
            port: number("MASTER_PORT", needed("MASTER_PORT")?, u64::from(u16::MAX))? as u16,
        }))
    }

    /// The device that `choice` means for one of several processes.
    ///
    /// # Errors
    /// A GPU was asked for: gradients are reduced on the CPU.
    pub fn device(&self, choice: Choice) -> Result<tch::Device, GroupError> {
        match choice {
            Choice::Cuda => Err(GroupError::NoCuda),
            Choice::Auto | Choice::Cpu => Ok(tch::Device::Cpu),
        }
    }

    /// Where the others reach this process: the address from which it reaches rank 0. A name
    /// that cannot be looked up gives none.
    pub(super) fn own_address(&self) -> Option<IpAddr> {
        let places = (self.host.as_str(), self.port).to_socket_addrs().ok()?;
        places
            .filter_map(|place| {
                let any: IpAddr = match place {
                    std::net::SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
                    std::net::SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
                };
                // Nothing is sent: the kernel only says which address it would send from.
                let socket = std::net::UdpSocket::bind((any, 0)).ok()?;
                socket.connect(place).ok()?;
                Some(socket.local_addr().ok()?.ip())
            })
            .next()
    }
}

/// How many processes of the same training share the cores of this machine.
pub(crate) fn sharing_this_machine() -> usize {
    let number = |name: &str| -> Option<usize> { warm::variable(name)?.to_str()?.parse().ok() };
    let loopback = warm::variable("MASTER_ADDR")
        .and_then(|host| host.to_str()?.parse::<IpAddr>().ok())
        .is_some_and(|address| address.is_loopback());
    let name = if loopback {
        "WORLD_SIZE"
    } else {
        "LOCAL_WORLD_SIZE"
    };
    number(name).unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Option<Place>, GroupError> {
        Place::read(|name| {
            let found = pairs.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    const WHOLE: [(&str, &str); 4] = [
        ("WORLD_SIZE", "3"),
        ("RANK", "2"),
        ("MASTER_ADDR", "10.0.0.7"),
        ("MASTER_PORT", "29500"),
    ];

    #[test]
    fn a_place_is_read_and_what_is_wrong_is_named() {
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&[("WORLD_SIZE", "1")]).unwrap(), None);
        let place = read(&WHOLE).unwrap().unwrap();
        assert_eq!((place.rank, place.size, place.port), (2, 3, 29500));
        assert_eq!(place.host, "10.0.0.7");
        for missing in 1..WHOLE.len() {
            let mut some = WHOLE.to_vec();
            let (name, _) = some.remove(missing);
            let error = read(&some).unwrap_err().to_string();
            assert!(error.contains(&format!("{name} is not set")), "{error}");
        }
        for (at, value) in [(0, "many"), (1, "3"), (1, "-1"), (3, "70000")] {
            let mut some = WHOLE.to_vec();
            some[at].1 = value;
            let error = read(&some).unwrap_err().to_string();
            assert!(error.contains(WHOLE[at].0), "{error}");
            assert!(error.contains(&format!("`{value}`")), "{error}");
        }
    }

    #[test]
    fn shares_are_all_of_a_batch() {
        for (batch, size) in [(16, 2), (16, 3), (5, 5), (7, 2), (3, 4)] {
            let shares: Vec<Share> = (0..size).map(|rank| Share::of(batch, rank, size)).collect();
            let mut next = 0;
            for share in &shares {
                assert_eq!((share.first, share.batch), (next, batch));
                next += share.count;
            }
            assert_eq!(next, batch);
            let counts: Vec<i64> = shares.iter().map(|share| share.count).collect();
            assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
            let sum: f64 = shares.iter().map(|share| share.weight()).sum();
            assert!((sum - 1.0).abs() < 1e-12);
        }
        assert_eq!(Share::of(9, 0, 1), Share::whole(9));
    }

    #[test]
    fn a_process_beside_rank_0_is_reached_over_loopback() {
        let place = Place {
            rank: 0,
            size: 2,
            host: "127.0.0.1".to_owned(),
            port: 29500,
        };
        assert!(place.own_address().unwrap().is_loopback());
    }
}
