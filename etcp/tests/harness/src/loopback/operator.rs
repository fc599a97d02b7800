//! The actions of an operator on the proxies of a site: `etcp status` and similar commands.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use super::program::{RunningProgram, etcp};
use super::site::LoopbackSite;

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
    let mut command = etcp(site.path(), args);
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
    let said = operate(site, &["status", "--json", "--control", &control(site, role, program)]);
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
    let said = operate(site, &["status", "--json", "--control", path.to_str().expect("text")]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let document: Value = serde_json::from_str(&said.out).expect("it is JSON");
    let process = &document["processes"][0];
    (process["process"].as_u64().expect("a number"), process["is_draining"] == true)
}
