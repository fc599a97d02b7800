//! `etcp reload` and SIGHUP: changed configuration files under live sessions.

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use etcp_testkit::HeldPort;
use etcp_testkit::loopback::operator::{OperatorOutput, control, operate, status};
use etcp_testkit::loopback::program::RunningProgram;
use etcp_testkit::loopback::socket::dial;
use etcp_testkit::loopback::{Cproxy, Echo, LoopbackSite, LoopbackSproxy, Steady};
use rustix::process::Signal;

/// A server with a configuration file, and a client with a session to the default target and one to
/// a target that the file permits.
struct ReloadFixture {
    site: LoopbackSite,
    file: PathBuf,
    sproxy: LoopbackSproxy,
    cproxy: Cproxy,
    default: Echo,
    permitted: Echo,
    /// The address at which the client forwards to the permitted target.
    listen: SocketAddr,
}

impl ReloadFixture {
    fn new() -> Self {
        let (site, default, permitted) = (LoopbackSite::new(), Echo::start(), Echo::start());
        let file = site.path().join("sproxy.toml");
        let text = format!(
            "listen = '127.0.0.1:0'\ntarget = '{}'\npermit = '{}'\n",
            default.address, permitted.address
        );
        fs::write(&file, text).expect("the folder is ours");
        let sproxy = LoopbackSproxy::plain(&site, &["--config", text_of(&file)]);
        let forward = format!("127.0.0.1:0:{}", permitted.address);
        let args = ["-L", &forward];
        let cproxy = Cproxy::with(&site, sproxy.address, "cproxy", &site.client, &args).attached();
        let listen = listens(&cproxy.program)[1];
        Self { site, file, sproxy, cproxy, default, permitted, listen }
    }

    /// Replaces the file by these lines after those of the listener and the default target.
    fn write(&self, lines: &str) {
        let text = format!("listen = '127.0.0.1:0'\ntarget = '{}'\n{lines}", self.default.address);
        fs::write(&self.file, text).expect("the folder is ours");
    }

    fn reload(&self) -> OperatorOutput {
        reload(&self.site, "sproxy", &self.sproxy.program)
    }

    /// Returns whether the permitted target can be reached.
    fn is_permitted(&self) -> bool {
        use std::io::{Read, Write};
        let mut stream = dial(self.listen);
        let mut byte = [0];
        stream.write_all(b"x").is_ok() && stream.read_exact(&mut byte).is_ok()
    }
}

fn text_of(path: &Path) -> &str {
    path.to_str().expect("test paths are text")
}

fn reload(site: &LoopbackSite, role: &str, program: &RunningProgram) -> OperatorOutput {
    operate(site, &["reload", "--control", &control(site, role, program)])
}

/// Returns the addresses on which a program has listened, in the order of its log.
fn listens(program: &RunningProgram) -> Vec<SocketAddr> {
    let log = program.log();
    let lines = log.lines().filter_map(|line| line.split("INFO listening on ").nth(1));
    lines.filter_map(|address| address.trim().parse().ok()).collect()
}

#[test]
fn a_session_whose_permit_is_removed_ends_and_others_continue_also_after_a_crash() {
    let mut all = ReloadFixture::new();
    let (steady, mut lost) = (Steady::start(all.cproxy.listen), Steady::start(all.listen));
    all.write("wait = '30s'\nmax-startups = '10:30:100'\n");
    let said = all.reload();
    assert_eq!(said.code, Some(0), "{said:?}");
    for line in [
        "  permit: applied\n",
        "  wait: applied to new tunnels\n",
        "  max-startups: not applied: run etcp upgrade\n",
    ] {
        assert!(said.out.contains(line), "{line}: {said:?}");
    }
    assert!(!said.out.contains("target"), "only what has changed: {said:?}");
    assert_eq!(lost.ended(), Some(ErrorKind::ConnectionReset));
    steady.goes_on();
    assert!(!all.is_permitted());
    // The next worker has the settings of the reload, and reads no file.
    fs::write(&all.file, "target = ").expect("the folder is ours");
    all.sproxy.program.kill_worker();
    all.sproxy.program.wait_for("another one continues");
    steady.goes_on();
    assert!(!all.is_permitted());
    // The file is compared with what is in force, not with what it contained.
    all.write(&format!("permit = '{}'\n", all.permitted.address));
    let said = all.reload();
    assert!(said.out.contains("  permit: applied\n") && said.out.contains("  wait: "), "{said:?}");
    assert!(all.is_permitted());
    steady.finish();
    assert_eq!(all.sproxy.program.count("another one continues"), 1);
}

