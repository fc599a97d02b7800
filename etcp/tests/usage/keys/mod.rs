//! Keys in files: passphrases, ssh's configuration, and which servers are trusted.

mod ssh_config;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use etcp_testkit::loopback::agent::ssh_keygen;
use etcp_testkit::loopback::{
    ATTACHED, Echo, LoopbackSite, LoopbackSproxy, PATIENCE, RunningProgram, etcp,
};
use etcp_testkit::terminal::Terminal;
use etcp_testkit::wait::output;
use etcp_testkit::{Launch, RunAs};
use eternaltcp::address::ServerAddress;
use eternaltcp::policy::{HostKey, HostSearch, check_known_hosts};
use eternaltcp::tls::PublicKey;

fn served() -> (LoopbackSite, LoopbackSproxy) {
    let site = LoopbackSite::new();
    let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    (site, sproxy)
}

/// Returns the arguments of a cproxy to this server, without a key.
fn to_server(site: &LoopbackSite, sproxy: &LoopbackSproxy) -> Vec<String> {
    let known = site.known_hosts().display().to_string();
    let server = sproxy.address.to_string();
    let args = ["cproxy", "--listen", "127.0.0.1:0", "--server", &server, "--known-hosts", &known];
    args.map(str::to_owned).to_vec()
}

/// Starts etcp on a terminal of its own.
fn on_terminal(site: &LoopbackSite, args: &[impl AsRef<str>]) -> Terminal {
    let launch = Launch::new("terminal", env!("CARGO_BIN_EXE_etcp"));
    let launch = launch.args(args.iter().map(AsRef::as_ref)).env("HOME", site.path());
    let launch = launch.env("SSH_AUTH_SOCK", "").env("SSH_ASKPASS_REQUIRE", "never");
    Terminal::start_here(launch.user(RunAs::Root), site.path())
}

/// Returns the last line that etcp says without a terminal, and its exit code.
#[track_caller]
fn complaint(site: &LoopbackSite, args: &[impl AsRef<str>]) -> (Option<i32>, String) {
    let output = output(&mut etcp(site.path(), args.iter().map(AsRef::as_ref)));
    let text = String::from_utf8(output.stderr).expect("it says text");
    (output.status.code(), text.lines().last().unwrap_or_default().to_owned())
}

fn text(path: &Path) -> String {
    path.to_str().expect("test paths are text").to_owned()
}

/// Creates a key with a passphrase, and admits it.
fn secret(site: &LoopbackSite) -> PathBuf {
    let key = site.path().join("secret");
    site.admit(&[&ssh_keygen(&key, "ecdsa", "open sesame")]);
    key
}

#[test]
fn a_passphrase_is_asked_for_on_the_terminal_and_not_shown() {
    let (site, sproxy) = served();
    let key = secret(&site);
    let mut args = to_server(&site, &sproxy);
    args.extend(["--no-ssh-config".into(), "-i".into(), text(&key)]);
    let mut terminal = on_terminal(&site, &args);
    terminal.expect(&format!("Enter passphrase for key '{}': ", key.display()), PATIENCE);
    terminal.line("a wrong one");
    terminal.expect("Bad passphrase, try again for key", PATIENCE);
    terminal.line("open sesame");
    terminal.process().wait_for(ATTACHED, PATIENCE);
    let shown = terminal.shown();
    assert!(!shown.contains("wrong one") && !shown.contains("sesame"), "{shown}");
}

#[test]
fn the_answer_to_a_question_is_not_sent_to_the_target() {
    let (site, sproxy) = served();
    let (key, known) = (text(&secret(&site)), text(&site.path().join("new")));
    let server = sproxy.address.to_string();
    let args = ["connect", "--server", &server, "--no-ssh-config", "-i", &key];
    let mut terminal = on_terminal(&site, &[&args[..], &["--known-hosts", &known]].concat());
    terminal.expect("Enter passphrase for key", PATIENCE);
    terminal.line("open sesame");
    terminal.expect("(yes/no/[fingerprint])", PATIENCE);
    terminal.line("yes");
    terminal.line("for the target");
    // The terminal shows the typed text, and then the target echoes it.
    terminal.expect("for the target", PATIENCE);
    terminal.expect("for the target", PATIENCE);
    let shown = terminal.shown();
    assert_eq!(shown.matches("yes\r\n").count(), 1, "{shown}");
    assert!(!shown.contains("sesame"), "{shown}");
}

#[test]
fn three_wrong_passphrases_end_the_client() {
    let (site, sproxy) = served();
    let key = secret(&site);
    let mut args = to_server(&site, &sproxy);
    args.extend(["--no-ssh-config".into(), "-i".into(), text(&key)]);
    let mut terminal = on_terminal(&site, &args);
    for _ in 0..3 {
        terminal.expect(&format!("key '{}': ", key.display()), PATIENCE);
        terminal.line("a wrong one");
    }
    assert_eq!(terminal.process().wait(PATIENCE).code(), Some(1));
    let log = terminal.process().log();
    assert!(log.contains("the passphrase is wrong: try again, or run: ssh-add"), "{log}");
}

#[test]
fn an_interrupted_question_ends_the_client() {
    let (site, sproxy) = served();
    let key = secret(&site);
    let mut args = to_server(&site, &sproxy);
    args.extend(["--no-ssh-config".into(), "-i".into(), text(&key)]);
    let mut terminal = on_terminal(&site, &args);
    terminal.expect("Enter passphrase", PATIENCE);
    terminal.send("half\x03");
    terminal.process().wait(PATIENCE);
}

