//! The files of a server and its users.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use eternaltcp::tls::Identity;

/// A folder with the server's key, its `authorized_keys`, and the clients' `known_hosts`.
pub struct LoopbackSite {
    folder: tempfile::TempDir,
    /// The first user's key, which is admitted.
    pub client: Key,
}

/// A user's key.
#[derive(Clone)]
pub struct Key {
    pub path: PathBuf,
    /// `TYPE BASE64`, as in `authorized_keys`.
    pub line: String,
    pub identity: Identity,
}

impl Key {
    /// Makes a key pair in `path` and `path.pub`.
    pub fn generate(path: PathBuf) -> Self {
        let identity = Identity::load_or_create(&path).expect("a key can be made");
        Self { path, line: identity.public_key().to_string(), identity }
    }
}

impl LoopbackSite {
    /// Creates a server that admits one key, and that clients know under every name of this
    /// machine.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("etcp-letin-").tempdir().expect("a folder");
        let client = Key::generate(folder.path().join("client"));
        let site = Self { folder, client };
        let server = Key::generate(site.server_key());
        site.admit(&[&site.client.line]);
        site.know(&format!("[127.0.0.*]:*,[::1]:* {}", server.line));
        site
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn server_key(&self) -> PathBuf {
        self.path().join("server")
    }

    /// Returns the server's public key.
    pub fn server_line(&self) -> String {
        Key::generate(self.server_key()).line
    }

    pub fn server_fingerprint(&self) -> String {
        Key::generate(self.server_key()).identity.public_key().fingerprint()
    }

    pub fn authorized_keys(&self) -> PathBuf {
        self.path().join("authorized_keys")
    }

    pub fn known_hosts(&self) -> PathBuf {
        self.path().join("known_hosts")
    }

    /// Creates a key that the server does not know.
    pub fn key(&self, name: &str) -> Key {
        Key::generate(self.path().join(name))
    }

    /// Replaces `authorized_keys` atomically, as editors do.
    pub fn admit(&self, lines: &[&str]) {
        let draft = self.path().join("authorized_keys.new");
        fs::write(&draft, lines.join("\n") + "\n").expect("a file can be written");
        fs::set_permissions(&draft, Permissions::from_mode(0o600)).expect("it is ours");
        fs::rename(&draft, self.authorized_keys()).expect("it is one folder");
    }

    /// Replaces `known_hosts`.
    pub fn know(&self, text: &str) {
        fs::write(self.known_hosts(), format!("{text}\n")).expect("a file can be written");
    }
}
