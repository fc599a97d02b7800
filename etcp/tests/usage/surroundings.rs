//! The environment of a program: other processes of its user, variables and folders that are meant
//! for others, a system without IPv6.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use etcp_testkit::loopback::operator::{socket, status};
use etcp_testkit::loopback::program::{RunningProgram, etcp};
use etcp_testkit::loopback::proxies::connect;
use etcp_testkit::loopback::{ATTACHED, Cproxy, Echo, LoopbackSite, LoopbackSproxy, Steady};
use etcp_testkit::skip;
use etcp_testkit::wait::{end_of, output};
use rustix::process::{Signal, geteuid};

/// Returns the same program with the same arguments and environment, started by a shell that has
/// run `before`. The harness's wrapper is left out.
pub(super) fn after(before: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{before}; exec \"$@\""), "sh"]);
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    let own = words.iter().position(|word| *word == "setsid").unwrap_or_default();
    shell.args(words.into_iter().skip(own));
    shell.stdin(Stdio::null()).stdout(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

pub(super) fn sproxy(site: &LoopbackSite, target: SocketAddr) -> Command {
    let mut command = etcp(site.path(), ["sproxy", "--listen", "127.0.0.1:0"]);
    command.arg("--identity").arg(site.server_key());
    command.arg("--authorized-keys").arg(site.authorized_keys());
    command.arg("--target").arg(target.to_string());
    command
}

pub(super) fn cproxy(site: &LoopbackSite, server: SocketAddr, args: &[&str]) -> Command {
    let mut command = etcp(site.path(), ["cproxy", "--listen", "127.0.0.1:0"]);
    command.arg("--server").arg(server.to_string()).arg("--identity").arg(&site.client.path);
    command.arg("--known-hosts").arg(site.known_hosts()).arg("--no-ssh-config").args(args);
    command
}

/// Returns the address on which the program reports that it listens.
pub(super) fn address(program: &mut RunningProgram) -> SocketAddr {
    let line = program.wait_for("listening on ");
    let text = line.split("listening on ").nth(1).expect("it was looked for");
    text.trim().parse().expect("an address")
}

/// Runs as an ordinary user, even if root runs the test.
fn as_ordinary_user(program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if geteuid().is_root() {
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    }
    command.arg("--").arg(program).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

#[test]
fn keys_in_memory_are_shown_neither_to_other_processes_of_the_user_nor_in_a_core_dump() {
    let site = LoopbackSite::new();
    let home = tempfile::tempdir().expect("a folder");
    let key = home.path().join("key");
    std::fs::copy(&site.client.path, &key).expect("it is ours");
    let program = home.path().join("etcp");
    std::fs::copy(env!("CARGO_BIN_EXE_etcp"), &program).expect("there is room");
    if geteuid().is_root() {
        for path in [home.path(), &key] {
            std::os::unix::fs::chown(path, Some(65534), Some(65534)).expect("root may");
        }
    }
    let cproxy = |name: &str, is_traceable: bool| {
        let args =
            ["cproxy", "--server", "127.0.0.1:9", "--listen", "127.0.0.1:0", "--no-ssh-config"];
        let mut command = as_ordinary_user(&program, &args);
        command.args(["-i", key.to_str().unwrap()]).env("HOME", home.path());
        command
            .env_remove("XDG_RUNTIME_DIR")
            .env_remove("XDG_STATE_HOME")
            .env_remove("SSH_AUTH_SOCK");
        if is_traceable {
            command.env("ETCP_TRACEABLE", "1");
        }
        let command = after("ulimit -Sc $(ulimit -Hc)", &command);
        let mut program = RunningProgram::start(name, site.path(), command);
        program.wait_for("control socket ");
        program
    };
    let reads = |program: &RunningProgram| {
        let path = format!("/proc/{}/environ", program.id());
        let mut command = as_ordinary_user(Path::new("/bin/cat"), &[&path]);
        command.stderr(Stdio::null()).status().expect("cat runs").success()
    };
    let (mut hidden, shown) = (cproxy("hidden", false), cproxy("shown", true));
    assert!(!reads(&hidden) && reads(&shown));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", hidden.id()));
    let limits = limits.expect("it runs");
    let core = limits.lines().find(|line| line.starts_with("Max core file size"));
    assert_eq!(core.and_then(|line| line.split_whitespace().nth(4)), Some("0"), "{limits}");
    hidden.signal(Signal::ABORT);
    let status = hidden.end_of();
    assert_eq!((status.signal(), status.core_dumped()), (Some(Signal::ABORT.as_raw()), false));
}

#[test]
fn the_status_in_a_container_that_shares_the_folder_removes_no_socket() {
    let site = LoopbackSite::new();
    let mut namespace = vec!["--pid", "--fork", "--mount-proc", "--kill-child"];
    if !geteuid().is_root() {
        namespace.extend(["--user", "--map-current-user"]);
    }
    let can = Command::new("unshare").args(&namespace).arg("true").status();
    if !can.is_ok_and(|status| status.success()) {
        skip::can_find("usage::surroundings (container)", &["unshare that makes PID namespaces"]);
        return;
    }
    let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    let cproxy = Cproxy::start(&site, sproxy.address, "cproxy").attached();
    // No process has these ids there.
    let inside = etcp(site.path(), ["status", "--json"]);
    let mut command = Command::new("unshare");
    command.args(&namespace).arg(env!("CARGO_BIN_EXE_etcp")).args(["status", "--json"]);
    for (name, value) in inside.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let output = command.output().expect("unshare runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(
        output.status.success() && text.contains("\"cproxy\"") && text.contains("\"sproxy\""),
        "{text}"
    );
    for (role, program) in [("sproxy", &sproxy.program), ("cproxy", &cproxy.program)] {
        assert!(socket(&site, role, program).exists());
        assert_eq!(status(&site, role, program)["role"], role);
    }
}

fn says(site: &LoopbackSite, server: SocketAddr, change: impl FnOnce(&mut Command)) -> Output {
    let mut command = connect(site, server, &site.client, &[]);
    change(&mut command);
    let mut child = command.spawn().expect("it runs");
    let mut input = child.stdin.take().expect("a pipe");
    std::io::Write::write_all(&mut input, b"hello\n").expect("it reads");
    drop(input);
    end_of(child)
}

#[test]
fn a_variable_for_the_logs_of_others_changes_nothing_and_one_line_says_what_is_passed_over() {
    let site = LoopbackSite::new();
    let server = LoopbackSproxy::start(&site, Echo::start().address);
    for (value, lines) in [
        ("app[span{x=1}]=debug", 1),
        ("info,foo=verbose,bar=loud", 1),
        ("hyper=debug,sqlx::query=off", 0),
        ("=,=", 0),
    ] {
        let output = says(&site, server.address, |command| {
            command.env("RUST_LOG", value);
        });
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && output.stdout == b"hello\n", "{value:?}: {text}");
        let told = text.lines().filter(|line| line.contains("RUST_LOG")).count();
        assert_eq!(told, lines, "{value:?}: {text}");
    }
}

#[test]
fn a_runtime_folder_of_another_user_is_not_used_and_a_services_is() {
    let site = LoopbackSite::new();
    let keys = site.authorized_keys();
    let start = |name: &str, change: &dyn Fn(&mut Command)| {
        let mut command = etcp(site.path(), ["sproxy", "--listen", "127.0.0.1:0"]);
        command.arg("--authorized-keys").arg(&keys);
        change(&mut command);
        let mut program = RunningProgram::start(name, site.path(), command);
        let line = program.wait_for("control socket ");
        PathBuf::from(line.split("control socket ").nth(1).expect("a path").trim())
    };
    let state = site.path().join(".local/state/eternaltcp");
    let foreign = site.path().join("foreign");
    std::fs::create_dir(&foreign).expect("it is ours");
    if geteuid().is_root() {
        std::os::unix::fs::chown(&foreign, Some(65534), None).expect("root may");
    }
    let foreign = if geteuid().is_root() { foreign } else { "/".into() };
    let socket = start("foreign", &|command| {
        command.env("XDG_RUNTIME_DIR", &foreign);
    });
    assert_eq!(socket.parent(), Some(state.join("control").as_path()));
    assert!(state.join("server_key").exists() && !foreign.join("eternaltcp").exists());

    let [lib, run] = ["lib", "run"].map(|name| site.path().join(name));
    for path in [&lib, &run] {
        std::fs::create_dir(path).expect("it is ours");
    }
    let socket = start("service", &|command| {
        command.env("STATE_DIRECTORY", &lib).env("RUNTIME_DIRECTORY", &run);
    });
    assert_eq!(socket.parent(), Some(run.as_path()));
    assert!(lib.join("server_key").exists());
    let socket = start("state", &|command| {
        command.env("STATE_DIRECTORY", &lib);
    });
    assert_eq!(socket.parent(), Some(lib.join("control").as_path()));
}

#[test]
fn a_service_finds_its_key_and_the_admitted_keys_among_its_credentials() {
    let (site, echo) = (LoopbackSite::new(), Echo::start());
    let start = |name: &str, change: &dyn Fn(&mut Command)| {
        let mut command = etcp(site.path(), ["sproxy", "--listen", "127.0.0.1:0", "--target"]);
        command
            .arg(echo.address.to_string())
            .env("CREDENTIALS_DIRECTORY", site.path().join("creds"));
        change(&mut command);
        RunningProgram::start(name, site.path(), command)
    };
    // As systemd makes it: nobody may write there.
    let credentials = site.path().join("creds");
    std::fs::create_dir(&credentials).expect("it is ours");
    for (from, name) in
        [(site.server_key(), "server_key"), (site.authorized_keys(), "authorized_keys")]
    {
        std::fs::copy(from, credentials.join(name)).expect("it is ours");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o400);
        std::fs::set_permissions(credentials.join(name), mode).expect("it is ours");
    }
    let mut server = start("credentials", &|_| {});
    server.wait_for(&format!("server key {}", site.server_fingerprint()));
    let address = address(&mut server);
    let client = Cproxy::start(&site, address, "admitted").attached();
    Steady::start(client.listen).finish();
    // A flag names another file.
    let mut other = start("other", &|command| {
        command.arg("--identity").arg(site.path().join("other_key"));
    });
    let line = other.wait_for("server key ");
    assert!(!line.contains(&site.server_fingerprint()), "{line}");
}

