//! The death of a process of a proxy, and its consequences.

#![cfg(target_os = "linux")]

mod crash;
mod drain;
mod holder;
mod kinds;
mod names;
mod operator;
mod recovery;
mod refused;
mod scale;
mod servers;
mod service;
mod surroundings;
mod upgrade;
mod victims;
mod world;

use etcp_testkit::loopback::program::RunningProgram;
use etcp_testkit::wait::{PATIENCE, until_some};
use etcp_testkit::worker::existing_worker_of;
use victims::Victims;

/// Waits for a worker other than `before`, and returns it.
#[track_caller]
pub(crate) fn next_worker(program: &RunningProgram, before: u32) -> u32 {
    until_some("another worker", PATIENCE, || {
        existing_worker_of(program.id()).filter(|worker| *worker != before)
    })
}

/// Kills the worker, and returns its process id.
#[track_caller]
pub(crate) fn kill_worker(program: &RunningProgram) -> u32 {
    program.kill_worker()
}
