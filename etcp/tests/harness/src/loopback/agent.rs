//! A real ssh-agent, and keys as ssh-keygen makes them.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::program::{RunningProgram, wait};

/// An agent that runs until it is dropped or killed.
pub struct TestAgent {
    pub socket: PathBuf,
    pub program: RunningProgram,
}

impl TestAgent {
    /// Starts one in `folder`; it asks its user with the program `askpass`.
    pub fn start(folder: &Path, askpass: Option<&Path>) -> Self {
        let socket = folder.join("agent.sock");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "ssh-agent", "-D", "-a"]).arg(&socket);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if let Some(program) = askpass {
            command.env("SSH_ASKPASS", program).env("SSH_ASKPASS_REQUIRE", "force");
        }
        let program = RunningProgram::start("agent", folder, command);
        // Its socket has a name before it accepts connections.
        wait("the agent to listen", || UnixStream::connect(&socket).is_ok());
        Self { socket, program }
    }

    /// Adds the key of a file; `args` are further arguments of ssh-add.
    #[track_caller]
    pub fn add(&self, key: &Path, args: &[&str]) {
        let mut command = Command::new("ssh-add");
        command.arg("-q").args(args).arg(key).env("SSH_AUTH_SOCK", &self.socket);
        succeed(&mut command);
    }
}

/// Makes a key pair in `path` and `path.pub`; returns the line of the public half.
#[track_caller]
pub fn ssh_keygen(path: &Path, kind: &str, passphrase: &str) -> String {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", kind, "-N", passphrase, "-C", "a comment", "-f"]).arg(path);
    succeed(&mut command);
    public_line(path)
}

/// Returns the line in `path.pub`.
pub fn public_line(path: &Path) -> String {
    let public = format!("{}.pub", path.display());
    std::fs::read_to_string(public).expect("it was made").trim().to_owned()
}

/// Runs a command that has to succeed.
#[track_caller]
pub fn succeed(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {text}");
    output
}
