//! cproxy on the client, sproxy on the server, as an ordinary user starts them.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use super::checked::listen;
use super::folder::TestFolder;
use super::keys::Keys;
use super::loopback::carriers_taken;
use super::process::{Launch, Process};
use super::wait::PATIENCE;
use super::world::{CARRIER_PORT, TestWorld};

/// The family of the carriers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpFamily {
    V4,
    V6,
}

/// The address at which cproxy accepts default sessions, in the client's namespace.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:5200";

/// The server's side, which `etcp connect` and [`ProxyPair`] dial.
pub struct Sproxy {
    program: PathBuf,
    keys: Keys,
    server: String,
    pub process: Process,
}

/// A name of the server, for tests whose client resolves names.
pub const SERVER_NAME: &str = "server.test";

impl Sproxy {
    /// Starts sproxy in front of `target`; clients may also name each of `permit`.
    pub fn start(
        world: &TestWorld,
        folder: &TestFolder,
        family: IpFamily,
        target: &str,
        permit: &[&str],
    ) -> Self {
        let permit = permit.iter().flat_map(|pattern| ["--permit", pattern]);
        Self::start_with(world, folder, family, target, |launch| launch.args(permit))
    }

    /// Starts sproxy in front of a target that the test itself accepts.
    pub fn with_listener(
        world: &TestWorld,
        folder: &TestFolder,
        family: IpFamily,
    ) -> (Self, TcpListener) {
        let listener = listen(&world.server, "127.0.0.1:0");
        let target = listener.local_addr().expect("it listens").to_string();
        (Self::start(world, folder, family, &target, &[]), listener)
    }

    /// Starts sproxy as [`Self::start`] does; `change` adds to its command line and environment.
    pub fn start_with(
        world: &TestWorld,
        folder: &TestFolder,
        family: IpFamily,
        target: &str,
        change: impl FnOnce(Launch) -> Launch,
    ) -> Self {
        let host: IpAddr = match family {
            IpFamily::V4 => world.server_v4(),
            IpFamily::V6 => world.server_v6(),
        };
        let hosts = [world.server_v4().to_string(), world.server_v6().to_string()];
        let known =
            [&hosts[0], &hosts[1], SERVER_NAME].map(|host| format!("[{host}]:{CARRIER_PORT}"));
        let keys = Keys::generate(folder, &known);
        let program = folder.program("etcp", &etcp());
        let listen = format!("[::]:{CARRIER_PORT}");
        let launch = Launch::new("sproxy", &program)
            .args(["sproxy", "--listen", &listen, "--target", target])
            .args(["--heartbeat", "1s", "--dead-after", "3s", "--keep-detached", "7d"])
            .arg("--identity")
            .arg(&keys.server)
            .arg("--authorized-keys")
            .arg(&keys.authorized_keys)
            .env("HOME", folder.path());
        let mut process = change(launch).start(&world.server, folder);
        process.wait_for("listening on", PATIENCE);
        Self { program, keys, server: SocketAddr::new(host, CARRIER_PORT).to_string(), process }
    }

    /// Lets clients find the server by [`SERVER_NAME`].
    pub fn by_name(mut self) -> Self {
        self.server = format!("{SERVER_NAME}:{CARRIER_PORT}");
        self
    }

    /// Returns the common part of the command line of `etcp cproxy` or `etcp connect` to this
    /// server.
    pub fn client_command(&self, mode: &str) -> Vec<String> {
        let text = |path: &Path| path.to_str().expect("test paths are text").to_owned();
        vec![
            text(&self.program),
            mode.to_owned(),
            "--server".to_owned(),
            self.server.clone(),
            "--identity".to_owned(),
            text(&self.keys.client),
            "--known-hosts".to_owned(),
            text(&self.keys.known_hosts),
            "--no-ssh-config".to_owned(),
        ]
    }

