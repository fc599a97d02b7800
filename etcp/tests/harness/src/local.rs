//! The real programs on this machine's loopback, as the user who runs the tests.

use std::net::SocketAddr;
use std::path::Path;

use eternaltcp::tls::Identity;

use super::pair::etcp;
use super::process::{Launch, Process};
use super::wait::{PATIENCE, until_some};

/// Keys of both sides in one folder, and the options that both programs get.
pub struct Loopback {
    folder: tempfile::TempDir,
    options: Vec<String>,
}

impl Loopback {
    /// Creates the keys. `options` apply to both programs.
    pub fn new(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let client = Identity::load_or_create(&folder.path().join("client_key")).expect("a key");
        let line = format!("{}\n", client.public_key());
        std::fs::write(folder.path().join("authorized_keys"), line).expect("the folder is ours");
        Self { folder, options: options.iter().map(|option| (*option).to_owned()).collect() }
    }

    /// Returns the path of one of its files.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("test paths are text").to_owned()
    }

    /// Starts sproxy in front of `target`; returns its address.
    pub fn sproxy(&self, target: SocketAddr) -> (Process, SocketAddr) {
        let launch = Launch::new("sproxy", etcp())
            .args(["sproxy", "--listen", "127.0.0.1:0", "--target", &target.to_string()])
            .args(["--identity", &self.path("server_key")])
            .args(["--authorized-keys", &self.path("authorized_keys")]);
        self.start(launch)
    }

    /// Starts cproxy, which finds sproxy at `server`; returns its address.
    pub fn cproxy(&self, server: SocketAddr) -> (Process, SocketAddr) {
        let launch = Launch::new("cproxy", etcp())
            .args(["cproxy", "--listen", "127.0.0.1:0", "--server", &server.to_string()])
            .args(["--identity", &self.path("client_key"), "--accept-new"])
            .args(["--known-hosts", &self.path("known_hosts")]);
        let (mut cproxy, address) = self.start(launch);
        cproxy.wait_for("attached", PATIENCE);
        (cproxy, address)
    }

    fn start(&self, launch: Launch) -> (Process, SocketAddr) {
        let folder: &Path = self.folder.path();
        let process = launch.args(&self.options).env("HOME", folder).start_here(folder);
        let address = until_some("a program to listen", PATIENCE, || {
            let log = process.log();
            let (_, rest) = log.split_once("listening on ")?;
            // The line may not be complete yet.
            rest.split_once('\n')?.0.parse().ok()
        });
        (process, address)
    }
}