#[test]
fn without_a_terminal_a_program_may_ask_or_the_use_of_an_agent_is_explained() {
    let (site, sproxy) = served();
    let key = secret(&site);
    let mut args = to_server(&site, &sproxy);
    args.extend(["--no-ssh-config".into(), "-i".into(), text(&key)]);
    let (code, line) = complaint(&site, &args);
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains("has a passphrase") && line.contains("run: ssh-add"), "{line}");
    let askpass = site.path().join("askpass");
    std::fs::write(&askpass, "#!/bin/sh\necho open sesame\n").expect("it is ours");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&askpass, mode).expect("it is ours");
    let mut command = etcp(site.path(), &args);
    command.env("SSH_ASKPASS", &askpass).env("SSH_ASKPASS_REQUIRE", "force");
    RunningProgram::start("asked", site.path(), command).wait_for(ATTACHED);
}

#[test]
fn lines_name_the_servers_that_ssh_keygen_finds() {
    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDJI+fNTS8Op9glNAAIWDRJ98X2R6P2eM1fi3TEfnVuN";
    let folder = LoopbackSite::new();
    let file = folder.path().join("hosts");
    let key = PublicKey::from_openssh(KEY).expect("a key");
    let names = ["[a.test]:6200", "a.test", "[*.test]:6200", "[?.test]:6200", "*,![a.test]:6200"];
    let more =
        ["[A.TEST]:6200,b", "[a.test]:*", "*.test", "[::1]:6200", "![a.test]:6200", "x,,y", "*"];
    let hashed = "|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg=";
    for names in names.into_iter().chain(more).chain([hashed]) {
        for (before, after) in
            [("", "\n"), ("", " me"), ("  ", "\r\n"), ("\t", "\n#"), ("# ", "\n")]
        {
            std::fs::write(&file, format!("{before}{names} {KEY}{after}")).expect("it is ours");
            for server in ["a.test:6200", "a.test:22", "[::1]:6200", "host.example:6200"] {
                let parsed: ServerAddress = server.parse().expect("a server");
                let (host, port) = (&parsed.host, parsed.port);
                let name = if port == 22 { host.clone() } else { format!("[{host}]:{port}") };
                let mut find = Command::new("ssh-keygen");
                let found = find.args(["-F", &name, "-f"]).arg(&file).output().expect("it runs");
                let says = check_known_hosts(&file, &HostSearch::new(&parsed), &key).expect("ours");
                assert_eq!(says == HostKey::Known, found.status.success(), "{names}: {name}");
            }
        }
    }
}

#[test]
fn the_first_contact_takes_yes_no_and_the_fingerprint() {
    let (site, sproxy) = served();
    let fingerprint = site.server_fingerprint();
    for (answer, is_trusted) in [("no", false), ("yes", true), (fingerprint.as_str(), true)] {
        site.know("");
        let mut args = to_server(&site, &sproxy);
        args.extend(["--no-ssh-config".into(), "-i".into(), text(&site.client.path)]);
        args.extend(["--name".into(), answer.into()]);
        let mut terminal = on_terminal(&site, &args);
        terminal.expect(&format!("Its key is {fingerprint}."), PATIENCE);
        terminal.expect("(yes/no/[fingerprint]) ", PATIENCE);
        terminal.line("SHA256:another");
        terminal.expect("Please type yes, no or the fingerprint: ", PATIENCE);
        terminal.line(answer);
        if is_trusted {
            terminal.process().wait_for(ATTACHED, PATIENCE);
        } else {
            assert_eq!(terminal.process().wait(PATIENCE).code(), Some(3));
        }
        let known = std::fs::read_to_string(site.known_hosts()).expect("it is ours");
        assert_eq!(known.contains(&site.server_line()), is_trusted, "{answer}");
    }
}

#[test]
fn an_unusable_key_is_reported_with_a_remedy() {
    let (site, sproxy) = served();
    let rsa = site.path().join("rsa");
    ssh_keygen(&rsa, "rsa", "");
    let hardware = site.path().join("token.pub");
    let line = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIBVF3kS/\
                X4yZ5xq0yVlZAlZRGYJ2k0mO0k0e5mDgJ0aUAAAABHNzaDo= token\n";
    std::fs::write(&hardware, line).expect("it is ours");
    let (exposed, junk) = (site.path().join("exposed"), site.path().join("junk"));
    ssh_keygen(&exposed, "ed25519", "");
    std::fs::set_permissions(&exposed, std::fs::Permissions::from_mode(0o644)).expect("ours");
    std::fs::write(&junk, "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n").expect("it is ours");
    std::fs::set_permissions(&junk, std::fs::Permissions::from_mode(0o600)).expect("ours");
    std::fs::set_permissions(&hardware, std::fs::Permissions::from_mode(0o600)).expect("ours");
    for (file, expected) in [
        (&rsa, "key type ssh-rsa is not supported: use ssh-ed25519"),
        (&hardware, "key type sk-ssh-ed25519@openssh.com is not supported: use ssh-ed25519"),
        (&junk, "not an OpenSSH private key"),
        (&site.path().join("none"), "no such key: make one with"),
        (&exposed, "are too open for a private key: run: chmod 600"),
    ] {
        let mut args = to_server(&site, &sproxy);
        args.extend(["--no-ssh-config".into(), "-i".into(), text(file)]);
        let (code, line) = complaint(&site, &args);
        assert_eq!(code, Some(1), "{line}");
        assert!(line.contains(expected) && line.contains(&text(file)), "{line}");
    }
}
