//! A client of a fleet, and its sessions.

use std::net::TcpStream;

use super::site::FleetSite;
use super::world::FleetWorld;
use crate::checked::{Rate, accept, connect};
use crate::process::{Launch, Process};
use crate::streams::Streams;
use crate::wait::PATIENCE;

/// A running cproxy with an address of its own.
pub struct FleetCproxy {
    pub process: Process,
    listen: String,
}

/// A session of a client.
pub struct FleetSession {
    pub application: TcpStream,
    pub target: TcpStream,
    /// The number of the node that has it, from 1 on.
    pub node: usize,
}

impl FleetCproxy {
    /// Starts a client by its number, from 0 on; `change` adds to its command line and environment.
    pub fn start(
        fleet: &FleetSite,
        number: usize,
        server: &str,
        change: impl FnOnce(Launch) -> Launch,
    ) -> Self {
        let (name, listen) = (format!("client-{number}"), format!("127.0.0.1:{}", 5200 + number));
        let launch = Launch::new(&name, fleet.program())
            .args(["cproxy", "--no-ssh-config", "--listen", &listen, "--name", &name])
            .args(["--server", server, "-b", &FleetWorld::address(number), "--identity"])
            .arg(&fleet.keys.client)
            .arg("--known-hosts")
            .arg(&fleet.keys.known_hosts)
            .env("HOME", fleet.folder.path());
        Self { process: change(launch).start(&fleet.world.client, &fleet.folder), listen }
    }

    /// Waits until it has its tunnel.
    #[track_caller]
    pub fn attached(&mut self) {
        self.process.wait_for("attached", PATIENCE);
    }

    /// Opens a session. No other one may be opened at the same time.
    #[track_caller]
    pub fn session(&self, fleet: &FleetSite) -> FleetSession {
        let application = connect(&fleet.world.client, &self.listen);
        let target = accept(&fleet.target);
        let node = match target.peer_addr().expect("it is connected").ip() {
            std::net::IpAddr::V4(address) => usize::from(address.octets()[3]),
            std::net::IpAddr::V6(address) => panic!("no node has the address {address}"),
        };
        FleetSession { application, target, node }
    }
}

impl FleetSession {
    /// Begins a checked stream each way.
    pub fn stream(self) -> Streams {
        Streams::start(self.application, self.target, Rate::SLOW)
    }
}
