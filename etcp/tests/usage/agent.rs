//! Keys in an ssh-agent.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use etcp_testkit::loopback::agent::{TestAgent, ssh_keygen};
use etcp_testkit::loopback::{
    ATTACHED, Echo, LoopbackRelay, LoopbackSite, LoopbackSproxy, RunningProgram, Steady, etcp,
};
use etcp_testkit::skip;
use etcp_testkit::wait::output;

/// Returns a client of `server` whose keys are those of the agent at `socket`.
fn client(site: &LoopbackSite, mode: &str, server: &str, socket: &Path, args: &[&str]) -> Command {
    let mut command = etcp(site.path(), [mode, "--server", server]);
    if !args.contains(&"-F") {
        command.args(["-F", "none"]);
    }
    command.arg("--known-hosts").arg(site.known_hosts()).args(args);
    command.env("SSH_AUTH_SOCK", socket);
    command
}

fn cproxy(site: &LoopbackSite, server: &str, socket: &Path, args: &[&str]) -> RunningProgram {
    let args = [&["--listen", "127.0.0.1:0"], args].concat();
    RunningProgram::start("cproxy", site.path(), client(site, "cproxy", server, socket, &args))
}

/// Returns the message of a failing `etcp connect`, and its exit code.
#[track_caller]
fn complaint(
    site: &LoopbackSite,
    server: &str,
    socket: &Path,
    args: &[&str],
) -> (Option<i32>, String) {
    complaint_of("connect", site, server, socket, args)
}

/// Returns the message of another failing command, and its exit code.
#[track_caller]
fn complaint_of(
    mode: &str,
    site: &LoopbackSite,
    server: &str,
    socket: &Path,
    args: &[&str],
) -> (Option<i32>, String) {
    let mut command = client(site, mode, server, socket, args);
    let output = output(command.stdin(Stdio::piped()));
    let text = String::from_utf8(output.stderr).expect("it says text");
    (output.status.code(), text.lines().last().unwrap_or_default().to_owned())
}

fn listening(program: &mut RunningProgram) -> std::net::SocketAddr {
    let line = program.wait_for("listening on ");
    line.rsplit(' ').next().and_then(|text| text.parse().ok()).expect("an address")
}

/// Creates a program with which an agent asks its user. It records that it was asked.
fn askpass(site: &LoopbackSite, then: &str) -> (PathBuf, PathBuf) {
    let (program, asked) = (site.path().join("askpass"), site.path().join("asked"));
    let text = format!("#!/bin/sh\necho asked >> {}\n{then}\n", asked.display());
    std::fs::write(&program, text).expect("it is ours");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&program, mode).expect("it is ours");
    (program, asked)
}

/// Starts an agent with an admitted key that needs its user's consent for each signature: `then` is
/// the end of the program that asks. Returns also the file that records each question.
fn confirming_agent(site: &LoopbackSite, then: &str) -> (TestAgent, PathBuf) {
    let (program, asked) = askpass(site, then);
    let agent = TestAgent::start(site.path(), Some(&program));
    let key = site.path().join("confirmed");
    site.admit(&[&ssh_keygen(&key, "ed25519", "")]);
    agent.add(&key, &["-c"]);
    // Only the agent can sign with it.
    std::fs::remove_file(&key).expect("it is ours");
    (agent, asked)
}

fn served() -> (LoopbackSite, LoopbackSproxy) {
    let site = LoopbackSite::new();
    let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    (site, sproxy)
}

#[test]
fn a_key_of_the_agent_lets_in_and_the_tunnel_outlives_the_agent() {
    for kind in ["ed25519", "ecdsa"] {
        let (site, sproxy) = served();
        let relay = LoopbackRelay::start([127, 0, 0, 1], sproxy.address);
        let mut agent = TestAgent::start(site.path(), None);
        let key = site.path().join("mine");
        // The stranger is first in the agent, and the RSA key is ignored.
        for (name, kind) in [("stranger", "ed25519"), ("rsa", "rsa"), ("mine", kind)] {
            let path = site.path().join(name);
            ssh_keygen(&path, kind, "");
            agent.add(&path, &[]);
        }
        site.admit(&[&etcp_testkit::loopback::agent::public_line(&key)]);
        std::fs::remove_file(&key).expect("it is ours");
        let server = relay.address.to_string();
        let mut cproxy = cproxy(&site, &server, &agent.socket, &[]);
        let listen = listening(&mut cproxy);
        cproxy.wait_for(ATTACHED);
        cproxy.wait_for("authorized_keys; trying SHA256:");
        let steady = Steady::start(listen);
        agent.program.kill();
        for count in 1..=2 {
            relay.cut();
            cproxy.wait_for_count("attached again", count);
            steady.goes_on();
        }
        steady.finish();
    }
}

