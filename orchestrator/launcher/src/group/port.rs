//! A port of this machine that nobody else is given meanwhile, without listening on it: the
//! step's own process does that. The kernel gives unbound sockets ports of one range, so
//! one is taken outside of it; and among launchers, whosever they are, the name of an
//! abstract socket says who has it, which goes with its process.

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};

/// Where the kernel says which ports it gives.
const GIVEN: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// Below are ports of well-known services.
const LOWEST: u32 = 10_240;
/// A smaller range is none.
const FEWEST: u32 = 256;

/// A port that is held until this is dropped.
#[derive(Debug)]
pub(super) struct Port {
    number: u16,
    _name: OwnedFd,
}

impl Port {
    /// Takes a port that is free.
    ///
    /// # Errors
    /// Where none is.
    pub(super) fn reserve() -> io::Result<Self> {
        let range = outside(&std::fs::read_to_string(GIVEN).unwrap_or_default());
        let count = range.end - range.start;
        let first = rand::random::<u32>() % count;
        for step in 0..count {
            let number = range.start + (first + step) % count;
            let Ok(number) = u16::try_from(number) else {
                continue;
            };
            if let Some(port) = Self::take(number)? {
                return Ok(port);
            }
        }
        Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("all ports from {} to {} are taken", range.start, range.end),
        ))
    }

    fn take(number: u16) -> io::Result<Option<Self>> {
        let name = socket::socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        let address = UnixAddr::new_abstract(format!("auria-pipeline/port/{number}").as_bytes())?;
        if socket::bind(name.as_raw_fd(), &address).is_err() {
            return Ok(None);
        }
        // A program that is none of ours may have it.
        let free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)).is_ok();
        Ok(free.then_some(Self {
            number,
            _name: name,
        }))
    }

    pub(super) fn number(&self) -> u16 {
        self.number
    }
}

/// The larger range of ports outside of `given`, what the kernel says of its own.
fn outside(given: &str) -> Range<u32> {
    let mut numbers = given.split_whitespace().map(str::parse::<u32>);
    let (low, high) = match (numbers.next(), numbers.next()) {
        (Some(Ok(low)), Some(Ok(high))) => (low, high),
        _ => (32_768, 60_999),
    };
    let below = LOWEST..low.max(LOWEST);
    let above = (high + 1).max(LOWEST)..65_536;
    let larger = if below.len() >= above.len() {
        below
    } else {
        above
    };
    if larger.len() < FEWEST as usize {
        // The kernel gives them all: among launchers the names still hold.
        LOWEST..65_536
    } else {
        larger
    }
}

#[cfg(test)]
mod tests {
    use super::{Port, outside};
    use std::net::TcpListener;

    #[test]
    fn a_port_is_of_one_holder_and_free_for_its_command() {
        let held: Vec<Port> = (0..20).map(|_| Port::reserve().unwrap()).collect();
        let mut numbers: Vec<u16> = held.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 20);
        for number in &numbers {
            assert!(Port::take(*number).unwrap().is_none(), "it is taken");
            drop(TcpListener::bind(("127.0.0.1", *number)).unwrap());
        }
        let number = held[0].number();
        drop(held);
        assert!(Port::take(number).unwrap().is_some());
        let listening = TcpListener::bind("0.0.0.0:0").unwrap();
        let foreign = listening.local_addr().unwrap().port();
        assert!(Port::take(foreign).unwrap().is_none());
    }

    #[test]
    fn ports_are_none_that_the_kernel_gives() {
        assert_eq!(outside("32768\t60999\n"), 10_240..32_768);
        assert_eq!(outside("10000 20000"), 20_001..65_536);
        assert_eq!(outside("1024 65535"), 10_240..65_536);
        assert_eq!(outside(""), 10_240..32_768);
    }
}
