//! The messages on a control socket: requests, answers and faults.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::process_status::ProcessStatus;

/// The version of the protocol. A new field in an answer does not change it.
pub const VERSION: u32 = 1;

/// The longest request in bytes, including its line end.
pub(super) const MAX_REQUEST: usize = 4096;

/// A request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Request {
    /// Return the status of the process.
    Status {},
    /// Return the status repeatedly until the connection is closed.
    Watch {
        /// Time between two answers: 1000 by default, at least 100.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interval_ms: Option<u64>,
    },
    /// Reset a session on both sides.
    Kill {
        /// The first digits of the tunnel's id; not needed if the process has one tunnel.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tunnel: Option<String>,
        /// The name of the server, as another way to choose the tunnel.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        server: Option<String>,
        /// The session's number.
        session: u32,
    },
    /// End a tunnel of a server on both sides, which resets its sessions.
    KillTunnel {
        /// The first digits of the tunnel's id.
        tunnel: String,
    },
    /// Connect again now.
    Reconnect {
        /// The name of the server; by default all servers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        server: Option<String>,
    },
    /// Accept no new sessions, and exit after the last one.
    Drain {
        /// Exit after this time in any case.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_ms: Option<u64>,
        /// A server accepts the sessions of its clients until these have moved to another one.
        #[serde(default, rename = "move", skip_serializing_if = "std::ops::Not::not")]
        moves: bool,
    },
    /// Close every tunnel in order and exit now.
    Stop {},
    /// Replace the running program, or check whether that is possible.
    Upgrade {
        /// The absolute path of the new program: the one that was started, if none is named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        program: Option<String>,
        /// Only check.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        check: bool,
    },
    /// Return the state of the last upgrade.
    UpgradeStatus {},
    /// Read the configuration files and keys again.
    Reload {},
}

impl Request {
    /// Parses a line.
    ///
    /// # Errors
    /// The line is not a request of a supported version.
    pub fn parse(line: &[u8]) -> Result<Self, Fault> {
        let bad = |error: serde_json::Error| Fault::new(FaultCode::BadRequest, error.to_string());
        let mut value: Value = serde_json::from_slice(line).map_err(bad)?;
        let Some(fields) = value.as_object_mut() else {
            return Err(Fault::new(FaultCode::BadRequest, "a request is a JSON object"));
        };
        // A request without a version has the first one.
        match fields.remove("version").map(|version| version.as_u64()) {
            None | Some(Some(1)) => serde_json::from_value(value).map_err(bad),
            Some(_) => {
                let text = format!("this program supports only version {VERSION}");
                Err(Fault::new(FaultCode::Version, text))
            }
        }
    }

    /// Returns the request as a line.
    #[must_use]
    pub fn line(&self) -> String {
        line(&Versioned { version: VERSION, it: self })
    }
}

/// An answer, as one line.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub(crate) struct Reply {
    /// The [`VERSION`] of the program that answers.
    pub version: u32,
    /// The answer itself.
    #[serde(flatten)]
    pub answer: Response,
}

impl Reply {
    /// Returns the answer as a line.
    #[must_use]
    pub(crate) fn line(&self) -> String {
        line(self)
    }
}

impl From<Response> for Reply {
    fn from(answer: Response) -> Self {
        Self { version: VERSION, answer }
    }
}

/// The contents of an answer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Response {
    /// The status of the process.
    Status(Box<ProcessStatus>),
    /// The session was reset.
    Killed {
        /// Its number.
        session: u32,
    },
    /// The tunnel was ended.
    KilledTunnel {
        /// The first digits of its id.
        tunnel: String,
        /// The number of sessions that were reset.
        sessions: usize,
    },
    /// A new carrier is being made.
    Reconnecting {},
    /// No new sessions are accepted.
    Draining {
        /// The number of existing sessions.
        sessions: usize,
        /// The new path of the control socket, if it has left its own to a successor.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        control: Option<String>,
    },
    /// The process is exiting.
    Stopping {},
    /// The progress of the last upgrade.
    Upgrade(UpgradeAnswer),
    /// The result of a reload.
    Reloaded(ReloadAnswer),
    /// The request was not carried out.
    Error(Fault),
}

/// An upgrade: the replacement of the running program.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UpgradeAnswer {
    /// Its number; 0 if there was none so far.
    pub number: u64,
    /// The stage that it has reached.
    pub state: UpgradeState,
    /// The result of the check, or the reason for a failure, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The version of the program that answers.
    pub program_version: String,
}

/// The progress of an upgrade.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpgradeState {
    /// There was none.
    None,
    /// The new program is asked whether it can take over. The old one serves.
    Checking,
    /// The new program starts.
    Replacing,
    /// The new program could take over; nothing else was asked for.
    Checked,
    /// The new program serves.
    Done,
    /// The old program serves.
    Failed,
}

