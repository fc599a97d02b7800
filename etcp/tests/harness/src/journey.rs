//! A world, both programs, and one session with a checked stream each way: the target of most
//! faults.

use std::time::Duration;

use super::checked::{Rate, accept, connect};
use super::pair::DEFAULT_LISTEN;
use super::process::Launch;
use super::streams::Streams;
use super::wait::{PATIENCE, until};
use super::{ProxyPair, TestFolder, TestWorld, WorldSite, tell};

/// All parts of one test. Fields are dropped from the first to the last.
pub struct Journey {
    pub streams: Streams,
    pub pair: ProxyPair,
    pub world: TestWorld,
    _folder: TestFolder,
}

impl Journey {
    /// Starts with carriers over IPv4, in the usual world.
    pub fn new() -> Self {
        Self::through(TestWorld::new(), |launch| launch)
    }

    /// Starts in another world; `change` adds to cproxy's command line and environment.
    pub fn through(world: TestWorld, change: impl FnOnce(Launch) -> Launch) -> Self {
        Self::at(Rate::GENTLE, world, change)
    }

    /// Starts in another world at this rate; `change` adds to cproxy's command line and
    /// environment.
    pub fn at(rate: Rate, world: TestWorld, change: impl FnOnce(Launch) -> Launch) -> Self {
        let WorldSite { pair, target, world, folder } = WorldSite::through(world, change);
        Self::with_session(world, folder, pair, &target, rate)
    }

    /// Opens the session, and starts its streams.
    pub fn with_session(
        world: TestWorld,
        folder: TestFolder,
        pair: ProxyPair,
        listener: &std::net::TcpListener,
        rate: Rate,
    ) -> Self {
        let application = connect(&world.client, DEFAULT_LISTEN);
        let streams = Streams::start(application, accept(listener), rate);
        streams.go_on("the start");
        Self { streams, pair, world, _folder: folder }
    }

    /// Causes a fault that costs the carrier, and waits until the client is attached again and both
    /// streams continue. Returns how long they paused.
    #[track_caller]
    pub fn survive(&mut self, fault: &str, strike: impl FnOnce(&Self)) -> Duration {
        let before = self.pair.attached_again();
        strike(self);
        self.pair.wait_attached_again(before);
        let pause = self.streams.go_on(fault);
        tell(&format!("{fault}: the streams paused for {pause:.2?}"));
        pause
    }

    /// Causes a fault of an uplink, and waits until the client is attached by the other one and both
    /// streams continue. A client that doubts its carrier may be there already.
    #[track_caller]
    pub fn leave(&self, fault: &str, uplink: u8, strike: impl FnOnce(&Self)) {
        strike(self);
        until(&format!("a carrier over the other uplink after {fault}"), PATIENCE, || {
            self.pair.uplink() == 3 - uplink
        });
        let pause = self.streams.go_on(fault);
        tell(&format!("{fault}: the streams paused for {pause:.2?}"));
    }

    /// Ends the streams in order: every byte that was sent has arrived correctly.
    #[track_caller]
    pub fn finish(self) {
        let Self { streams, .. } = self;
        streams.finish();
    }
}