/// Starts a command without IPv6: socket(2) refuses it in the command's process and all processes
/// below.
const WITHOUT_V6: &str = r#"
import ctypes, os, struct, sys
op = lambda code, jt, jf, k: struct.pack("HBBI", code, jt, jf, k)
filter = b"".join([op(0x20, 0, 0, 0), op(0x15, 0, 3, int(sys.argv[1])), op(0x20, 0, 0, 16),
                   op(0x15, 0, 1, 10), op(6, 0, 0, 0x50061), op(6, 0, 0, 0x7fff0000)])
memory = ctypes.create_string_buffer(filter)
class Program(ctypes.Structure): _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
program, libc = Program(6, ctypes.addressof(memory)), ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0
os.execvp(sys.argv[2], sys.argv[2:])
"#;

/// The caller's environment does not name the folder of a service.
#[test]
fn a_service_of_the_system_is_found_without_a_flag_by_root_and_named_to_others() {
    if !skip::can_run("usage::surroundings (service)", &["unshare"]) {
        return;
    }
    let site = LoopbackSite::new();
    let before = "mount -t tmpfs none /run && mkdir -p /run/eternaltcp/office";
    let mut own_run = Command::new("unshare");
    own_run.args(["--mount", "sh", "-c", &format!("{before}; exec \"$@\""), "sh"]);
    let mut server = sproxy(&site, Echo::start().address);
    server.env("RUNTIME_DIRECTORY", "/run/eternaltcp/office");
    own_run.args(std::iter::once(server.get_program()).chain(server.get_args()));
    own_run.env("HOME", site.path()).env("RUNTIME_DIRECTORY", "/run/eternaltcp/office");
    let mut server = RunningProgram::start("service", site.path(), own_run);
    server.wait_for("control socket /run/eternaltcp/office/sproxy.");
    address(&mut server);
    let status = |before: &[&str]| {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &server.id().to_string()]).args(before);
        command.args([env!("CARGO_BIN_EXE_etcp"), "status"]).env("HOME", "/proc/nonexistent");
        command.env_remove("XDG_RUNTIME_DIR").env_remove("XDG_STATE_HOME");
        output(command.stdout(Stdio::piped()))
    };
    let said = status(&[]);
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success() && text.starts_with("sproxy "), "{said:?}");
    let said = status(&["setpriv", "--reuid=65534", "--clear-groups"]);
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    let expected = "only its user and root may look into /run/eternaltcp/office";
    assert!(text.contains(expected), "{text}");
}