/// The result of a reload.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct ReloadAnswer {
    /// The reasons why nothing was changed, a line each.
    #[serde(default)]
    pub faults: Vec<String>,
    /// The keys whose values differ from those in force.
    #[serde(default)]
    pub changes: Vec<ReloadedKey>,
    /// The program has no configuration files: it has only read its keys again.
    #[serde(default)]
    pub is_without_files: bool,
}

/// A key of a configuration file whose value has changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReloadedKey {
    /// The key.
    pub key: String,
    /// Whether the new value applies.
    pub outcome: ReloadOutcome,
}

/// Whether the new value of a key applies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReloadOutcome {
    /// It applies, also to existing sessions.
    Applied,
    /// It applies to new tunnels.
    NewTunnels,
    /// It applies after an upgrade or a restart.
    NeedsUpgrade,
    /// It applies after a restart, which ends the sessions.
    NeedsRestart,
}

impl From<Fault> for Response {
    fn from(fault: Fault) -> Self {
        Self::Error(fault)
    }
}

/// The reason why a request was not carried out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Fault {
    /// A code for programs.
    pub code: FaultCode,
    /// One line for people.
    pub text: String,
}

impl Fault {
    pub(super) fn new(code: FaultCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Kinds of faults.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FaultCode {
    /// The line is not a request.
    BadRequest,
    /// The request has another version.
    Version,
    /// There is no such session.
    UnknownSession,
    /// There is no such tunnel.
    UnknownTunnel,
    /// There is no such server.
    UnknownServer,
    /// The request does not say which tunnel.
    Ambiguous,
    /// Programs of this role do not support it.
    Unsupported,
    /// It has already been done, or the process is exiting.
    TooLate,
    /// Too many connections are open.
    Busy,
}

#[derive(Serialize)]
struct Versioned<T> {
    version: u32,
    #[serde(flatten)]
    it: T,
}

fn line(it: &impl Serialize) -> String {
    // Serialization fails only for keys that are not strings, and there are none.
    let mut line = serde_json::to_string(it).unwrap_or_default();
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_encoding_and_carry_their_version() {
        let requests = [
            Request::Status {},
            Request::Watch { interval_ms: Some(250) },
            Request::Kill { tunnel: None, server: None, session: 5 },
            Request::Kill { tunnel: Some("33d69d2a".to_owned()), server: None, session: 5 },
            Request::Kill { tunnel: None, server: Some("office".to_owned()), session: 5 },
            Request::KillTunnel { tunnel: "33d69d2a".to_owned() },
            Request::Reconnect { server: None },
            Request::Reconnect { server: Some("office".to_owned()) },
            Request::Drain { timeout_ms: None, moves: false },
            Request::Stop {},
        ];
        for request in requests {
            let line = request.line();
            assert!(line.starts_with("{\"version\":1,\"request\":\"") && line.ends_with("}\n"));
            assert_eq!(Request::parse(line.as_bytes()), Ok(request));
        }
        assert_eq!(Request::parse(br#"{"request":"status"}"#), Ok(Request::Status {}));
    }

    #[test]
    fn an_invalid_request_is_a_fault_with_the_reason() {
        let code = |line: &[u8]| Request::parse(line).unwrap_err().code;
        for line in [
            &b""[..],
            b"status",
            b"[]",
            b"{}",
            b"\xff\xfe",
            br#"{"request":"dance"}"#,
            br#"{"request":"kill"}"#,
            br#"{"request":"kill","session":-1}"#,
            br#"{"request":"status","more":1}"#,
            br#"{"request":"drain","timeout_ms":"soon"}"#,
        ] {
            assert_eq!(code(line), FaultCode::BadRequest, "{}", String::from_utf8_lossy(line));
        }
        assert_eq!(code(br#"{"version":2,"request":"status"}"#), FaultCode::Version);
        assert_eq!(code(br#"{"version":"1","request":"status"}"#), FaultCode::Version);
        let deep = "[".repeat(2000);
        assert_eq!(code(deep.as_bytes()), FaultCode::BadRequest);
    }

    #[test]
    fn an_answer_is_one_line_with_its_version() {
        let fault = Fault::new(FaultCode::UnknownSession, "there is no\nsession 7");
        let line = Reply::from(Response::from(fault.clone())).line();
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        assert!(line.contains("\"answer\":\"error\"") && line.contains("\"unknown-session\""));
        let reply: Reply = serde_json::from_str(&line).unwrap();
        assert_eq!((reply.version, reply.answer), (VERSION, Response::Error(fault)));
    }
}
