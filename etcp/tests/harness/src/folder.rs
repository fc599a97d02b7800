//! A temporary folder that the test's ordinary user can use, gone when dropped.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::process::RunAs;

/// A folder of one test: keys, configurations, logs, and transferred files.
pub struct TestFolder {
    temporary: tempfile::TempDir,
}

impl TestFolder {
    /// Makes an empty folder that everybody may enter and [`RunAs::Nobody`] owns.
    pub fn new() -> Self {
        let temporary = tempfile::Builder::new()
            .prefix("etcp-test-")
            .tempdir_in("/tmp")
            .expect("a folder in /tmp can be made");
        let folder = Self { temporary };
        folder.give(folder.path(), 0o755, RunAs::Nobody);
        folder
    }

    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Returns the path of `name` in this folder.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Makes a folder in this one.
    pub fn folder(&self, name: &str, owner: RunAs) -> PathBuf {
        let path = self.join(name);
        std::fs::create_dir(&path).expect("a folder can be made");
        self.give(&path, 0o700, owner);
        path
    }

    /// Writes a file that `owner` may read and write, and nobody else.
    pub fn file(&self, name: &str, contents: &str, owner: RunAs) -> PathBuf {
        self.write(name, contents, 0o600, owner)
    }

    /// Writes a file that everybody may read.
    pub fn readable_file(&self, name: &str, contents: &str) -> PathBuf {
        self.write(name, contents, 0o644, RunAs::Root)
    }

    /// Writes a script that everybody may run.
    pub fn script(&self, name: &str, contents: &str) -> PathBuf {
        self.write(name, contents, 0o755, RunAs::Root)
    }

    /// Copies a program here, so that it can be run by a user who cannot enter the build folder.
    ///
    /// cp does it, not this process: a child that another thread starts meanwhile would inherit the
    /// file while it is open for writing, and nobody could run it then ("Text file busy").
    pub fn program(&self, name: &str, original: &Path) -> PathBuf {
        let path = self.join(name);
        let copied = std::process::Command::new("cp").arg(original).arg(&path).status();
        assert!(copied.is_ok_and(|status| status.success()), "cannot copy {}", original.display());
        self.give(&path, 0o755, RunAs::Root);
        path
    }

    /// Writes a file of `length` random bytes.
    pub fn random_file(&self, name: &str, length: u64, owner: RunAs) -> PathBuf {
        use std::io::Read;
        let path = self.join(name);
        let mut random = std::fs::File::open("/dev/urandom").expect("urandom opens").take(length);
        let mut file = std::fs::File::create(&path).expect("a file can be made");
        std::io::copy(&mut random, &mut file).expect("the random bytes fit on the disk");
        self.give(&path, 0o600, owner);
        path
    }

    fn write(&self, name: &str, contents: &str, mode: u32, owner: RunAs) -> PathBuf {
        let path = self.join(name);
        std::fs::write(&path, contents).expect("a file can be written");
        self.give(&path, mode, owner);
        path
    }

    fn give(&self, path: &Path, mode: u32, owner: RunAs) {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("mode is set");
        owner.own(path);
    }
}

/// Returns the SHA-256 of a file, as `sha256sum` prints it.
pub fn sha256(path: &Path) -> String {
    let output =
        std::process::Command::new("sha256sum").arg(path).output().expect("sha256sum runs");
    assert!(output.status.success(), "sha256sum: {}", String::from_utf8_lossy(&output.stderr));
    let line = String::from_utf8(output.stdout).expect("sha256sum prints text");
    line.split_whitespace().next().expect("a digest").to_owned()
}

/// Returns the length of a file, 0 while it is not there.
pub fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}
