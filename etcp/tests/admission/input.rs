//! Bad input: every wrong flag, file, key and address gives one line with the fault, and an exit
//! code; never a panic.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use etcp_testkit::loopback::program::etcp;
use etcp_testkit::loopback::{Echo, LoopbackSite, LoopbackSproxy, connect};
use etcp_testkit::refused;
use etcp_testkit::wait::output;

/// Runs `etcp` to its end with this exit code and one line; log lines do not count.
#[track_caller]
fn fails(mut command: Command, code: i32, wanted: &str) {
    let Output { status, stdout, stderr } = output(&mut command);
    let text = String::from_utf8(stderr).expect("it says text");
    let told = format!("{command:?}\n{text}");
    assert_eq!(status.code(), Some(code), "{told}");
    assert!(stdout.is_empty(), "{told}");
    let is_log = |line: &&str| line.starts_with("20") && line.contains("Z ");
    let lines: Vec<_> = text.lines().filter(|line| !is_log(line)).collect();
    assert!(lines.len() == 1 && lines[0].starts_with("etcp: "), "{told}");
    assert!(lines[0].contains(wanted), "{wanted:?} is missing: {told}");
    assert!(!text.contains("panic"), "{told}");
}

fn args(site: &LoopbackSite, line: &str) -> Command {
    etcp(site.path(), line.split_whitespace())
}

/// Command lines with a mistake, and the part of the message that names it.
const WRONG_USAGE: &[(&str, &str)] = &[
    ("sprox", "unrecognized subcommand 'sprox'"),
    ("--no-such-flag", "--no-such-flag"),
    ("sproxy --no-such-flag", "--no-such-flag"),
    ("sproxy extra", "extra"),
    ("cproxy", "--server"),
    ("connect", "--server"),
    ("cproxy --server", "--server"),
    ("cproxy --server host:0", "port"),
    ("cproxy --server host:70000", "port"),
    ("cproxy --server host:-1", "port"),
    ("cproxy --server host:", "port"),
    ("cproxy --server :22", "host"),
    ("cproxy --server ::1:6200:x", "--server"),
    ("cproxy --server [::1", "bracket"),
    ("cproxy --server a..b", "--server"),
    ("cproxy --server host --listen nonsense", "--listen"),
    ("cproxy --server host --listen 127.0.0.1:70000", "port"),
    ("cproxy --server host --listen na_me..x:5200", "--listen"),
    ("cproxy host", "name the server with --server host"),
    ("cproxy me@host -L 1:h:2", "name the server with --server host"),
    ("sproxy --memory 4X", "512M, 4G or 1.5GiB"),
    ("cproxy --server me@host", "leave out what stands before '@'"),
    ("cproxy --server ssh://host", "leave out the scheme"),
    ("cproxy --server host -R name:80:h:1", "write an address"),
    ("cproxy --server host -L 5432:localhost", "the target's port is missing"),
    ("cproxy --server host -L localhost:5432", "the port to listen on is missing"),
    ("cproxy --server host -L 80:host:no-such-service", "/etc/services"),
    ("cproxy --server host -L 5432", "--local-forward"),
    ("cproxy --server host -L 0.0.0.0:5432:h", "--local-forward"),
    ("cproxy --server host -L 5432:host:0", "port"),
    ("cproxy --server host -L x:host:1", "--local-forward"),
    ("cproxy --server host -L 1:2:3:4:5", "--local-forward"),
    ("cproxy --server host --max-waiting many", "--max-waiting"),
    ("cproxy --server host --wait 0s", "longer than zero"),
    ("cproxy --server host --wait 5", "--wait"),
    ("cproxy --server host --give-up-after soon", "--give-up-after"),
    ("cproxy --server host --heartbeat 1y", "--heartbeat"),
    ("cproxy --server host --heartbeat 99999999999999999999s", "--heartbeat"),
    ("cproxy --server host --log-format xml", "--log-format"),
    ("connect --server host target", "port"),
    ("connect --server host host:0", "port"),
    ("connect --server host host:1 extra", "extra"),
    ("connect --server host --connect-timeout 0ms", "longer than zero"),
    ("sproxy --target nowhere", "--target"),
    ("sproxy --target host:0", "port"),
    ("sproxy --permit *", "--permit"),
    ("sproxy --permit 10.0.0.0/33:1", "--permit"),
    ("sproxy --permit host:70000", "--permit"),
    ("sproxy --keep-detached 7", "--keep-detached"),
    ("sproxy --memory 1", "--memory"),
    ("sproxy --memory lots", "--memory"),
    ("sproxy --listen unix:/tmp/x", "sproxy listens on TCP"),
    ("sproxy --listen 999.0.0.1:1", "--listen"),
    ("sproxy --heartbeat 1s --dead-after 1s", "at least twice --heartbeat"),
    ("sproxy --dead-after 0s", "longer than zero"),
    ("sproxy --heartbeat 50ms --dead-after 299ms", "at least 300ms"),
];

