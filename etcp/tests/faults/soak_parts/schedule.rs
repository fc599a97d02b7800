//! The schedule of faults, which a seed determines.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use rustix::process::Signal;

use super::SoakFleet;
use etcp_testkit::wait::{PATIENCE, until};
use etcp_testkit::{Direction, NetworkFault, TestRng};

/// One fault of the network, of time, or of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Act {
    Move,
    SoftMove,
    ResetAndMove,
    Reset,
    BlackholeThenMove,
    Forget,
    ForgetToServer,
    ForgetToClient,
    SilenceToServer,
    SilenceToClient,
    Silence,
    LongSilence,
    NoNetwork,
    LostTable,
    Unreachable,
    Refused,
    Hole,
    Slow,
    Lossy,
    StopClient,
    StopServer,
    StopBoth,
    Reconnect,
    KillClient,
    KillServer,
    KillBoth,
    UpgradeClient,
    UpgradeServer,
}

impl Act {
    pub(crate) const ALL: [Self; 28] = [
        Self::Move,
        Self::SoftMove,
        Self::ResetAndMove,
        Self::Reset,
        Self::BlackholeThenMove,
        Self::Forget,
        Self::ForgetToServer,
        Self::ForgetToClient,
        Self::SilenceToServer,
        Self::SilenceToClient,
        Self::Silence,
        Self::LongSilence,
        Self::NoNetwork,
        Self::LostTable,
        Self::Unreachable,
        Self::Refused,
        Self::Hole,
        Self::Slow,
        Self::Lossy,
        Self::StopClient,
        Self::StopServer,
        Self::StopBoth,
        Self::Reconnect,
        Self::KillClient,
        Self::KillServer,
        Self::KillBoth,
        Self::UpgradeClient,
        Self::UpgradeServer,
    ];

    /// Returns the fault of the harness that this is, if any.
    fn fault(self) -> Option<NetworkFault> {
        Some(match self {
            Self::Move => NetworkFault::Move,
            Self::SoftMove => NetworkFault::SoftMove,
            Self::ResetAndMove => NetworkFault::ResetAndMove,
            Self::Reset => NetworkFault::Reset,
            Self::BlackholeThenMove => NetworkFault::BlackholeThenMove,
            Self::Forget => NetworkFault::Forget,
            Self::ForgetToServer => NetworkFault::ForgetOneWay(Direction::ToServer),
            Self::ForgetToClient => NetworkFault::ForgetOneWay(Direction::ToClient),
            _ => return None,
        })
    }
}

/// The settings of a link that works.
pub(crate) const WELL: [&str; 5] =
    ["delay=5ms", "rate=200mbit", "loss=0%", "hole=off", "queue=off"];

/// The faults so far, and those to come.
pub(crate) struct Schedule {
    random: TestRng,
    counts: BTreeMap<Act, usize>,
}

impl Schedule {
    pub(crate) fn new(random: TestRng) -> Self {
        Self { random, counts: BTreeMap::new() }
    }

    /// Returns the next fault.
    pub(crate) fn next(&mut self) -> Act {
        Act::ALL[(self.random.next() % Act::ALL.len() as u64) as usize]
    }

    /// Lets the next fault happen, and some time pass after it; then the network is whole.
    pub(crate) fn strike(&mut self, fleet: &SoakFleet) {
        let act = self.next();
        *self.counts.entry(act).or_default() += 1;
        let length = Duration::from_millis(self.random.magnitude(300..6000));
        match act.fault() {
            Some(fault) => {
                let router = &fleet.world.router;
                until("a carrier to strike", PATIENCE, || !router.carriers().is_empty());
                fault.strike(&fleet.world);
            }
            None => strike(act, fleet, length, &mut self.random),
        }
        // This sleep is the pause between faults. It does not wait until everything works again, so
        // that some faults strike before.
        std::thread::sleep(Duration::from_millis(self.random.magnitude(100..4000)));
    }

    /// Lets everything pass again.
    pub(crate) fn restore(&self, fleet: &SoakFleet) {
        fleet.world.router.lift_blackhole();
        fleet.world.link().set(&WELL);
    }

    pub(crate) fn count(&self) -> usize {
        self.counts.values().sum()
    }

    /// Describes how many times each fault has struck.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("{} faults:", self.count());
        for (act, count) in &self.counts {
            let _ = write!(text, " {act:?} {count},");
        }
        text.trim_end_matches(',').to_owned()
    }
}

/// Causes a fault, lets it last for some time, and ends it.
fn strike(act: Act, fleet: &SoakFleet, length: Duration, random: &mut TestRng) {
    let (router, link) = (&fleet.world.router, fleet.world.link());
    // The fault lasts this long; nothing is awaited.
    let last = || std::thread::sleep(length);
    let silence = |direction| {
        router.blackhole(direction);
        last();
        router.lift_blackhole();
    };
    let reject = |answer: &str| {
        router.reject(Direction::Both, answer);
        last();
        router.lift_blackhole();
    };
    let degrade = |settings: &[&str]| {
        link.set(settings);
        last();
        link.set(&WELL);
    };
    match act {
        Act::SilenceToServer => silence(Direction::ToServer),
        Act::SilenceToClient => silence(Direction::ToClient),
        Act::LongSilence => {
            router.blackhole(Direction::Both);
            std::thread::sleep(length * 3);
            router.lift_blackhole();
        }
        Act::NoNetwork => {
            let uplink = fleet.world.uplink();
            (1..=2).for_each(|uplink| fleet.world.remove_uplink(uplink));
            last();
            fleet.world.use_uplink(3 - uplink);
        }
        Act::LostTable => router.lose_tables_for(length),
        Act::Unreachable => reject("icmp type host-unreachable"),
        Act::Refused => reject("tcp reset"),
        Act::Hole => degrade(&["hole=1300"]),
        Act::Slow => degrade(&["rate=2mbit", "queue=262144b"]),
        Act::Lossy => degrade(&["loss=3%"]),
        Act::Silence => silence(Direction::Both),
        _ => strike_processes(act, fleet, length, random),
    }
}

/// Causes a fault of processes, lets it last for some time if it has a duration, and ends it.
fn strike_processes(act: Act, fleet: &SoakFleet, length: Duration, random: &mut TestRng) {
    match act {
        Act::KillClient | Act::KillServer | Act::KillBoth => {
            fleet.some_of(act, random).iter().for_each(|process| process.kill_worker());
        }
        // The old program may be killed before the new one has taken over.
        Act::UpgradeClient | Act::UpgradeServer => {
            fleet.some_of(act, random).iter().for_each(|process| process.signal(Signal::USR2));
        }
        Act::StopClient | Act::StopServer | Act::StopBoth => {
            let stopped = fleet.some_of(act, random);
            stopped.iter().for_each(|process| process.pause());
            // The fault lasts this long; nothing is awaited.
            std::thread::sleep(length);
            stopped.iter().for_each(|process| process.resume());
        }
        Act::Reconnect => fleet.clients().for_each(|process| process.signal(Signal::USR1)),
        _ => unreachable!("a fault of the network: {act:?}"),
    }
}
