//! sproxy and cproxy on the files of a site.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use super::program::{RunningProgram, etcp, limited};
use super::site::{Key, LoopbackSite};
use crate::HeldPort;

/// The log line of cproxy when it is attached, for the first time or again.
pub const ATTACHED: &str = "INFO attached";

/// A server that listens.
pub struct LoopbackSproxy {
    pub program: RunningProgram,
    /// The address on which it listens, on loopback.
    pub address: SocketAddr,
}

impl LoopbackSproxy {
    /// Starts sproxy in front of `target`, on a port of the kernel's choice.
    pub fn start(site: &LoopbackSite, target: SocketAddr) -> Self {
        Self::with(site, target, &["--listen", "127.0.0.1:0"], None)
    }

    /// Starts sproxy in front of `target` for clients that a test drives by hand. They are silent
    /// for as long as the test, or a busy machine, takes.
    pub fn patient(site: &LoopbackSite, target: SocketAddr) -> Self {
        Self::with(site, target, &["--listen", "127.0.0.1:0", "--dead-after", "10m"], None)
    }

    /// Starts sproxy in front of `target` on a port that stays reserved when the server ends, so
    /// that another one can be started on it.
    pub fn at(site: &LoopbackSite, target: SocketAddr, port: &HeldPort) -> Self {
        Self::with(site, target, &["--listen", &format!("127.0.0.1:{}", port.number())], None)
    }

    /// Starts sproxy in front of `target` with further arguments, including `--listen`, and a limit
    /// of descriptors.
    pub fn with(
        site: &LoopbackSite,
        target: SocketAddr,
        args: &[&str],
        descriptors: Option<u32>,
    ) -> Self {
        let target = target.to_string();
        Self::limited(site, &[&["--target", &target], args].concat(), descriptors)
    }

    /// Starts sproxy with exactly these arguments, including `--target`.
    pub fn plain(site: &LoopbackSite, args: &[&str]) -> Self {
        Self::limited(site, args, None)
    }

    /// Starts sproxy with a configuration file, which names everything.
    pub fn of_file(site: &LoopbackSite, file: &str) -> Self {
        let command = etcp(site.path(), ["sproxy", "--config", file]);
        let mut program = RunningProgram::start("sproxy", site.path(), command);
        let address = listening(&mut program);
        Self { program, address }
    }

    fn limited(site: &LoopbackSite, args: &[&str], descriptors: Option<u32>) -> Self {
        let (key, keys) = (site.server_key(), site.authorized_keys());
        let mut command = limited(site.path(), descriptors, ["sproxy"]);
        command.arg("--identity").arg(key).arg("--authorized-keys").arg(keys).args(args);
        let mut program = RunningProgram::start("sproxy", site.path(), command);
        let address = listening(&mut program);
        Self { program, address }
    }
}

/// A client that listens.
pub struct Cproxy {
    pub program: RunningProgram,
    /// The address at which its sessions are accepted; those of `-L` are in the log.
    pub listen: SocketAddr,
}

impl Cproxy {
    /// Starts cproxy, by this name (also of its log) and with the first user's key.
    pub fn start(site: &LoopbackSite, server: SocketAddr, name: &str) -> Self {
        Self::with(site, server, name, &site.client, &[])
    }

    /// Starts cproxy with another key and further arguments, which may include `--name`.
    pub fn with(
        site: &LoopbackSite,
        server: SocketAddr,
        name: &str,
        key: &Key,
        args: &[&str],
    ) -> Self {
        Self::limited(site, server, name, key, args, None)
    }

    /// Starts cproxy with another key, further arguments and a limit of descriptors.
    pub fn limited(
        site: &LoopbackSite,
        server: SocketAddr,
        name: &str,
        key: &Key,
        args: &[&str],
        descriptors: Option<u32>,
    ) -> Self {
        let mut command = limited(site.path(), descriptors, ["cproxy", "--listen", "127.0.0.1:0"]);
        add_client_args(&mut command, site, server, key);
        if !args.contains(&"--name") {
            command.args(["--name", name]);
        }
        command.args(args);
        let mut program = RunningProgram::start(name, site.path(), command);
        let listen = listening(&mut program);
        Self { program, listen }
    }

    /// Waits until it is attached.
    #[track_caller]
    pub fn attached(mut self) -> Self {
        self.program.wait_for(ATTACHED);
        self
    }

    /// Returns the second address on which it has listened.
    #[track_caller]
    pub fn second_listener(&self) -> SocketAddr {
        let log = self.program.log();
        let mut lines = log.lines().filter_map(|line| line.split_once("INFO listening on "));
        let (_, text) = lines.nth(1).expect("it has listened before it was attached");
        text.trim().parse().expect("an address")
    }

    /// Returns how many times it has attached again so far.
    #[track_caller]
    pub fn attached_again(&self) -> usize {
        self.program.count("attached again")
    }

    /// Returns how many times its carrier was lost by the act of somebody else. On a busy machine a
    /// client doubts a carrier that is only slow, and attaches another one.
    #[track_caller]
    pub fn carriers_taken(&self) -> usize {
        carriers_taken(&self.program.log())
    }
}

/// Returns how many carriers the client with this log has lost by the act of somebody else.
pub fn carriers_taken(log: &str) -> usize {
    let (mut taken, mut is_doubted) = (0, false);
    for line in log.lines() {
        is_doubted |= line.contains("silent for ") || line.contains("trying a new carrier");
        if line.contains("attached again") {
            taken += usize::from(!std::mem::take(&mut is_doubted));
        }
    }
    taken
}

/// Returns the command `etcp connect` to a target, with stdin and stdout piped; it is not started.
pub fn connect(site: &LoopbackSite, server: SocketAddr, key: &Key, args: &[&str]) -> Command {
    let mut command = etcp(site.path(), ["connect"]);
    add_client_args(&mut command, site, server, key);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn add_client_args(command: &mut Command, site: &LoopbackSite, server: SocketAddr, key: &Key) {
    command.arg("--server").arg(server.to_string()).arg("--identity").arg(&key.path);
    command.arg("--known-hosts").arg(site.known_hosts()).arg("--no-ssh-config");
}

/// Returns the first address that the program logs; a wildcard is reached by loopback.
fn listening(program: &mut RunningProgram) -> SocketAddr {
    let line = program.wait_for("listening on ");
    let text = line.split("listening on ").nth(1).expect("it was looked for");
    let mut address: SocketAddr = text.trim().parse().expect("an address");
    if address.ip().is_unspecified() {
        address.set_ip([127, 0, 0, 1].into());
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_carrier_that_the_client_itself_doubted_was_not_taken() {
        let log = "attached (a to b)\n\
                   path via lo silent for 900 ms, trying a new carrier\n\
                   attached again (c to b)\n\
                   carrier lost: silent for 3s; connecting again\n\
                   attached again (d to b)\n\
                   carrier lost: the peer closed the connection; connecting again\n\
                   attached again (e to b)\n";
        assert_eq!(carriers_taken(log), 1);
    }
}