#[test]
fn wrong_usage_is_reported_in_one_line_with_exit_code_2() {
    let site = LoopbackSite::new();
    for (line, wanted) in WRONG_USAGE {
        fails(args(&site, line), 2, wanted);
    }
}

#[test]
fn two_heartbeats_must_fit_into_the_time_after_which_a_carrier_is_given_up() {
    let site = LoopbackSite::new();
    let server = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let server = server.local_addr().expect("it listens");
    for times in [["--heartbeat", "5s"], ["--dead-after", "1500ms"]] {
        fails(connect(&site, server, &site.client, &times), 2, "at least twice --heartbeat");
    }
}

/// Makes a key with ssh-keygen.
fn keygen(path: &Path, args: &[&str]) {
    let status = Command::new("ssh-keygen").arg("-q").args(args).arg("-f").arg(path).status();
    assert!(status.expect("ssh-keygen runs").success(), "{args:?}");
}

#[test]
fn a_key_that_cannot_be_used_is_reported_in_one_line_with_exit_code_1() {
    let site = LoopbackSite::new();
    let file = |name: &str, text: &[u8]| {
        fs::write(site.path().join(name), text).expect("a file can be written");
        fs::set_permissions(site.path().join(name), Permissions::from_mode(0o600)).expect("ours");
    };
    file("empty", b"");
    file("text", b"my key is in the other drawer\n");
    file("binary", &[0xff; 300]);
    file("long", &vec![b'a'; 1_100_000]);
    let whole = fs::read(&site.client.path).expect("it is ours");
    file("cut", &whole[..whole.len() / 2]);
    file("open", &whole);
    fs::set_permissions(site.path().join("open"), Permissions::from_mode(0o644)).expect("ours");
    keygen(&site.path().join("rsa"), &["-t", "rsa", "-b", "2048", "-N", ""]);
    keygen(&site.path().join("p384"), &["-t", "ecdsa", "-b", "384", "-N", ""]);
    keygen(&site.path().join("locked"), &["-t", "ed25519", "-N", "secret words"]);
    keygen(&site.path().join("pem"), &["-t", "ecdsa", "-b", "256", "-m", "PEM", "-N", ""]);
    fs::set_permissions(site.path().join("client.pub"), Permissions::from_mode(0o600))
        .expect("ours");
    for (name, wanted) in [
        ("absent", "no such key: make one with: ssh-keygen"),
        ("absent/folder", "no such key"),
        (".", "cannot read the private key"),
        ("client/key", "cannot read the private key"),
        ("client.pub", "public"),
        ("empty", "not an OpenSSH private key"),
        ("text", "not an OpenSSH private key"),
        ("binary", "not an OpenSSH private key"),
        ("long", "longer than"),
        ("cut", "not an OpenSSH private key"),
        ("open", "chmod 600"),
        ("rsa", "is not supported: use ssh-ed25519"),
        ("p384", "is not supported: use ssh-ed25519"),
        ("locked", "the key has a passphrase, and nobody can be asked for it"),
        ("pem", "convert it with: ssh-keygen -p"),
    ] {
        let path = site.path().join(name);
        for mode in ["cproxy", "connect"] {
            let mut command = args(&site, mode);
            command.args(["--server", "127.0.0.1:1", "--identity"]).arg(&path);
            fails(command, 1, wanted);
        }
        if !name.starts_with("absent") {
            let mut command = args(&site, "sproxy --listen 127.0.0.1:0");
            command.arg("--identity").arg(&path);
            fails(command, 1, wanted);
        }
    }
}

