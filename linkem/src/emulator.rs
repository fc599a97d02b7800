//! The complete link: two devices, a direction each way, and their settings.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use crate::carry::RunningLink;
use crate::device::Device;
use crate::endpoint::Endpoint;
use crate::link::Link;
use crate::setting::{Assignment, Which};
use crate::tun::Tun;

const DEFAULT_MTU: u32 = 1500;

/// The reason why a run ends.
#[derive(Debug)]
pub(crate) enum StopReason {
    /// A signal, a request, or the end of stdin.
    Asked,
    /// No packet can pass any more.
    Failed(String),
}

/// A link that can be changed while it runs.
#[derive(Debug)]
pub(crate) struct Emulator {
    devices: [Device; 2],
    /// Locked while something is set, so that requests follow each other.
    mtu: Mutex<u32>,
    up: Arc<RunningLink>,
    down: Arc<RunningLink>,
}

impl Emulator {
    /// Creates the devices and starts both directions. If one fails, `end` receives the reason.
    pub(crate) fn start(
        ends: [&Endpoint; 2],
        seed: u64,
        assignments: &[Assignment],
        end: &Sender<StopReason>,
    ) -> Result<Self, String> {
        let mtu = last_mtu(assignments).unwrap_or(DEFAULT_MTU);
        let (left, left_tun) = Device::create(ends[0], mtu)?;
        let (right, right_tun) = Device::create(ends[1], mtu)?;
        let direction = |stream| RunningLink::new(Link::new(seed, stream)).map(Arc::new);
        let (up, down) = (direction(0)?, direction(1)?);
        let emulator = Self { devices: [left, right], mtu: Mutex::new(mtu), up, down };
        emulator.set_links(assignments);
        let (left, right) = (Arc::new(left_tun), Arc::new(right_tun));
        carry(&emulator.up, [&left, &right], end)?;
        carry(&emulator.down, [&right, &left], end)?;
        Ok(emulator)
    }

    /// Sets everything, or nothing and returns the reason.
    pub(crate) fn set(&self, assignments: &[Assignment]) -> Result<(), String> {
        let mut mtu = self.mtu.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(new) = last_mtu(assignments) {
            let [left, right] = &self.devices;
            right.check_mtu(new)?;
            left.set_mtu(new)?;
            if let Err(error) = right.set_mtu(new) {
                left.set_mtu(*mtu)?;
                return Err(error);
            }
            *mtu = new;
        }
        self.set_links(assignments);
        Ok(())
    }

    /// Returns settings and counters as one line of JSON.
    pub(crate) fn show(&self) -> String {
        let mtu = *self.mtu.lock().unwrap_or_else(PoisonError::into_inner);
        let show = |direction: &RunningLink| {
            let link = direction.lock();
            format!(r#"{{"settings":{},"counters":{}}}"#, link.settings(), link.counters())
        };
        format!(r#"{{"mtu":{mtu},"up":{},"down":{}}}"#, show(&self.up), show(&self.down))
    }

    /// Changes both directions at once: no packet moves in between.
    fn set_links(&self, assignments: &[Assignment]) {
        let (mut up, mut down) = (self.up.lock(), self.down.lock());
        let (mut up_settings, mut down_settings) = (up.settings().clone(), down.settings().clone());
        for assignment in assignments {
            let Assignment::Link(which, property) = assignment else { continue };
            if *which != Which::Down {
                property.apply(&mut up_settings);
            }
            if *which != Which::Up {
                property.apply(&mut down_settings);
            }
        }
        up.set(self.up.now(), up_settings);
        down.set(self.down.now(), down_settings);
        drop((up, down));
        self.up.wake();
        self.down.wake();
    }
}

fn last_mtu(assignments: &[Assignment]) -> Option<u32> {
    assignments.iter().rev().find_map(|assignment| match assignment {
        Assignment::Mtu(mtu) => Some(*mtu),
        Assignment::Link(..) => None,
    })
}

/// Starts a direction's thread.
fn carry(
    direction: &Arc<RunningLink>,
    [from, to]: [&Arc<Tun>; 2],
    end: &Sender<StopReason>,
) -> Result<(), String> {
    let (direction, from, to) = (Arc::clone(direction), Arc::clone(from), Arc::clone(to));
    let end = end.clone();
    let work = move || {
        let reason = direction.carry(&from, &to);
        // Nobody listens if the program is already ending.
        let _ = end.send(StopReason::Failed(reason));
    };
    let thread = std::thread::Builder::new().name("carry".to_owned()).spawn(work);
    thread.map(drop).map_err(|error| format!("cannot start a thread: {error}"))
}
