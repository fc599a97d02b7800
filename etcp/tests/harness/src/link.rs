//! linkem between two namespaces: a part of the world that is slow, deep or has a hole.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use super::netns::Namespace;
use super::pair::built;

/// A link that carries packets as long as this value exists.
pub struct VethLink {
    process: Child,
    folder: tempfile::TempDir,
}

/// One end of a link: its namespace, its device, and its addresses with their prefixes.
pub struct LinkEnd<'a>(pub &'a Namespace, pub &'a str, pub &'a [&'a str]);

impl LinkEnd<'_> {
    fn text(&self) -> String {
        format!("{}:{}={}", self.0.name(), self.1, self.2.join(","))
    }
}

impl VethLink {
    /// Makes both devices, and returns when packets flow.
    pub fn start(left: &LinkEnd, right: &LinkEnd, settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        // Its delays hold on a busy machine too. If nice(1) may not raise the priority, it runs
        // linkem without that.
        let mut process = Command::new("nice")
            .args(["-n", "-20"])
            .arg(program())
            .args(["--left", &left.text(), "--right", &right.text()])
            .arg("--control")
            .arg(folder.path().join("control"))
            // Its stdin is a pipe of this process, so linkem ends with this process in every case.
            .arg("--exit-with-stdin")
            .args(settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("linkem runs");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("stdout is a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("linkem speaks");
        assert_eq!(line, "ready\n", "linkem says when packets flow");
        Self { process, folder }
    }

    /// Changes settings while it runs.
    #[track_caller]
    pub fn set(&self, settings: &[&str]) {
        let control = self.folder.path().join("control");
        let output =
            Command::new(program()).arg("ctl").arg(control).arg("set").args(settings).output();
        let output = output.expect("linkem runs");
        assert!(output.status.success(), "linkem ctl set {settings:?}: {output:?}");
    }
}

impl Drop for VethLink {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the path of linkem, beside etcp. `cargo test --workspace` builds it; otherwise it is built
/// here, once.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let path = built("linkem");
        if !path.exists() {
            build(&path);
        }
        path
    })
}

/// Builds linkem. If several test programs do so at once, cargo lets one build and the others wait.
fn build(path: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--package", "linkem"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if path.parent().is_some_and(|folder| folder.ends_with("release")) {
        command.arg("--release");
    }
    let status = command.status().expect("cargo runs");
    assert!(status.success() && path.exists(), "linkem cannot be built: {}", path.display());
}
