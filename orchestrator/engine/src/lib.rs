//! The driver that joins run state, store and executor; the executors on one machine.
