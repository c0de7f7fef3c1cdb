//! Posts a finished work: reads what the three models left, writes one entry, and shows it in a
//! gallery.
//!
//! `main.rs` is the program; everything that it does is here, so that tests can call it. This
//! crate never changes a work, never contacts a social network, and never deletes an entry.

pub mod entry;
pub mod gallery;
pub mod page;
pub mod work;