#[test]
fn a_wrong_file_changes_nothing_and_is_reported() {
    let mut all = ReloadFixture::new();
    let steady = Steady::start(all.listen);
    let none = all.site.path().join("none");
    for (lines, place) in [
        ("permit = 'nowhere'\n", "sproxy.toml:3:10: invalid value \"nowhere\" for permit: "),
        ("permitt = 'a:1'\n", "sproxy.toml:3:1: there is no key permitt: did you mean permit?"),
        ("wait = \n", "sproxy.toml:3:"),
        ("heartbeat = '9s'\n", "sproxy.toml:3:1: --dead-after 3s leaves no time"),
    ] {
        all.write(lines);
        let said = all.reload();
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.err.contains(place) && said.err.contains("nothing was changed"), "{said:?}");
    }
    all.sproxy.program.wait_for("not reloaded: ");
    steady.goes_on();
    // A file of keys that cannot be read would admit nobody.
    let args = ["--config", text_of(&all.file)];
    all.write(&format!(
        "permit = '{}'\nauthorized-keys = '{}'\n",
        all.permitted.address,
        none.display()
    ));
    assert_eq!(operate(&all.site, &["check", args[1]]).code, Some(1));
    assert!(all.is_permitted());
    steady.finish();
    assert_eq!(all.cproxy.carriers_taken(), 0, "{}", all.cproxy.program.log());
}

#[test]
fn a_hangup_reloads_the_file_and_another_file_of_keys_counts() {
    let site = LoopbackSite::new();
    let (echo, other) = (Echo::start(), site.key("other"));
    let file = site.path().join("sproxy.toml");
    let write = |keys: &Path| {
        let text = format!(
            "listen = '127.0.0.1:0'\ntarget = '{}'\nidentity = '{}'\nauthorized-keys = '{}'\n",
            echo.address,
            site.server_key().display(),
            keys.display()
        );
        fs::write(&file, text).expect("the folder is ours");
    };
    let keys = site.path().join("more_keys");
    fs::write(&keys, format!("{}\n", other.line)).expect("the folder is ours");
    write(&site.authorized_keys());
    let mut sproxy = LoopbackSproxy::of_file(&site, text_of(&file));
    let cproxy = Cproxy::start(&site, sproxy.address, "cproxy").attached();
    let mut steady = Steady::start(cproxy.listen);
    // A file that cannot be read changes nothing.
    write(&site.path().join("none"));
    sproxy.program.signal(Signal::HUP);
    sproxy.program.wait_for("none does not exist");
    steady.goes_on();
    write(&keys);
    sproxy.program.signal(Signal::HUP);
    sproxy.program.wait_for("reloaded: authorized-keys is applied");
    assert_eq!(steady.ended(), Some(ErrorKind::ConnectionReset));
    let theirs = Cproxy::with(&site, sproxy.address, "theirs", &other, &[]).attached();
    Steady::start(theirs.listen).finish();
}

#[test]
fn forwards_of_a_client_are_added_and_removed_and_sessions_continue_also_after_a_crash() {
    let site = LoopbackSite::new();
    let (default, other) = (Echo::start(), Echo::start());
    let args = ["--listen", "127.0.0.1:0", "--permit", "127.0.0.1:*"];
    let sproxy = LoopbackSproxy::with(&site, default.address, &args, None);
    let file = site.path().join("cproxy.toml");
    fs::write(&file, "carriers = 1\n").expect("the folder is ours");
    let args = ["--config", text_of(&file)];
    let mut cproxy = Cproxy::with(&site, sproxy.address, "cproxy", &site.client, &args).attached();
    let steady = Steady::start(cproxy.listen);
    let forward = format!("local-forward = '127.0.0.1:0:{}'\n", other.address);
    fs::write(&file, format!("{forward}carriers = 2\n")).expect("the folder is ours");
    let said = reload(&site, "cproxy", &cproxy.program);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("  local-forward: applied\n"), "{said:?}");
    assert!(said.out.contains("  carriers: not applied: run etcp upgrade\n"), "{said:?}");
    // The log is written in order.
    cproxy.program.wait_for("reloaded: local-forward is applied");
    let added = listens(&cproxy.program)[1];
    let through = Steady::start(added);
    let shown = || status(&site, "cproxy", &cproxy.program)["listen"].clone();
    assert!(shown().as_array().is_some_and(|all| all.len() == 2), "{}", shown());
    cproxy.program.kill_worker();
    cproxy.program.wait_for("another one continues");
    steady.goes_on();
    through.goes_on();
    Steady::start(added).finish();
    // Without the forward its listener is gone, and its session is not.
    fs::write(&file, "").expect("the folder is ours");
    let said = reload(&site, "cproxy", &cproxy.program);
    assert!(said.out.contains("  local-forward: applied\n"), "{said:?}");
    assert!(std::net::TcpStream::connect(added).is_err());
    steady.goes_on();
    through.goes_on();
    steady.finish();
    through.finish();
}

