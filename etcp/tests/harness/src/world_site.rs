//! A world, both programs, and the target of their sessions.

use std::net::{TcpListener, TcpStream};

use super::checked::{accept, connect};
use super::pair::DEFAULT_LISTEN;
use super::process::Launch;
use super::{IpFamily, ProxyPair, Sproxy, TestFolder, TestWorld};

/// All parts of one test. Fields are dropped from the first to the last.
pub struct WorldSite {
    pub pair: ProxyPair,
    pub target: TcpListener,
    pub world: TestWorld,
    pub folder: TestFolder,
}

impl WorldSite {
    /// Starts with carriers over IPv4, in the usual world.
    pub fn new() -> Self {
        Self::through(TestWorld::new(), |launch| launch)
    }

    /// Starts in another world; `change` adds to cproxy's command line and environment.
    pub fn through(world: TestWorld, change: impl FnOnce(Launch) -> Launch) -> Self {
        let folder = TestFolder::new();
        let (sproxy, target) = Sproxy::with_listener(&world, &folder, IpFamily::V4);
        let pair = ProxyPair::start_with(&world, &folder, sproxy, change);
        Self { pair, target, world, folder }
    }

    /// Opens a session. Returns the application's end and the target's.
    pub fn session(&self) -> [TcpStream; 2] {
        let application = connect(&self.world.client, DEFAULT_LISTEN);
        [application, accept(&self.target)]
    }
}
