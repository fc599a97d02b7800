//! The messages to a newcomer when the first contact fails: the failure, and the remedy.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use etcp_testkit::wait::output;
use etcp_testkit::{Loopback, TestFolder, refused};

/// Creates a home folder with a key.
fn home() -> TestFolder {
    let home = TestFolder::new();
    let made = etcp(&home, &["keygen", "-q", "-N", ""]);
    assert!(made.status.success(), "{made:?}");
    home
}

fn etcp(home: &TestFolder, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcp"));
    command
        .args(args)
        .env("HOME", home.path())
        .env_remove("SSH_AUTH_SOCK")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    output(&mut command)
}

/// Returns the last line of a failing `etcp connect`, which must be well formed.
fn complaint(home: &TestFolder, args: &[&str]) -> String {
    complaint_within("2s", home, args)
}

fn complaint_within(limit: &str, home: &TestFolder, args: &[&str]) -> String {
    let always = ["connect", "--no-ssh-config", "--connect-timeout", limit];
    let output = etcp(home, &[&always[..], args].concat());
    let text = String::from_utf8(output.stderr).expect("it says text");
    assert!(matches!(output.status.code(), Some(1 | 3)), "{text}");
    let line = text.lines().last().unwrap_or_default().to_owned();
    assert!(line.starts_with("etcp: "), "{text}");
    assert!(!line.contains("os error") && !line.contains("rror: "), "{text}");
    line
}

/// Starts a server that does this with each of its connections, for as long as the test runs.
fn serves(with: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is there");
    let address = listener.local_addr().expect("it is bound");
    std::thread::spawn(move || listener.incoming().flatten().for_each(with));
    address
}

/// Answers the first data with these bytes, and closes after the client.
fn answers(bytes: &'static [u8]) -> SocketAddr {
    serves(move |mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(bytes);
        while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {}
    })
}

#[test]
fn a_first_contact_that_fails_says_why_and_what_to_do() {
    let home = home();
    let free = refused();
    let silent = serves(std::mem::forget);
    for (server, reason, advice) in [
        (free.to_string(), "Connection refused", "is sproxy running there"),
        (free.to_string(), &*free.to_string(), "use: etcp ssh"),
        (
            "no.such.host.invalid".to_owned(),
            "cannot resolve no.such.host.invalid",
            "check the name",
        ),
        (answers(b"SSH-2.0-OpenSSH_9.2p1\r\n").to_string(), "not TLS", "an ssh server answers"),
        (answers(b"HTTP/1.1 400 Bad Request\r\n\r\n").to_string(), "not TLS", "a web server"),
        (answers(b"220 mail ESMTP\r\n").to_string(), "not TLS", "check host and port"),
        // The alerts of TLS servers without raw public keys, and without TLS 1.3.
        (answers(&[21, 3, 3, 0, 2, 2, 40]).to_string(), "not EternalTCP", "check host and port"),
        (answers(&[21, 3, 3, 0, 2, 2, 70]).to_string(), "not EternalTCP", "check host and port"),
        (serves(drop).to_string(), "during the TLS handshake", "check host and port"),
        (silent.to_string(), "has sent nothing since", "check host and port"),
    ] {
        // A busy machine may need more time for the answer.
        let is_right = |line: &str| line.contains(reason) && line.contains(advice);
        let mut line = complaint(&home, &["--server", &server]);
        if !is_right(&line) {
            line = complaint_within("20s", &home, &["--server", &server]);
        }
        assert!(is_right(&line), "{server}: {line}");
    }
}

#[test]
fn a_default_target_that_does_not_answer_is_said_to_be_the_default() {
    let home = home();
    let free = refused();
    let site = Loopback::new(&[]);
    let (_sproxy, server) = site.sproxy(free);
    let (server, key) = (server.to_string(), site.path("client_key"));
    let line = complaint(&home, &["--server", &server, "--accept-new", "-i", &key]);
    for words in [&*free.to_string(), "Connection refused", "default target of sproxy, --target"] {
        assert!(line.contains(words), "{line}");
    }
}

#[test]
fn keys_that_are_missing_or_odd_are_named_with_a_remedy() {
    let home = TestFolder::new();
    let line = complaint(&home, &["--server", "127.0.0.1:1"]);
    assert!(line.contains("etcp keygen") && line.contains("ssh-keygen -t ed25519"), "{line}");
    let path = |name: &str| home.join(name).to_str().expect("a plain path").to_owned();
    std::fs::create_dir(Path::new(&path("folder"))).expect("the folder is ours");
    std::fs::write(path("empty"), "").expect("the folder is ours");
    std::fs::write(path("binary"), [0xff; 100]).expect("the folder is ours");
    for name in ["folder", "empty", "binary", "missing"] {
        let line = complaint(&home, &["--server", "127.0.0.1:1", "-i", &path(name)]);
        assert!(line.contains(&path(name)), "{name}: {line}");
    }
}
