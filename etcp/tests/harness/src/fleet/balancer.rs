//! The load balancers, with the files of `examples/fleet`, and the DNS.

use std::net::TcpStream;
use std::path::{Path, PathBuf};

use super::site::FleetSite;
use crate::folder::TestFolder;
use crate::pair::built;
use crate::process::{Launch, Process, RunAs};
use crate::skip;
use crate::wait::{PATIENCE, until};

/// A file of `examples/fleet`, run by the program that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FleetBalancer {
    Haproxy,
    HaproxyDns,
    Nginx,
    NginxDns,
    Envoy,
}

impl FleetBalancer {
    /// Returns the program that a test with it needs, as [`skip::can_run`] takes it.
    pub fn program(self) -> String {
        match self {
            Self::Haproxy | Self::HaproxyDns => "haproxy".to_owned(),
            Self::Nginx | Self::NginxDns => "nginx".to_owned(),
            Self::Envoy => envoy().to_str().expect("build paths are text").to_owned(),
        }
    }

    /// Starts it, and waits until it accepts.
    pub fn start(self, fleet: &FleetSite) -> Process {
        self.start_changed(fleet, str::to_owned)
    }

    /// Starts it with other routes than those of the example: `change` gets each file.
    pub fn start_changed(self, fleet: &FleetSite, change: impl Fn(&str) -> String) -> Process {
        let folder = &fleet.folder;
        let file = |name: &str| folder.readable_file(name, &change(&example(folder, name)));
        let launch = |name: &str, args: &[&str]| {
            let program = skip::find(&self.program()).expect("was asked for");
            Launch::new(name, program).args(args).user(RunAs::Root)
        };
        let haproxy = |name: &str| launch("haproxy", &["-db", "-f"]).arg(file(name));
        let nginx = |name: &str| {
            let pid = format!("daemon off; pid {};", folder.join("nginx.pid").display());
            launch("nginx", &["-e", "stderr", "-g", &pid, "-c"]).arg(file(name))
        };
        let launch = match self {
            Self::Haproxy => {
                file("nodes.map");
                haproxy("haproxy.cfg")
            }
            Self::HaproxyDns => haproxy("haproxy-dns.cfg"),
            Self::Nginx => nginx("nginx.conf"),
            Self::NginxDns => nginx("nginx-dns.conf"),
            Self::Envoy => {
                let args =
                    ["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"];
                launch("envoy", &args).arg("-c").arg(file("envoy.yaml"))
            }
        };
        let mut process = launch.start(&fleet.world.entry, folder);
        until("the load balancer to accept", PATIENCE, || {
            assert!(process.is_running(), "it ended: {}", process.log());
            fleet.world.client.run(|| TcpStream::connect(FleetSite::ENTRY)).is_ok()
        });
        process
    }
}

/// Returns a file of the examples. Only what depends on the machine is changed: where the map is, and
/// how many connections there may be, because users may have few descriptors.
fn example(folder: &TestFolder, name: &str) -> String {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../examples/fleet");
    let text = std::fs::read_to_string(examples.join(name)).expect("the example is there");
    let here = format!("{}/", folder.path().display());
    text.replace("/etc/haproxy/", &here).replace("maxconn 20000", "maxconn 1000")
}

/// Returns where `.ci/install` puts Envoy.
fn envoy() -> PathBuf {
    built("../tools/envoy/_bin/envoy")
}

/// A dnsmasq with a name for each node, and a name for all nodes together.
pub struct FleetNames {
    _process: Process,
    files: [(PathBuf, &'static str); 2],
}

impl FleetNames {
    /// A name with the addresses of all nodes.
    pub const ALL: &'static str = "nodes.example.org";

    /// Starts it where the examples expect it.
    pub fn start(fleet: &FleetSite) -> Self {
        let mut launch = Launch::new("dnsmasq", skip::find("dnsmasq").expect("was asked for"))
            .args(["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"])
            .args(["--bind-interfaces", "--listen-address=10.0.0.53", "--local=/example.org/"])
            .args(["--user=root"])
            .user(RunAs::Root);
        for number in 1..=super::NODES {
            launch = launch
                .arg(format!("--host-record=node-{number}.example.org,10.0.0.{number}"))
                .arg(format!("--address=/{}/10.0.0.{number}", Self::ALL));
        }
        let mut process = launch.start(&fleet.world.entry, &fleet.folder);
        until("dnsmasq to accept", PATIENCE, || {
            assert!(process.is_running(), "dnsmasq ended: {}", process.log());
            fleet.world.entry.run(|| TcpStream::connect("10.0.0.53:53")).is_ok()
        });
        let readable = |name, text| fleet.folder.readable_file(name, text);
        let files = [
            (readable("resolv.conf", "nameserver 10.0.0.53\n"), "/etc/resolv.conf"),
            (readable("nsswitch.conf", "hosts: dns\n"), "/etc/nsswitch.conf"),
        ];
        Self { _process: process, files }
    }

    /// Makes a program use it.
    pub fn serve_to(&self, launch: Launch) -> Launch {
        self.files.iter().fold(launch, |launch, (file, hidden)| launch.file(file, hidden))
    }
}