fn without_v6(command: &Command) -> Command {
    let socket = if cfg!(target_arch = "x86_64") { "41" } else { "198" };
    let mut python = Command::new("python3");
    python.args(["-c", WITHOUT_V6, socket]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => python.env(name, value),
            None => python.env_remove(name),
        };
    }
    python.stdin(Stdio::null()).stdout(Stdio::null());
    python
}

#[test]
fn on_a_system_without_ipv6_every_default_works() {
    if !skip::can_find("usage::surroundings (no IPv6)", &["python3"]) {
        return;
    }
    let site = LoopbackSite::new();
    let echo = Echo::start();
    let target = echo.address.to_string();
    let mut command = etcp(site.path(), ["sproxy", "--listen", "[::]:0", "--target", &target]);
    command.arg("--identity").arg(site.server_key());
    command.arg("--authorized-keys").arg(site.authorized_keys());
    command.args(["--permit", "localhost:*"]);
    let mut server = RunningProgram::start("sproxy", site.path(), without_v6(&command));
    let mut there = address(&mut server);
    server.wait_for("using 0.0.0.0 instead of [::]");
    assert!(there.ip().is_unspecified() && there.is_ipv4());
    there.set_ip([127, 0, 0, 1].into());

    // A name with addresses of both families, and every kind of listener.
    let port = echo.address.port();
    let forward = format!("*:0:localhost:{port}");
    let remote = format!("localhost:0:127.0.0.1:{port}");
    let args = ["-L", &forward, "-D", "*:0", "-R", &remote];
    let mut command = cproxy(&site, there, &args);
    command.args(["--server", &format!("localhost:{}", there.port())]);
    let mut client = RunningProgram::start("cproxy", site.path(), without_v6(&command));
    client.wait_for(ATTACHED);
    client.wait_for_count("listening on ", 3);
    let line = client.wait_for("listening on 0.0.0.0:");
    let there: SocketAddr = line.split("listening on ").nth(1).unwrap().trim().parse().unwrap();
    let steady = Steady::start(SocketAddr::new([127, 0, 0, 1].into(), there.port()));
    steady.goes_on();
    steady.finish();
    assert_eq!(client.log().lines().filter(|line| line.contains("ERROR")).count(), 0);
}

#[test]
fn localhost_is_both_loopback_addresses_for_carriers_too() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: usage::surroundings (localhost): no IPv6");
        return;
    }
    let site = LoopbackSite::new();
    let echo = Echo::start();
    let mut command = etcp(site.path(), ["sproxy", "--listen", "localhost:0", "--target"]);
    command.arg(echo.address.to_string()).arg("--identity").arg(site.server_key());
    command.arg("--authorized-keys").arg(site.authorized_keys());
    let mut server = RunningProgram::start("sproxy", site.path(), command);
    server.wait_for_count("listening on ", 2);
    let there = address(&mut server);
    for host in ["127.0.0.1", "::1"] {
        let there = SocketAddr::new(host.parse().expect("an address"), there.port());
        server.wait_for(&format!("listening on {there}"));
        let mut client = RunningProgram::start("cproxy", site.path(), cproxy(&site, there, &[]));
        client.wait_for(ATTACHED);
        let steady = Steady::start(address(&mut client));
        steady.goes_on();
        steady.finish();
    }
}