#[test]
fn a_place_that_cannot_be_used_is_reported_in_one_line_with_exit_code_1() {
    let site = LoopbackSite::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let taken = taken.local_addr().expect("it listens").to_string();
    let file = site.path().join("client");
    let missing = site.path().join("missing").display().to_string();
    let key = format!("--identity {}", file.display());
    let client = format!("cproxy --server 127.0.0.1:1 {key}");
    let own = format!("has it (process {}): choose another port", std::process::id());
    for (line, wanted) in [
        (format!("sproxy {key} --listen {taken}"), "cannot listen on 127.0.0.1:"),
        (format!("sproxy {key} --listen {taken}"), own.as_str()),
        (format!("{client} --listen {taken}"), own.as_str()),
        (format!("sproxy {key} --listen 192.0.2.1:0"), "cannot listen on 192.0.2.1:0"),
        (format!("{client} --listen {taken}"), "cannot listen on 127.0.0.1:"),
        (format!("{client} --listen 192.0.2.1:0"), "cannot listen on 192.0.2.1:0"),
        (format!("{client} -L {taken}:host:1"), "cannot listen on 127.0.0.1:"),
        (format!("{client} --listen unix:{missing}/socket"), "cannot listen on unix:/"),
        (format!("{client} --listen unix:{}", file.display()), "in use"),
        (format!("sproxy --identity {}/x/key --listen 127.0.0.1:0", file.display()), "client/x"),
        ("sproxy --identity /proc/key --listen 127.0.0.1:0".to_owned(), "/proc"),
    ] {
        fails(args(&site, &line), 1, wanted);
    }
    assert!(file.is_file(), "what was no socket is left alone");
}

#[test]
fn a_missing_congestion_control_is_reported_in_one_line() {
    let site = LoopbackSite::new();
    let key = format!("--identity {}", site.client.path.display());
    for line in [format!("cproxy {key} --server 127.0.0.1:1"), format!("sproxy {key}")] {
        let line = format!("{line} --listen 127.0.0.1:0 --congestion");
        fails(args(&site, &format!("{line} nosuch")), 1, "has no congestion control nosuch");
        fails(args(&site, &format!("{line} no/name")), 2, "named like bbr or cubic");
    }
}

#[test]
fn a_home_that_is_missing_or_not_a_folder_is_reported_in_one_line() {
    let site = LoopbackSite::new();
    let is_root = rustix::process::geteuid().is_root();
    // Root can create any folder, so root uses a folder of this test alone.
    let missing = site.path().join("missing").display().to_string();
    let missing = if is_root { &missing } else { "/nonexistent" };
    for home in [missing, "/dev/null", "relative"] {
        for line in ["cproxy --server host", "connect --server host"] {
            let mut command = args(&site, line);
            command.env("HOME", home);
            fails(command, 1, "");
        }
        let mut command = args(&site, "sproxy --listen 127.0.0.1:0");
        command.env("HOME", home);
        if home != missing || !is_root {
            fails(command, 1, "");
        }
    }
}

#[test]
fn a_known_hosts_that_cannot_be_read_refuses_the_server() {
    let site = LoopbackSite::new();
    let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    fs::remove_file(site.known_hosts()).expect("it is ours");
    fs::create_dir(site.known_hosts()).expect("the name is free");
    for extra in [&[][..], &["--accept-new"]] {
        let command = connect(&site, sproxy.address, &site.client, extra);
        fails(command, 3, "is not a regular file");
    }
}

#[test]
fn a_server_that_is_not_an_sproxy_is_reported_in_one_line() {
    let site = LoopbackSite::new();
    let portal = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address = portal.local_addr().expect("it listens");
    std::thread::spawn(move || {
        for mut stream in portal.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 302 Found\r\n\r\n");
        }
    });
    let soon = ["--connect-timeout", "2s"];
    fails(connect(&site, refused(), &site.client, &soon), 1, "Connection refused");
    fails(connect(&site, address, &site.client, &soon), 1, "does not speak EternalTCP");
    let mut command = args(&site, "connect --server no-such-host.invalid --connect-timeout 2s");
    command.arg("--identity").arg(&site.client.path);
    fails(command, 1, "no-such-host.invalid");
}
