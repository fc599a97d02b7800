//! Acts of an operator on a pair of proxies, or of the system when memory runs out.

use rustix::process::Signal;

use super::process::{Process, kill_raw};
use super::wait::{PATIENCE, until, until_some};
use super::worker::existing_worker_of;
use super::{NetworkFault, ProxyPair, TestWorld};

/// A death of workers, or an upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessFault {
    KillClient,
    KillServer,
    /// Both at once.
    KillBoth,
    /// Each of them twice, the second time as soon as there is another worker.
    KillTwice,
    /// One worker is killed, and both are killed as soon as the client is attached again, during
    /// the replay.
    KillInReplay,
    /// One worker is killed, the client moves, and the other worker is killed.
    KillAndMove,
    UpgradeClient,
    UpgradeServer,
}

impl ProcessFault {
    /// All faults.
    pub const ALL: [Self; 8] = [
        Self::KillClient,
        Self::KillServer,
        Self::KillBoth,
        Self::KillTwice,
        Self::KillInReplay,
        Self::KillAndMove,
        Self::UpgradeClient,
        Self::UpgradeServer,
    ];

    /// Causes the fault. It waits for nothing afterwards except for the end of an upgrade.
    #[track_caller]
    pub fn strike(self, pair: &mut ProxyPair, world: &TestWorld) {
        let before = pair.attached_again();
        let (client, server) = (&pair.cproxy, &pair.sproxy.process);
        match self {
            Self::KillClient => kill_all(&[client]),
            Self::KillServer => kill_all(&[server]),
            Self::KillBoth => kill_all(&[client, server]),
            Self::KillTwice => [client, server].into_iter().for_each(|process| {
                let first = kill(process);
                kill_next(process, first);
            }),
            Self::KillInReplay => {
                kill(server);
                until("it to be attached again", PATIENCE, || pair.attached_again() > before);
                kill_all(&[client, server]);
            }
            Self::KillAndMove => {
                kill(client);
                NetworkFault::Move.strike(world);
                kill(server);
            }
            Self::UpgradeClient => upgrade(&mut pair.cproxy),
            Self::UpgradeServer => upgrade(&mut pair.sproxy.process),
        }
    }
}

#[track_caller]
fn kill_all(processes: &[&Process]) {
    processes.iter().for_each(|process| {
        kill(process);
    });
}

/// Kills a worker, and returns which process that was.
#[track_caller]
fn kill(process: &Process) -> u32 {
    kill_next(process, 0)
}

/// Kills the first worker other than `before`.
#[track_caller]
fn kill_next(process: &Process, before: u32) -> u32 {
    until_some("a worker", PATIENCE, || {
        let worker = existing_worker_of(process.id()).filter(|worker| *worker != before)?;
        // Another worker may have this id by now.
        kill_raw(worker, Signal::KILL).ok().map(|()| worker)
    })
}

#[track_caller]
fn upgrade(process: &mut Process) {
    let before = process.count("has taken over");
    process.signal(Signal::USR2);
    process.wait_for_count("has taken over", before + 1, PATIENCE);
}
