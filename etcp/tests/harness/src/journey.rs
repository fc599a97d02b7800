//! A world, both programs, and one session with a checked stream each way: what most faults strike.

use std::time::Duration;

use super::checked::{Rate, accept, connect, listen};
use super::pair::DEFAULT_LISTEN;
use super::process::Launch;
use super::streams::Streams;
use super::{Family, Folder, Pair, Sproxy, World, tell};

/// Everything of one test. Fields are dropped from the first to the last.
pub struct Journey {
    pub streams: Streams,
    pub pair: Pair,
    pub world: World,
    _folder: Folder,
}

impl Journey {
    /// Carriers over IPv4, in the usual world.
    pub fn new() -> Self {
        Self::through(World::new(), |launch| launch)
    }

    /// In a world of one's own; `change` adds to cproxy's command line and surroundings.
    pub fn through(world: World, change: impl FnOnce(Launch) -> Launch) -> Self {
        Self::at(Rate::GENTLE, world, change)
    }

    /// The same, at a rate of one's own.
    pub fn at(rate: Rate, world: World, change: impl FnOnce(Launch) -> Launch) -> Self {
        let folder = Folder::new();
        let listener = listen(&world.server, "127.0.0.1:0");
        let target = listener.local_addr().expect("it listens").to_string();
        let sproxy = Sproxy::start(&world, &folder, Family::V4, &target, &[]);
        let pair = Pair::start_with(&world, &folder, sproxy, change);
        Self::with_session(world, folder, pair, &listener, rate)
    }

    /// Opens the session, and begins its streams.
    pub fn with_session(
        world: World,
        folder: Folder,
        pair: Pair,
        listener: &std::net::TcpListener,
        rate: Rate,
    ) -> Self {
        let application = connect(&world.client, DEFAULT_LISTEN);
        let streams = Streams::start(application, accept(listener), rate);
        streams.go_on("the start");
        Self { streams, pair, world, _folder: folder }
    }

    /// Lets something happen that costs the carrier, and waits until the client is attached again
    /// and both streams went on. Says how long they stood still.
    #[track_caller]
    pub fn survive(&mut self, fault: &str, strike: impl FnOnce(&Self)) -> Duration {
        let before = self.pair.attached_again();
        strike(self);
        self.pair.wait_attached_again(before);
        let pause = self.streams.go_on(fault);
        tell(&format!("{fault}: the streams stood still for {pause:.2?}"));
        pause
    }

    /// Ends the streams in order: every byte that was sent has arrived, and was right.
    #[track_caller]
    pub fn finish(self) {
        let Self { streams, .. } = self;
        streams.finish();
    }
}
