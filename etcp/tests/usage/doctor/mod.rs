//! `etcp doctor` in front of real causes: each gives its own line, and says what to do.

mod answers;
mod clinic;
mod keys;
mod network;
mod reports;
mod size;