    /// Returns the log of sproxy.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// Both proxies, attached.
pub struct ProxyPair {
    // The first field is dropped first: the client's side ends before the server's.
    pub cproxy: Process,
    pub sproxy: Sproxy,
}

impl ProxyPair {
    /// Starts cproxy, with `forwards` as its `-L`s, and waits until it is attached.
    pub fn start(
        world: &TestWorld,
        folder: &TestFolder,
        sproxy: Sproxy,
        forwards: &[&str],
    ) -> Self {
        let forwards = forwards.iter().flat_map(|forward| ["-L", forward]);
        Self::start_with(world, folder, sproxy, |launch| launch.args(forwards))
    }

    /// Starts cproxy as [`Self::start`] does; `change` adds to its command line and environment.
    pub fn start_with(
        world: &TestWorld,
        folder: &TestFolder,
        sproxy: Sproxy,
        change: impl FnOnce(Launch) -> Launch,
    ) -> Self {
        let mut pair = Self::apart(world, folder, sproxy, change);
        pair.cproxy.wait_for("attached", PATIENCE);
        pair
    }

    /// Starts cproxy without waiting until it is attached.
    pub fn apart(
        world: &TestWorld,
        folder: &TestFolder,
        sproxy: Sproxy,
        change: impl FnOnce(Launch) -> Launch,
    ) -> Self {
        let command = sproxy.client_command("cproxy");
        let launch = Launch::new("cproxy", &command[0])
            .args(&command[1..])
            .args(["--listen", DEFAULT_LISTEN])
            .env("HOME", folder.path());
        let mut cproxy = change(launch).start(&world.client, folder);
        cproxy.wait_for("listening on", PATIENCE);
        Self { cproxy, sproxy }
    }

    /// Returns how many times cproxy has attached again so far.
    pub fn attached_again(&self) -> usize {
        self.cproxy.count("attached again")
    }

    /// Returns how many times its carrier was lost by the act of somebody else. On a busy machine a
    /// client doubts a carrier that is only slow, and attaches another one.
    pub fn carriers_taken(&self) -> usize {
        carriers_taken(&self.cproxy.log())
    }

    /// Waits until cproxy has attached again more than `before` times.
    #[track_caller]
    pub fn wait_attached_again(&mut self, before: usize) {
        self.cproxy.wait_for_count("attached again", before + 1, PATIENCE);
    }

    /// Returns the client's address on the carrier that was attached last.
    pub fn local_address(&self) -> SocketAddr {
        let log = self.cproxy.log();
        let line = log
            .lines()
            .rfind(|line| line.contains(" attached again (") || line.contains(" attached ("))
            .expect("it was attached");
        let address = line.split_once('(').and_then(|(_, rest)| rest.split_once(" to "));
        address
            .and_then(|(address, _)| address.parse().ok())
            .expect("the log says by which address")
    }

    /// Returns the uplink of that address.
    pub fn uplink(&self) -> u8 {
        match self.local_address().ip() {
            IpAddr::V4(address) => address.octets()[2],
            IpAddr::V6(address) => address.segments()[1] as u8,
        }
    }

    /// Causes a fault and waits until the tunnel is attached again.
    #[track_caller]
    pub fn survive(&mut self, fault: super::NetworkFault, world: &TestWorld) {
        let before = self.attached_again();
        fault.survive(world);
        self.wait_attached_again(before);
    }
}

/// Returns the program under test: cargo's, or the one that `ETCP_BIN` names.
pub fn etcp() -> PathBuf {
    std::env::var_os("ETCP_BIN").map_or_else(|| built("etcp"), PathBuf::from)
}

/// Returns the path at which cargo puts a program of the workspace: in the folder above that of the
/// test programs. Cargo tells its path only to the tests of its own package, which does not include
/// this crate.
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a process knows its program");
    let folder = test.parent().and_then(Path::parent).expect("cargo makes two folders");
    folder.join(name)
}