#[test]
fn a_forward_changes_its_address_on_the_same_port_in_one_reload() {
    let site = LoopbackSite::new();
    let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    let file = site.path().join("cproxy.toml");
    fs::write(&file, "").expect("the folder is ours");
    let args = ["--config", text_of(&file)];
    let cproxy = Cproxy::with(&site, sproxy.address, "cproxy", &site.client, &args).attached();
    let held = HeldPort::take();
    let port = held.number();
    let write = |address: &str| {
        fs::write(&file, format!("dynamic-forward = '{address}:{port}'\n"))
            .expect("the folder is ours");
        reload(&site, "cproxy", &cproxy.program)
    };
    let shown = || status(&site, "cproxy", &cproxy.program)["listen"].to_string();
    for address in ["0.0.0.0", "127.0.0.1", "*", "localhost"] {
        let said = write(address);
        assert_eq!(said.code, Some(0), "{said:?}");
    }
    assert!(!shown().contains("0.0.0.0"), "{}", shown());
    // The port of another program: the earlier address is listened on again.
    let taken = std::net::TcpListener::bind("127.0.0.2:0").expect("loopback has ports");
    let other = taken.local_addr().expect("it listens");
    let forwards = format!("dynamic-forward = ['0.0.0.0:{port}', '{other}']\n");
    fs::write(&file, forwards).expect("the folder is ours");
    let said = reload(&site, "cproxy", &cproxy.program);
    assert!(said.code == Some(1) && said.err.contains("nothing was changed"), "{said:?}");
    assert!(shown().contains(&format!("127.0.0.1:{port}")), "{}", shown());
    drop(dial(SocketAddr::from(([127, 0, 0, 1], port))));
}

#[test]
fn a_holder_cannot_be_left_out_by_a_reload_nor_by_an_upgrade() {
    let all = ReloadFixture::new();
    let steady = Steady::start(all.cproxy.listen);
    all.write(&format!("permit = '{}'\nno-holder = true\n", all.permitted.address));
    let said = all.reload();
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("  no-holder: not applied: it needs a restart"), "{said:?}");
    let socket = control(&all.site, "sproxy", &all.sproxy.program);
    let said = operate(&all.site, &["upgrade", "--control", &socket]);
    let fault = "sproxy.toml:4:1: --no-holder needs a restart";
    assert!(said.code == Some(1) && said.err.contains(fault), "{said:?}");
    steady.goes_on();
    steady.finish();
}

#[test]
fn an_upgrade_that_moves_the_control_socket_succeeds() {
    let all = ReloadFixture::new();
    let steady = Steady::start(all.cproxy.listen);
    let (socket, moved) =
        (control(&all.site, "sproxy", &all.sproxy.program), all.site.path().join("moved"));
    all.write(&format!("permit = '{}'\ncontrol = '{}'\n", all.permitted.address, moved.display()));
    let said = operate(&all.site, &["upgrade", "--control", &socket]);
    assert_eq!(said.code, Some(0), "{said:?} {}", all.sproxy.program.log());
    assert!(said.out.ends_with(" serves\n"), "{said:?}");
    let said = operate(&all.site, &["status", "--control", text_of(&moved)]);
    assert_eq!(said.code, Some(0), "{said:?}");
    steady.goes_on();
    steady.finish();
}

#[test]
fn settings_that_the_next_worker_could_not_have_are_refused() {
    let all = ReloadFixture::new();
    let name = "x".repeat(10_000);
    let permits = vec!["'a:1'"; 500].join(",");
    all.write(&format!("[group.{name}]\npermit = [{permits}]\n"));
    let said = all.reload();
    assert!(said.code == Some(1) && said.err.contains("at most 4 MiB"), "{said:?}");
    assert!(all.is_permitted());
}

#[test]
fn without_a_file_the_keys_are_read_again() {
    let site = LoopbackSite::new();
    let mut sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    let said = reload(&site, "sproxy", &sproxy.program);
    assert_eq!(said.code, Some(0), "{said:?}");
    let end = "has read its keys again; it was started without --config\n";
    assert!(said.out.ends_with(end), "{said:?}");
    sproxy.program.wait_for("the authorized keys are read again");
}
