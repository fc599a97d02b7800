//! The actions of an operator on the proxies of a site: `etcp status` and similar commands.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::PATIENCE;
use super::program::{RunningProgram, etcp};
use super::site::LoopbackSite;
use crate::wait::until_some;

/// The output and the exit code of a command.
#[derive(Debug)]
pub struct OperatorOutput {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs `etcp` with these arguments as the user of the site, to its end.
#[track_caller]
pub fn operate(site: &LoopbackSite, args: &[&str]) -> OperatorOutput {
    finish(etcp(site.path(), args))
}

/// Runs `etcp` like [`operate`], but shows it only the programs of the site. It shows root those of all
/// users in its network namespace, where other tests run some meanwhile: here it has one of its own.
#[track_caller]
pub fn operate_alone(site: &LoopbackSite, args: &[&str]) -> OperatorOutput {
    let command = etcp(site.path(), args);
    if !rustix::process::geteuid().is_root() {
        return finish(command);
    }
    let mut alone = Command::new("unshare");
    alone.args(["--net", "--"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => alone.env(name, value),
            None => alone.env_remove(name),
        };
    }
    finish(alone)
}

/// Runs a command to its end.
#[track_caller]
fn finish(mut command: Command) -> OperatorOutput {
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    let output = output.expect("setpriv and setsid run");
    let text = |bytes| String::from_utf8(bytes).expect("it says text");
    OperatorOutput {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// Returns the folder of the site's control sockets.
pub fn folder(site: &LoopbackSite) -> PathBuf {
    site.path().join(".local/state/eternaltcp/control")
}

/// Returns the control socket of a proxy, in its default place.
pub fn socket(site: &LoopbackSite, role: &str, program: &RunningProgram) -> PathBuf {
    folder(site).join(format!("{role}.{}.sock", program.id()))
}

/// Returns the path as a text argument.
pub fn control(site: &LoopbackSite, role: &str, program: &RunningProgram) -> String {
    socket(site, role, program).to_str().expect("test paths are text").to_owned()
}

/// Returns the status of a proxy, from `etcp status --json`.
#[track_caller]
pub fn status(site: &LoopbackSite, role: &str, program: &RunningProgram) -> Value {
    status_at(site, &control(site, role, program))
}

/// Returns the status of the proxy with this control socket. A proxy that a busy machine does not let
/// answer in time is asked again.
#[track_caller]
fn status_at(site: &LoopbackSite, control: &str) -> Value {
    let said = until_some("an answer", PATIENCE, || {
        let said = operate(site, &["status", "--json", "--control", control]);
        (!said.err.contains("it does not answer")).then_some(said)
    });
    assert_eq!(said.code, Some(0), "{said:?}");
    let mut document: Value = serde_json::from_str(&said.out).expect("it is JSON");
    document["processes"][0].take()
}

/// Returns the number of the session that `application` opened.
#[track_caller]
pub fn session_of(status: &Value, application: SocketAddr) -> u64 {
    let sessions = status["tunnels"][0]["sessions"].as_array().expect("a list");
    let session = sessions.iter().find(|it| it["from"] == application.to_string().as_str());
    session.and_then(|it| it["session"].as_u64()).unwrap_or_else(|| panic!("not in {status}"))
}

/// Returns the process that answers at a control socket, and whether it is being drained.
#[track_caller]
pub fn answering(site: &LoopbackSite, path: &Path) -> (u64, bool) {
    let process = status_at(site, path.to_str().expect("text"));
    (process["process"].as_u64().expect("a number"), process["is_draining"] == true)
}
