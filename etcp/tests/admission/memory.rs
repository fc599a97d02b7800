//! A server with little memory: it serves several clients, or reports at its start that it cannot,
//! and stays within its control group.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use etcp_testkit::loopback::program::wait;
use etcp_testkit::loopback::socket::dial;
use etcp_testkit::loopback::{
    Cproxy, Echo, LoopbackSite, LoopbackSproxy, RunningProgram, Steady, etcp,
};
use etcp_testkit::wait::output;

const MIB: u64 = 1 << 20;

#[test]
fn the_minimum_memory_serves_several_clients_of_one_key() {
    let site = LoopbackSite::new();
    let args = ["--listen", "127.0.0.1:0", "--memory", "4"];
    let sproxy = LoopbackSproxy::with(&site, Echo::start().address, &args, None);
    let clients: Vec<_> = (0..8)
        .map(|number| Cproxy::start(&site, sproxy.address, &format!("client{number}")).attached())
        .collect();
    let sessions: Vec<_> = clients.iter().map(|client| Steady::start(client.listen)).collect();
    sessions.into_iter().for_each(Steady::finish);
    // The rest is not enough for one more client, and the log reports how much would be.
    let mut ninth = Cproxy::start(&site, sproxy.address, "ninth");
    ninth.program.wait_for("the key's part of the server's memory is used up");
    wait("the limit to be named", || sproxy.program.count("(limit --memory)") == 1);
}

#[test]
fn less_memory_than_serves_anybody_is_refused_at_the_start() {
    let site = LoopbackSite::new();
    for (flag, value) in [("--memory", "3"), ("--max-tunnels-per-key", "0")] {
        let output = output(&mut etcp(site.path(), ["sproxy", flag, value]));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(flag) && said.lines().count() <= 2, "{said}");
    }
}

/// A control group that is removed at the end.
struct MemoryGroup {
    folder: PathBuf,
}

impl MemoryGroup {
    /// Creates a group with this much memory, if possible.
    fn new(bytes: u64) -> Option<Self> {
        let places =
            [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        places.into_iter().find_map(|(place, limit)| {
            let folder = Path::new(place).join(format!("etcp-test-{}", std::process::id()));
            fs::create_dir(&folder).ok()?;
            let group = Self { folder };
            fs::write(group.folder.join(limit), bytes.to_string()).ok()?;
            Some(group)
        })
    }

    /// Returns the maximum amount that it has used.
    fn used(&self) -> String {
        let names = ["memory.max_usage_in_bytes", "memory.peak"];
        let text = names.iter().find_map(|name| fs::read_to_string(self.folder.join(name)).ok());
        text.unwrap_or_default().trim().to_owned()
    }

    /// Wraps a command, so that it runs in the group.
    fn run(&self, command: &Command) -> Command {
        let mut inside = Command::new("sh");
        let script = "echo $$ >\"$0\" && exec \"$@\"";
        inside.args(["-c", script]).arg(self.folder.join("cgroup.procs"));
        inside.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Its processes are gone only when the kernel has removed them.
        for _ in 0..100 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

#[test]
fn a_server_in_a_small_control_group_survives_sessions_that_stall() {
    const SESSIONS: usize = 400;
    let Some(group) = MemoryGroup::new(96 * MIB) else {
        etcp_testkit::tell("*** SKIPPED: no control group can be made");
        return;
    };
    let site = LoopbackSite::new();
    // The target accepts, and never reads.
    let target = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address = target.local_addr().expect("it listens").to_string();
    let echo = Echo::start().address;
    let mut command = etcp(site.path(), ["sproxy", "--listen", "127.0.0.1:0"]);
    command.args(["--target", &address, "--permit", &echo.to_string()]);
    command.arg("--identity").arg(site.server_key());
    command.arg("--authorized-keys").arg(site.authorized_keys());
    let mut sproxy = RunningProgram::start("sproxy", site.path(), group.run(&command));
    let line = sproxy.wait_for("listening on ");
    let server = line.rsplit_once(' ').expect("an address").1.parse().expect("an address");
    let forward = format!("127.0.0.1:0:{echo}");
    let clients: Vec<_> = (0..4)
        .map(|number| {
            let args = ["-L", &forward];
            let name = format!("client{number}");
            Cproxy::with(&site, server, &name, &site.client, &args).attached()
        })
        .collect();
    let mut accepted = Vec::new();
    let mut stalled = Vec::new();
    for (number, client) in (0..SESSIONS).zip(clients.iter().cycle()) {
        let mut session = dial(client.listen);
        session.write_all(&[number as u8]).expect("cproxy reads");
        accepted.push(target.accept().expect("sproxy connects").0);
        stalled.push(session);
    }
    fill(&stalled);
    for client in &clients {
        let log = client.program.log();
        let line = log.lines().filter(|line| line.contains("listening on")).nth(1);
        let listen = line.and_then(|line| line.rsplit_once(' ')).expect("it listens twice").1;
        Steady::start(listen.parse().expect("an address")).finish();
    }
    assert!(sproxy.is_running(), "{}", sproxy.log());
    etcp_testkit::tell(&format!(
        "measured: {SESSIONS} stalled sessions, {} kB in sproxy, {} in its group at most",
        sproxy.memory() / 1024,
        group.used()
    ));
    drop(sproxy);
}

/// Writes to every session until it takes no more, repeatedly: buffers and limits grow.
fn fill(sessions: &[TcpStream]) {
    let block = vec![7; 64 * 1024];
    for session in sessions {
        session.set_nonblocking(true).expect("it is a socket");
    }
    let mut idle = 0;
    while idle < 20 {
        let written: usize =
            sessions.iter().map(|mut session| session.write(&block).unwrap_or(0)).sum();
        idle = if written == 0 { idle + 1 } else { 0 };
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
