//! Keys of both sides, made by ssh-keygen, in the files of OpenSSH users.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::folder::TestFolder;
use super::process::RunAs;

/// Both identities, and the files in which each side knows the other.
pub struct Keys {
    pub client: PathBuf,
    pub server: PathBuf,
    pub authorized_keys: PathBuf,
    pub known_hosts: PathBuf,
}

impl Keys {
    /// Creates both keys in `folder`; the client knows the server under each of `hosts` (as
    /// `known_hosts` writes them: `[host]:port`).
    pub fn generate(folder: &TestFolder, hosts: &[String]) -> Self {
        let client = generate(folder, "client-key");
        let server = generate(folder, "server-key");
        let authorized_keys = folder.file("authorized_keys", &public_half(&client), RunAs::Nobody);
        let known = format!("{} {}", hosts.join(","), public_half(&server));
        let known_hosts = folder.file("known_hosts", &known, RunAs::Nobody);
        Self { client, server, authorized_keys, known_hosts }
    }
}

/// Makes an Ed25519 key pair and gives it to the ordinary user.
pub fn generate(folder: &TestFolder, name: &str) -> PathBuf {
    let path = folder.join(name);
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
        .arg(&path)
        .status()
        .expect("ssh-keygen runs");
    assert!(status.success(), "ssh-keygen: {status}");
    RunAs::Nobody.own(&path);
    RunAs::Nobody.own(&path.with_extension("pub"));
    path
}

/// Returns the line of a private key for `authorized_keys`.
pub fn public_half(key: &Path) -> String {
    std::fs::read_to_string(key.with_extension("pub")).expect("ssh-keygen wrote a public key")
}
