//! Who is told when an endpoint or a schedule has changed through this server, or a tick was
//! fired by it: a store tells nobody.

use std::fmt::Debug;
use std::sync::Arc;

/// Is told of changes. It must not block.
pub trait Changes: Send + Sync + Debug {
    /// The schedule of this name is another by now, or has fired.
    fn schedule(&self, name: &str);
    /// The endpoint of this name is another by now.
    fn endpoint(&self, name: &str);
}

/// Nobody is told.
#[derive(Debug)]
pub(crate) struct Nobody;

impl Changes for Nobody {
    fn schedule(&self, _name: &str) {}
    fn endpoint(&self, _name: &str) {}
}

/// Where nobody was named.
pub(crate) fn nobody() -> Arc<dyn Changes> {
    Arc::new(Nobody)
}
