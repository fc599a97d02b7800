//! The nodes, their keys, and the target of all sessions.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use super::world::{FleetWorld, NODES};
use crate::checked::listen;
use crate::folder::TestFolder;
use crate::keys::{Keys, public_half};
use crate::pair::etcp;
use crate::process::{Launch, Process, RunAs};
use crate::wait::PATIENCE;

/// The parts of a test that do not depend on the load balancer. Fields are dropped from the first
/// to the last.
pub struct FleetSite {
    pub nodes: Vec<Process>,
    pub target: TcpListener,
    pub keys: Keys,
    program: PathBuf,
    args: Vec<String>,
    pub world: FleetWorld,
    pub folder: TestFolder,
}

impl FleetSite {
    /// The address of the load balancer for clients.
    pub const ENTRY: &'static str = "192.0.2.1:6200";

    /// Starts the nodes, as the examples say, with further flags.
    pub fn start(args: &[&str]) -> Self {
        Self::admitting("", args)
    }

    /// Starts the nodes; the client's line in their `authorized_keys` begins with these options.
    pub fn admitting(options: &str, args: &[&str]) -> Self {
        let (world, folder) = (FleetWorld::new(), TestFolder::new());
        let names = [Self::ENTRY, "nodes.example.org:6200"].map(|name| {
            let (host, port) = name.rsplit_once(':').expect("it has a port");
            format!("[{host}]:{port}")
        });
        let keys = Keys::generate(&folder, &names);
        let line = format!("{options} {}", public_half(&keys.client));
        folder.file("authorized_keys", &line, RunAs::Nobody);
        let program = folder.program("etcp", &etcp());
        let target = listen(&world.entry, "10.0.0.100:0");
        let args = args.iter().map(ToString::to_string).collect();
        let mut fleet = Self { nodes: Vec::new(), target, keys, program, args, world, folder };
        for number in 1..=NODES {
            fleet.folder.folder(&format!("node-{number}"), RunAs::Nobody);
            let node = fleet.start_node(number);
            fleet.nodes.push(node);
        }
        for node in &mut fleet.nodes {
            node.wait_for("listening on", PATIENCE);
        }
        fleet
    }

    fn start_node(&self, number: usize) -> Process {
        let target = self.target.local_addr().expect("it listens").to_string();
        Launch::new(&format!("node-{number}"), &self.program)
            .args(["sproxy", "--listen", "0.0.0.0:6200", "--proxy-from", "10.0.0.9"])
            .args(["--node", &format!("node-{number}.example.org")])
            .args(["--metrics", &format!("10.0.0.{number}:9163"), "--target", &target])
            .arg("--identity")
            .arg(&self.keys.server)
            .arg("--authorized-keys")
            .arg(&self.keys.authorized_keys)
            .args(["--strict-modes", "no"])
            .args(&self.args)
            .env("HOME", self.home_of(number))
            .start(&self.world.nodes[number - 1], &self.folder)
    }

    fn home_of(&self, node: usize) -> PathBuf {
        self.folder.join(&format!("node-{node}"))
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Runs a command of etcp for the operator of a node, which must succeed.
    #[track_caller]
    pub fn operate(&self, node: usize, words: &[&str]) {
        let mut command = Launch::new(words[0], &self.program)
            .args(words)
            .env("HOME", self.home_of(node))
            .start(&self.world.nodes[node - 1], &self.folder);
        let status = command.wait(PATIENCE);
        assert!(status.success(), "{words:?}: {status}: {}", command.log());
    }

    /// Returns the sum of a metric over these nodes. A metric is named with its labels.
    #[track_caller]
    pub fn metric(&self, nodes: &[usize], name: &str) -> u64 {
        nodes.iter().map(|node| self.metric_of(*node, name)).sum()
    }

    /// Returns the sum of a metric over all nodes.
    #[track_caller]
    pub fn metric_of_all(&self, name: &str) -> u64 {
        self.metric(&(1..=NODES).collect::<Vec<_>>(), name)
    }

    #[track_caller]
    fn metric_of(&self, node: usize, name: &str) -> u64 {
        let at = format!("10.0.0.{node}:9163");
        let stream = self.world.nodes[node - 1].run(|| TcpStream::connect(&at));
        let mut stream = stream.expect("the node serves its metrics");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out is set");
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it is open");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("it answers");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("there is no {name} in {text}"));
        value.parse::<f64>().expect("a number") as u64
    }
}
