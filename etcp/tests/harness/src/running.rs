//! `etcp run` in a world whose server has names, and a web server to fetch from.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use super::folder::TestFolder;
use super::pair::{IpFamily, Sproxy};
use super::process::{Launch, Process, RunAs};
use super::wait::{PATIENCE, until};
use super::world::TestWorld;

/// A name that only the server's resolver knows, with addresses of both families.
pub const NAME: &str = "web.test";

/// The addresses on which the server's programs listen, which the client reaches only through etcp.
pub const PORT: u16 = 8080;

/// A world with sproxy, and a resolver that only the server reaches.
pub struct RunningProcess {
    // Fields are dropped from the first to the last.
    pub sproxy: Sproxy,
    _resolver: Process,
    pub folder: TestFolder,
    pub world: TestWorld,
}

impl RunningProcess {
    /// Starts sproxy with these targets and flags.
    pub fn start(permit: &[&str], flags: &[&str]) -> Self {
        let (world, folder) = (TestWorld::new(), TestFolder::new());
        let resolver = start_resolver(&world, &folder);
        let files = [
            (folder.readable_file("resolv.conf", "nameserver 127.0.0.1\n"), "/etc/resolv.conf"),
            (folder.readable_file("nsswitch.conf", "hosts: files dns\n"), "/etc/nsswitch.conf"),
            (folder.readable_file("hosts", "127.0.0.1 localhost\n"), "/etc/hosts"),
        ];
        let sproxy = Sproxy::start_with(&world, &folder, IpFamily::V4, "127.0.0.1:23", |launch| {
            let permits = permit.iter().flat_map(|pattern| ["--permit", pattern]);
            let launch = launch.args(permits).args(flags);
            files.iter().fold(launch, |launch, (file, hidden)| launch.file(file, hidden))
        });
        Self { sproxy, _resolver: resolver, folder, world }
    }

    /// Returns `etcp run` of a command, as an ordinary user in the client's namespace. `name` names
    /// the log.
    pub fn launch(&self, name: &str, words: &[&str]) -> Launch {
        self.launch_with(name, &[], words)
    }

    /// Returns `etcp run` of a command with flags of etcp, as [`Self::launch`] does.
    pub fn launch_with(&self, name: &str, flags: &[&str], words: &[&str]) -> Launch {
        let command = self.sproxy.client_command("run");
        Launch::new(name, &command[0])
            .args(&command[1..])
            .args(flags)
            .arg("--")
            .args(words)
            .env("HOME", self.folder.path())
            .env("RUST_LOG", "warn")
            // Without the folders of ip and nft, as ordinary users have it.
            .env("PATH", "/usr/bin:/bin")
    }

    /// Starts it.
    pub fn run(&self, name: &str, words: &[&str]) -> Process {
        self.launch(name, words).start(&self.world.client, &self.folder)
    }

    /// Runs it to its end: returns how it ended, and all output.
    #[track_caller]
    pub fn outcome(&self, name: &str, words: &[&str]) -> (ExitStatus, String) {
        let mut process = self.run(name, words);
        let status = process.wait(PATIENCE);
        (status, process.log())
    }

    /// Runs a command that must succeed. Returns its output without the last line end.
    #[track_caller]
    pub fn output(&self, name: &str, words: &[&str]) -> String {
        let (status, log) = self.outcome(name, words);
        assert!(status.success(), "{words:?}: {status}: {log}");
        log.trim_end().to_owned()
    }
}

/// Starts dnsmasq, which knows the name's addresses, a text that is too long for UDP, and no other
/// name.
fn start_resolver(world: &TestWorld, folder: &TestFolder) -> Process {
    let dnsmasq = super::skip::find("dnsmasq").expect("was asked for");
    let mut launch = Launch::new("dnsmasq", dnsmasq)
        .args(["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"])
        .args(["--bind-interfaces", "--listen-address=127.0.0.1", "--local=/test/"])
        .arg(format!("--host-record={NAME},{},{}", world.server_v4(), world.server_v6()));
    let text = "x".repeat(200);
    for number in 0..10 {
        launch = launch.arg(format!("--txt-record=long.test,{number}{text}"));
    }
    let mut process = launch.arg("--user=root").user(RunAs::Root).start(&world.server, folder);
    until("dnsmasq to accept", PATIENCE, || {
        assert!(process.is_running(), "dnsmasq ended: {}", process.log());
        world.server.run(|| TcpStream::connect("127.0.0.1:53")).is_ok()
    });
    process
}

/// Builds a program without libraries: no interpreter, and nothing to preload.
pub fn static_program(folder: &TestFolder, name: &str, source: &str) -> PathBuf {
    let source = folder.readable_file(&format!("{name}.rs"), source);
    let program = folder.join(name);
    let output = Command::new("rustc")
        .args(["--edition", "2024", "-C", "target-feature=+crt-static", "-o"])
        .arg(&program)
        .arg(source)
        .output()
        .expect("rustc runs");
    assert!(output.status.success(), "rustc: {}", String::from_utf8_lossy(&output.stderr));
    // It fails for a program that is not dynamic, and reports it on stdout or stderr.
    let output = Command::new("ldd").arg(&program).output().expect("ldd runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("statically linked") || said.contains("not a dynamic"), "{said}");
    program
}

/// Starts a web server for the folder, on every address of the server.
pub fn start_web(running: &RunningProcess) -> Process {
    let mut process = Launch::new("web", "python3")
        .args(["-m", "http.server", "--bind", "::", &PORT.to_string(), "--directory"])
        .arg(running.folder.path())
        .env("PATH", "/usr/bin:/bin")
        .start(&running.world.server, &running.folder);
    until("the web server to accept", PATIENCE, || {
        assert!(process.is_running(), "it ended: {}", process.log());
        running.world.server.run(|| TcpStream::connect(("127.0.0.1", PORT))).is_ok()
    });
    process
}
