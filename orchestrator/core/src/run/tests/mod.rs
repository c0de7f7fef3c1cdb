//! Properties of the run state, tried in a small world of stores and executors.
