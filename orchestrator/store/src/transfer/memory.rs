//! The memory of a store's transfers: so many bytes between disk and network, all
//! files together, however many are under way. It knows nothing of what the bytes are.

use super::PART;
use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that the transfers of one store may hold, all of them together.
pub(crate) const IN_FLIGHT: u64 = 96 * 1024 * 1024;

/// What a permit stands for.
const UNIT: u64 = 1024;

/// Bounds what is in flight, and lends buffers for parts.
#[derive(Debug)]
pub(crate) struct Memory {
    units: Arc<Semaphore>,
    buffers: Mutex<Buffers>,
}

/// Buffers that were used are used again: given back to the allocator and taken
/// anew they would be spread over the heaps of all threads, and stay resident there.
#[derive(Debug, Default)]
struct Buffers {
    free: Vec<Vec<u8>>,
    lent: usize,
}

/// Room for some bytes, until it is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    _permit: OwnedSemaphorePermit,
}

/// One part in memory. The room goes back when the last who reads it has gone.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    used: usize,
    memory: Arc<Memory>,
    _room: Room,
}

impl Memory {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            units: Arc::new(Semaphore::new(units(IN_FLIGHT) as usize)),
            buffers: Mutex::default(),
        })
    }

    /// Waits until `bytes` more may be in flight. More than all there is counts as
    /// all: one at a time.
    pub(crate) async fn room(&self, bytes: u64) -> Room {
        let wanted = units(bytes.clamp(1, IN_FLIGHT));
        match Arc::clone(&self.units).acquire_many_owned(wanted).await {
            Ok(permit) => Room { _permit: permit },
            // Nobody closes this semaphore, and a future that never ends is no answer.
            Err(error) => unreachable!("{error}"),
        }
    }

    /// A buffer of `size` bytes, a part or more, when there is room for it.
    pub(crate) async fn buffer(self: &Arc<Self>, size: u64) -> Buffer {
        let room = self.room(size).await;
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = buffers.free.pop().unwrap_or_default();
        buffers.lent += 1;
        drop(buffers);
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if bytes.len() != size {
            // Zeroed pages of the kernel's, which cost nothing until they are written.
            bytes = vec![0; size];
        }
        Buffer {
            bytes,
            used: 0,
            memory: Arc::clone(self),
            _room: room,
        }
    }

    /// Bytes that are in flight now.
    #[cfg(test)]
    fn used(&self) -> u64 {
        IN_FLIGHT - self.units.available_permits() as u64 * UNIT
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

impl Buffer {
    /// The first `size` bytes of it, to be filled.
    pub(crate) fn fill(&mut self, size: u64) -> &mut [u8] {
        self.used =
            usize::try_from(size).map_or(self.bytes.len(), |size| size.min(self.bytes.len()));
        &mut self.bytes[..self.used]
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut buffers = self
            .memory
            .buffers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        buffers.lent -= 1;
        if buffers.lent == 0 {
            // Whoever transfers nothing holds nothing.
            buffers.free.clear();
        } else if self.bytes.len() as u64 == PART {
            buffers.free.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{IN_FLIGHT, Memory, PART};
    use futures::FutureExt;

    #[tokio::test]
    async fn no_more_is_lent_than_there_is() {
        let memory = Memory::new();
        let mut held = Vec::new();
        for _ in 0..IN_FLIGHT / PART {
            let mut buffer = memory.buffer(PART).await;
            buffer.fill(3).copy_from_slice(b"abc");
            held.push(buffer.into_bytes());
        }
        assert_eq!(memory.used(), IN_FLIGHT);
        assert!(memory.room(1).now_or_never().is_none());
        let slice = held[0].slice(1..2);
        held.remove(0);
        assert!(
            memory.room(1).now_or_never().is_none(),
            "a slice of it is still read"
        );
        assert_eq!(slice, "b");
        drop(slice);
        let again = memory.buffer(PART).now_or_never();
        assert!(again.is_some());
        drop((again, held));
        assert_eq!(memory.used(), 0);
        assert!(memory.buffers.lock().unwrap().free.is_empty());
        // A file larger than all memory goes through alone.
        let _all = memory.room(u64::MAX).await;
        assert_eq!(memory.used(), IN_FLIGHT);
    }
}
