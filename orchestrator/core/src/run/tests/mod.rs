//! Properties of the run state, tried in a small world of stores and executors
//! (`world`), over generated plans (`plans`), and single situations (`cases`).

mod cases;
mod facts;
mod plans;
mod properties;
mod sim;
mod world;
