//! The layout of runs in object storage, transfers, outcomes, reuse index, registry.
