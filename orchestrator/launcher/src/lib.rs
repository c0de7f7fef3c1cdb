//! Process 1 of every step: fetch, run, publish, commit.
