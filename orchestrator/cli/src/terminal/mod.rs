//! What people see while a run goes on: a live tree on a terminal, one line a
//! change elsewhere. Both are readers of the same rows; neither decides anything.

mod lines;
mod rows;
mod style;
mod tree;

pub use lines::Lines;
pub use rows::{Row, Rows};
pub use style::{Paint, duration, size, symbol as status_symbol};
pub use tree::Tree;
