//! Tickets as Pods.
