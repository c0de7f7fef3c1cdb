//! The processes that train together, as one of them sees it. A process that is alone has a
//! group too, in which every call is done at once: callers need not ask.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tch::{Device, Kind, Tensor};

use super::error::plain;
use super::ffi::Handle;
use super::{GroupArgs, GroupError, Place, Share};
use crate::warm;

/// How long the others are waited for to say that they have failed, too.
const GRACE: Duration = Duration::from_secs(2);

/// The variable by which PyTorch is told the network interface to use.
const INTERFACE: &str = "GLOO_SOCKET_IFNAME";

/// The processes that train together.
#[derive(Debug, Clone)]
pub struct Group {
    rank: usize,
    size: usize,
    members: Option<Rc<Members>>,
}

#[derive(Debug)]
pub(super) struct Members {
    pub(super) handle: Handle,
    /// Once a call has failed: nothing can be ended in order any more.
    is_broken: Cell<bool>,
}

impl Drop for Members {
    fn drop(&mut self) {
        self.handle.free(!self.is_broken.get());
    }
}

impl Group {
    /// One process alone.
    pub fn alone() -> Self {
        Self {
            rank: 0,
            size: 1,
            members: None,
        }
    }

    /// Meets the others that the environment speaks of; alone where it names none.
    ///
    /// # Errors
    /// Variables that are wrong, a program without collectives, or others who are not there
    /// within the timeout.
    pub fn from_env(args: GroupArgs) -> Result<Self, GroupError> {
        match Place::from_env()? {
            None => Ok(Self::alone()),
            Some(place) => Self::join(&place, args.timeout()),
        }
    }

    /// Meets the others of a place. What is done together later must be done within
    /// `timeout` of each other, too.
    ///
    /// # Errors
    /// See [`Group::from_env`].
    pub fn join(place: &Place, timeout: Duration) -> Result<Self, GroupError> {
        Handle::is_built()?;
        let wrong = |problem: String| GroupError::Meet {
            rank: place.rank,
            size: place.size,
            place: format!("{}:{}", place.host, place.port),
            timeout,
            problem: plain(&problem),
        };
        let (rank, size) = (place.rank, place.size);
        let handle = Handle::meet(&place.host, place.port, rank, size, timeout).map_err(wrong)?;
        let members = Members {
            handle,
            // Until it is whole.
            is_broken: Cell::new(true),
        };
        // Rank 0's name can be looked up by now: that is how it was met.
        let address = place.own_address();
        let address = address.map_or_else(|| place.host.clone(), |address| address.to_string());
        let interface = warm::variable(INTERFACE).map(|name| name.to_string_lossy().into_owned());
        let interface = interface
            .as_deref()
            .and_then(|names| names.split(',').next());
        let interface = interface.filter(|name| !name.is_empty());
        members.handle.connect(&address, interface).map_err(wrong)?;
        members.is_broken.set(false);
        Ok(Self {
            rank,
            size,
            members: Some(Rc::new(members)),
        })
    }

    /// The number of this process, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many processes there are.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Whether this is the one that writes what all of them have made.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// Whether there is no other.
    pub fn is_alone(&self) -> bool {
        self.members.is_none()
    }

    pub(super) fn members(&self) -> Option<&Rc<Members>> {
        self.members.as_ref()
    }

    /// What of a batch of sequences is worked here.
    ///
    /// # Errors
    /// There are more processes than sequences.
    pub fn share(&self, batch: i64) -> Result<Share, GroupError> {
        if batch < self.size as i64 {
            return Err(GroupError::TooMany {
                size: self.size,
                batch,
            });
        }
        Ok(Share::of(batch, self.rank, self.size))
    }

    /// Sums a tensor over all, in place. One that is not contiguous, or not on the CPU, is
    /// copied there and back.
    ///
    /// # Errors
    /// A member that is lost.
    pub fn all_reduce(&self, tensor: &mut Tensor, during: &'static str) -> Result<(), GroupError> {
        self.in_place(tensor, during, |handle, tensor| handle.all_reduce(tensor))
    }

    /// The mean of a tensor of floats over all, in place.
    ///
    /// # Errors
    /// A member that is lost.
    pub fn average(&self, tensor: &mut Tensor, during: &'static str) -> Result<(), GroupError> {
        self.all_reduce(tensor, during)?;
        if !self.is_alone() {
            tch::no_grad(|| {
                let _ = tensor.g_mul_scalar_(1.0 / self.size as f64);
            });
        }
        Ok(())
    }

    /// Gives all the tensor of `root`, in place; it has the same shape everywhere.
    ///
    /// # Errors
    /// A member that is lost.
    pub fn broadcast(
        &self,
        tensor: &mut Tensor,
        root: usize,
        during: &'static str,
    ) -> Result<(), GroupError> {
        self.in_place(tensor, during, |handle, tensor| {
            handle.broadcast(tensor, root)
        })
    }

