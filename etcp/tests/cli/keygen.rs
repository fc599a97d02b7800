//! `etcp keygen` beside ssh-keygen.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use etcp_testkit::Launch;
use etcp_testkit::loopback::agent::{public_line, succeed};
use etcp_testkit::loopback::{PATIENCE, etcp};
use etcp_testkit::terminal::Terminal;
use etcp_testkit::wait::output;
use eternaltcp::tls::PrivateFile;

fn keygen(home: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = etcp(home, [&["keygen"], args].concat());
    let output = output(command.stdout(std::process::Stdio::piped()));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text").trim().to_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn ssh_keygen(args: &[&str]) -> String {
    let output = succeed(Command::new("ssh-keygen").args(args));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

#[test]
fn ssh_keygen_reads_what_is_made_and_shows_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path();
    for passphrase in ["", "open sesame"] {
        let path = home.join(format!("key{}", passphrase.len()));
        let file = path.to_str().expect("text");
        let (code, said, _) = keygen(home, &["-f", file, "-C", "me here", "-N", passphrase]);
        assert_eq!(code, Some(0));
        let fingerprint = ssh_keygen(&["-l", "-f", file]);
        assert!(said.contains(fingerprint.split(' ').nth(1).expect("SHA256:…")), "{said}");
        assert!(said.contains("\n+--[ED25519 256]--+\n"), "{said}");
        assert_eq!(keygen(home, &["-l", file]).1, fingerprint);
        assert_eq!(keygen(home, &["-l", "-f", &format!("{file}.pub")]).1, fingerprint);
        assert_eq!(ssh_keygen(&["-y", "-P", passphrase, "-f", file]), public_line(&path));
        let public = keygen(home, &["-y", file]).1;
        assert!(public_line(&path).starts_with(&public) && public.starts_with("ssh-ed25519 "));
        for (name, mode) in [(file.to_owned(), 0o600), (format!("{file}.pub"), 0o644)] {
            let found = std::fs::metadata(name).expect("it was made").permissions().mode();
            assert_eq!(found & 0o777, mode);
        }
    }
    // A file of several keys has a line for each.
    let all = home.join("authorized_keys");
    let lines = ["key0.pub", "key11.pub"].map(|name| std::fs::read_to_string(home.join(name)));
    std::fs::write(&all, lines.map(|line| line.expect("it was made")).concat()).expect("ours");
    let all = all.to_str().expect("text");
    assert_eq!(keygen(home, &["-l", all]).1, ssh_keygen(&["-l", "-f", all]));
}

#[test]
fn a_passphrase_opens_a_key_of_every_cipher_that_ssh_keygen_offers() {
    let folder = tempfile::tempdir().expect("a folder");
    let ciphers = succeed(Command::new("ssh").args(["-Q", "cipher"]));
    let ciphers = String::from_utf8(ciphers.stdout).expect("text");
    for cipher in ciphers.lines() {
        let path = folder.path().join(cipher);
        let file = path.to_str().expect("text");
        // The minimum number of rounds, because this test is about the cipher.
        let args = ["-q", "-t", "ecdsa", "-Z", cipher, "-a", "1", "-N", "open sesame", "-f", file];
        ssh_keygen(&args);
        let key = PrivateFile::read(&path).unwrap_or_else(|error| panic!("{cipher}: {error}"));
        assert!(key.is_encrypted() && key.decrypt("open sesam").is_err(), "{cipher}");
        let identity = key.decrypt("open sesame").unwrap_or_else(|e| panic!("{cipher}: {e}"));
        assert!(public_line(&path).starts_with(&identity.public_key().to_string()), "{cipher}");
    }
    assert!(ciphers.lines().count() > 5, "{ciphers}");
}

#[test]
fn no_key_is_replaced_unasked() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, _, _) = keygen(folder.path(), &["-q", "-N", ""]);
    assert_eq!(code, Some(0));
    let path = folder.path().join(".ssh/id_ed25519");
    let first = std::fs::read(&path).expect("the default place");
    let (code, _, said) = keygen(folder.path(), &["-N", ""]);
    assert_eq!(code, Some(1));
    assert!(said.contains("already exists: name another file with -f"), "{said}");
    for answer in ["n", "y"] {
        let launch = Launch::new("keygen", env!("CARGO_BIN_EXE_etcp")).arg("keygen");
        let launch = launch.env("HOME", folder.path()).env("SSH_ASKPASS_REQUIRE", "never");
        let mut terminal = Terminal::start_here(launch, folder.path());
        terminal.expect("Overwrite (y/n)? ", PATIENCE);
        terminal.line(answer);
        if answer == "y" {
            for prompt in
                ["Enter passphrase (empty for no passphrase): ", "same passphrase again: "]
            {
                terminal.expect(prompt, PATIENCE);
                terminal.line("typed twice");
            }
        }
        let code = terminal.process().wait(PATIENCE).code();
        assert_eq!(code, Some(if answer == "y" { 0 } else { 1 }));
        assert_eq!(std::fs::read(&path).expect("it is there") == first, answer == "n");
    }
    let file = path.to_str().expect("text");
    assert_eq!(ssh_keygen(&["-y", "-P", "typed twice", "-f", file]), public_line(&path));
}

#[test]
fn a_key_that_cannot_be_made_or_shown_is_a_one_line_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("junk");
    std::fs::write(&path, "junk\n").expect("it is ours");
    let file = path.to_str().expect("text");
    for (args, code, expected) in [
        (&["-l", file][..], 1, "no ssh-ed25519 or ecdsa-sha2-nistp256 key in it"),
        (&["-y", "/none"], 1, "/none: no such key"),
        (&["-N", "1234"], 2, "a passphrase has at least 5 characters"),
        (&["-C", "two\nlines"], 2, "a comment is one line"),
        (&["-f", "/proc/key", "-N", ""], 1, "cannot write"),
        (&[], 2, "give one with -N"),
    ] {
        let (found, _, said) = keygen(folder.path(), args);
        assert_eq!(found, Some(code), "{said}");
        assert!(said.contains(expected) && said.lines().count() == 1, "{said}");
    }
}
