//! Properties of the run state, tried in a small world of stores and executors
//! (`world`), over generated plans (`plans`), and single situations (`cases`).

mod build;
mod cases;
mod checks;
mod facts;
mod launchers;
mod plans;
mod properties;
mod sim;
mod world;
