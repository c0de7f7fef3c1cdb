//! A request to stop that several launchers wait for. It does what tokio's `watch`
//! does, except that those who wait are woken in the order in which they began: a
//! `watch` draws that order from the runtime's own dice, which nobody can seed.

use super::machine::Stop;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

#[derive(Clone, Debug, Default)]
pub(super) struct Sign(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    order: Mutex<Option<Stop>>,
    changed: Notify,
}

impl Sign {
    /// Changes the request, and wakes those who wait.
    pub(super) fn send_modify(&self, change: impl FnOnce(&mut Option<Stop>)) {
        change(&mut self.0.order.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.changed.notify_waiters();
    }

    fn order(&self) -> Option<Stop> {
        *self.0.order.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a request that is another than `seen`.
    pub(super) async fn other_than(&self, seen: Option<Stop>) -> Stop {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            if let Some(order) = self.order()
                && Some(order) != seen
            {
                return order;
            }
            changed.await;
        }
    }
}
