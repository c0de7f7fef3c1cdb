//! Posts a finished work: reads what the three models left, writes one entry, shows it in a
//! gallery, and, where asked to, posts it to social networks.
//!
//! `main.rs` is the program; everything that it does is here, so that tests can call it. This
//! crate never changes a work and never deletes an entry; social networks are contacted by
//! [`publish`] alone.

pub mod entry;
pub mod gallery;
pub mod page;
pub mod publish;
pub mod work;