    /// Waits until all are here.
    ///
    /// # Errors
    /// A member that is lost.
    pub fn barrier(&self, during: &'static str) -> Result<(), GroupError> {
        match &self.members {
            None => Ok(()),
            Some(members) => self.told(members.handle.barrier(), during),
        }
    }

    /// The sums over all of some values, in double precision.
    ///
    /// # Errors
    /// A member that is lost.
    pub fn sums<const N: usize>(
        &self,
        values: [f64; N],
        during: &'static str,
    ) -> Result<[f64; N], GroupError> {
        if self.is_alone() {
            return Ok(values);
        }
        let mut tensor = Tensor::from_slice(&values);
        self.all_reduce(&mut tensor, during)?;
        Ok(std::array::from_fn(|i| tensor.double_value(&[i as i64])))
    }

    /// What each of them says, by rank.
    ///
    /// # Errors
    /// A member that is lost.
    pub fn all_gather(&self, value: i64, during: &'static str) -> Result<Vec<i64>, GroupError> {
        let mut all = Tensor::zeros([self.size as i64], (Kind::Int64, Device::Cpu));
        let _ = all.get(self.rank as i64).fill_(value);
        self.all_reduce(&mut all, during)?;
        Ok((0..self.size as i64)
            .map(|i| all.int64_value(&[i]))
            .collect())
    }

    /// The bytes that rank 0 gives; what the others give is not looked at.
    ///
    /// # Errors
    /// A member that is lost.
    pub fn bytes_of_first(
        &self,
        bytes: Vec<u8>,
        during: &'static str,
    ) -> Result<Vec<u8>, GroupError> {
        if self.is_alone() {
            return Ok(bytes);
        }
        let own = if self.is_first() { bytes.len() } else { 0 };
        let [length] = self.sums([own as f64], during)?;
        let length = length as usize;
        let mut tensor = if self.is_first() {
            Tensor::from_slice(&bytes)
        } else {
            Tensor::zeros([length as i64], (Kind::Uint8, Device::Cpu))
        };
        if length > 0 {
            self.broadcast(&mut tensor, 0, during)?;
        }
        let mut all = vec![0; length];
        tensor.copy_data_u8(&mut all, length);
        Ok(all)
    }

    /// Makes sure that all do the same, of which `fingerprint` is to tell: what follows
    /// relies on equal shapes.
    ///
    /// # Errors
    /// The first member that does something else than rank 0; a member that is lost.
    pub fn agree_on(&self, fingerprint: &str) -> Result<(), GroupError> {
        let during = "while they compared what they train";
        let first = self.bytes_of_first(fingerprint.as_bytes().to_vec(), during)?;
        // All hear of it: else those that are right would wait for the one that is gone.
        let differs = i64::from(first != fingerprint.as_bytes());
        let all = self.all_gather(differs, during)?;
        match all.iter().position(|differs| *differs != 0) {
            Some(rank) => Err(GroupError::Differs { rank }),
            None => Ok(()),
        }
    }

    fn in_place(
        &self,
        tensor: &mut Tensor,
        during: &'static str,
        work: impl FnOnce(&Handle, &Tensor) -> Result<(), String>,
    ) -> Result<(), GroupError> {
        let Some(members) = &self.members else {
            return Ok(());
        };
        let there = tensor.device() == Device::Cpu && tensor.is_contiguous();
        if there {
            return self.told(work(&members.handle, tensor), during);
        }
        let copy = tensor.detach().to_device(Device::Cpu).contiguous();
        self.told(work(&members.handle, &copy), during)?;
        tch::no_grad(|| tensor.copy_(&copy));
        Ok(())
    }

    /// Turns a failure into an error that says who is gone.
    pub(super) fn told<T>(
        &self,
        done: Result<T, String>,
        during: &'static str,
    ) -> Result<T, GroupError> {
        done.map_err(|problem| GroupError::Lost {
            rank: self.rank,
            size: self.size,
            during,
            gone: self.members.as_deref().map_or(Vec::new(), Members::gone),
            problem: plain(&problem),
        })
    }
}

impl Members {
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.get()
    }

    /// After a failure: those that say nothing any more.
    fn gone(&self) -> Vec<usize> {
        self.is_broken.set(true);
        self.handle.silent(GRACE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_alone_has_all_its_calls_done() {
        let group = Group::alone();
        assert!(group.is_alone() && group.is_first());
        let mut tensor = Tensor::from_slice(&[1f32, 2.0]);
        group.all_reduce(&mut tensor, "here").unwrap();
        group.average(&mut tensor, "here").unwrap();
        group.broadcast(&mut tensor, 0, "here").unwrap();
        group.barrier("here").unwrap();
        assert_eq!(tensor, Tensor::from_slice(&[1f32, 2.0]));
        assert_eq!(group.sums([1.0, 2.0], "here").unwrap(), [1.0, 2.0]);
        assert_eq!(group.all_gather(7, "here").unwrap(), [7]);
        assert_eq!(group.bytes_of_first(vec![3], "here").unwrap(), [3]);
        assert_eq!(group.share(5).unwrap(), Share::whole(5));
    }
}