#[test]
fn a_key_with_a_passphrase_is_not_asked_for_when_the_agent_holds_it() {
    let (site, sproxy) = served();
    let key = site.path().join("secret");
    site.admit(&[&ssh_keygen(&key, "ed25519", "")]);
    let agent = TestAgent::start(site.path(), None);
    agent.add(&key, &[]);
    let mut change = Command::new("ssh-keygen");
    change.args(["-q", "-p", "-P", "", "-N", "long secret", "-f"]).arg(&key);
    etcp_testkit::loopback::agent::succeed(&mut change);
    let server = sproxy.address.to_string();
    let public = format!("{}.pub", key.display());
    // The public half alone names the key too, as for ssh.
    for file in [key.to_str().expect("text"), &public] {
        let mut cproxy = cproxy(&site, &server, &agent.socket, &["-i", file, "--name", file]);
        cproxy.wait_for(ATTACHED);
    }
    drop(agent);
    let (code, line) = complaint(&site, &server, Path::new("/nowhere"), &["-i", &public]);
    assert_eq!(code, Some(1));
    assert!(line.contains("no ssh-agent answers at /nowhere"), "{line}");
    assert!(line.contains("no agent has the private one: run: ssh-add"), "{line}");
}

#[test]
fn an_agent_that_asks_its_user_is_asked_once_however_long_the_user_takes() {
    let site = LoopbackSite::new();
    let args = ["--listen", "127.0.0.1:0", "--login-grace", "4s"];
    let sproxy = LoopbackSproxy::with(&site, Echo::start().address, &args, None);
    // The time is longer than strangers may take to start and to answer, and than a dial may take.
    let (agent, asked) = confirming_agent(&site, "sleep 8");
    let server = sproxy.address.to_string();
    let mut command =
        client(&site, "connect", &server, &agent.socket, &["--connect-timeout", "6s"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let (mut stdin, mut stdout) = (child.stdin.take().expect("a pipe"), child.stdout.take());
    stdin.write_all(b"through").expect("it takes it");
    let mut echoed = [0; 7];
    stdout.as_mut().expect("a pipe").read_exact(&mut echoed).expect("it is echoed");
    assert_eq!(&echoed, b"through");
    drop(stdin);
    assert!(child.wait().expect("it ends").success());
    assert_eq!(std::fs::read_to_string(asked).expect("it was asked"), "asked\n");
}

#[test]
fn a_signature_that_the_user_declines_ends_the_client_and_says_so() {
    let (site, sproxy) = served();
    let (agent, asked) = confirming_agent(&site, "exit 1");
    let server = sproxy.address.to_string();
    // Two names of one server: the user is still asked once.
    let (code, line) = complaint(&site, &server, &agent.socket, &["--server", &server]);
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains("the ssh-agent refused to sign: was the question declined"), "{line}");
    assert_eq!(std::fs::read_to_string(asked).expect("it was asked"), "asked\n");
}

#[test]
fn no_agent_signs_for_a_server_whose_key_has_changed() {
    let (site, sproxy) = served();
    // It signs when its user agrees, and the user always agrees.
    let (agent, asked) = confirming_agent(&site, "exit 0");
    let known = std::fs::read_to_string(site.known_hosts()).expect("it is ours");
    let other = ssh_keygen(&site.path().join("other"), "ed25519", "");
    let server = sproxy.address.to_string();
    let changed = format!("[127.0.0.1]:{} {other}\n", sproxy.address.port());
    let revoked = format!("@revoked * {}\n{known}", site.server_line());
    for (file, expected) in
        [(&changed, "HAS CHANGED"), (&revoked, "is revoked"), (&String::new(), "is not in")]
    {
        site.know(file);
        let (code, line) = complaint(&site, &server, &agent.socket, &[]);
        assert_eq!(code, Some(3), "{line}");
        assert!(line.contains(expected), "{line}");
    }
    assert!(!asked.exists(), "its user was asked");
    site.know(&known);
    cproxy(&site, &server, &agent.socket, &[]).wait_for(ATTACHED);
    assert!(asked.exists());
}

#[test]
fn no_agent_signs_for_a_changed_server_with_any_command_or_route() {
    let (site, sproxy) = served();
    let (agent, asked) = confirming_agent(&site, "exit 0");
    let server = sproxy.address.to_string();
    let other = ssh_keygen(&site.path().join("other"), "ed25519", "");
    site.know(&format!("[127.0.0.1]:{} {other}\n", sproxy.address.port()));
    let config = site.path().join("config");
    let wire = "exec 3<>/dev/tcp/%h/%p; cat <&3 & cat >&3";
    std::fs::write(&config, format!("Host *\n ProxyCommand bash -c '{wire}'\n"))
        .expect("it is ours");
    let by_command = ["-F", config.to_str().expect("text")];
    let carriers = ["--carriers", "3"];
    let mut ways = vec![
        ("cproxy", &["--listen", "127.0.0.1:0"][..]),
        ("connect", &by_command),
        ("connect", &carriers),
    ];
    if skip::can_run("usage::agent (run)", &[]) {
        ways.push(("run", &["true"]));
    }
    for (mode, args) in ways {
        let (code, line) = complaint_of(mode, &site, &server, &agent.socket, args);
        assert_eq!(code, Some(3), "{mode} {args:?}: {line}");
        assert!(line.contains("HAS CHANGED"), "{mode} {args:?}: {line}");
    }
    assert!(!asked.exists(), "its user was asked");
}

#[test]
fn six_keys_are_tried_and_all_of_them_are_reported() {
    let (site, sproxy) = served();
    let agent = TestAgent::start(site.path(), None);
    let mut lines = Vec::new();
    for number in 0..8 {
        let path = site.path().join(format!("key{number}"));
        lines.push(ssh_keygen(&path, "ed25519", ""));
        agent.add(&path, &[]);
    }
    site.admit(&[&lines[7]]);
    let server = sproxy.address.to_string();
    let (code, line) = complaint(&site, &server, &agent.socket, &[]);
    assert_eq!(code, Some(3), "{line}");
    assert_eq!(line.matches("SHA256:").count(), 6, "{line}");
    assert!(line.contains("knows none of the keys"), "{line}");
    let wanted = line.rsplit_once("authorized_keys: ").expect("it stands at the end").1;
    assert!(lines[0].starts_with(wanted), "{line}");
    let last = site.path().join("key7");
    let named = ["-i", last.to_str().expect("text")];
    cproxy(&site, &server, &agent.socket, &named).wait_for(ATTACHED);
}

/// Returns a message of the agent's protocol: a byte, a number, and `string`s.
fn answer(kind: u8, fields: &[&[u8]]) -> Vec<u8> {
    let mut body = vec![kind];
    body.extend(1_u32.to_be_bytes());
    for field in fields {
        body.extend(u32::try_from(field.len()).expect("short").to_be_bytes());
        body.extend(*field);
    }
    let length = u32::try_from(body.len()).expect("short");
    [&length.to_be_bytes(), &body[..]].concat()
}

#[test]
fn keys_that_no_agent_can_use_here_and_odd_agents_are_named() {
    let (site, sproxy) = served();
    let server = sproxy.address.to_string();
    let blob =
        |kind: &[u8]| [&u32::try_from(kind.len()).expect("short").to_be_bytes(), kind].concat();
    let hardware = blob(b"sk-ssh-ed25519@openssh.com");
    let rsa = blob(b"ssh-rsa");
    for (said, expected) in [
        (
            answer(12, &[&hardware, b"my token"]),
            "my token (sk-ssh-ed25519@openssh.com) cannot be used",
        ),
        (answer(12, &[&rsa, b"old"]), "old (ssh-rsa) cannot be used: an agent's RSA signatures"),
        (answer(12, &[&rsa]), "the ssh-agent gave a malformed answer"),
        (answer(5, &[]), "the ssh-agent gave a malformed answer"),
        (vec![0xff; 9], "the ssh-agent gave a malformed answer"),
        (vec![0, 0], "no ssh-agent answers at"),
    ] {
        let socket = site.path().join("odd.sock");
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).expect("a socket");
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read_exact(&mut [0; 5]);
                let _ = stream.write_all(&said);
            }
        });
        let (code, line) = complaint(&site, &server, &socket, &[]);
        assert_eq!(code, Some(1), "{line}");
        assert!(line.contains(expected), "{line}");
        assert!(line.contains("make one with: etcp keygen"), "{line}");
    }
}
