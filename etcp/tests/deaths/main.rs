//! What happens when a process of a proxy dies.

#![cfg(target_os = "linux")]

mod crash;
mod drain;
mod holder;
mod kinds;
mod operator;
mod recovery;
mod refused;
mod scale;
mod service;
mod upgrade;
mod world;

use etcp_testkit::loopback::program::{RunningProgram, wait};
use etcp_testkit::process::kill_raw;
use etcp_testkit::worker::existing_worker_of;
use rustix::process::Signal;

/// Waits for a worker other than `before`.
#[track_caller]
pub(crate) fn next_worker(program: &RunningProgram, before: u32) -> u32 {
    let next = || existing_worker_of(program.id()).filter(|worker| *worker != before);
    wait("another worker", || next().is_some());
    next().expect("it was there")
}

/// Kills the worker, and returns its process id.
pub(crate) fn kill_worker(program: &RunningProgram) -> u32 {
    let find = || existing_worker_of(program.id());
    wait("a worker", || find().is_some());
    let worker = find().expect("it was there");
    kill_raw(worker, Signal::KILL).expect("it runs");
    worker
}
