//! The state of a program, as its control socket reports it.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::kind::ProxyKind;
use crate::status::TunnelStatus;

/// A proxy and its tunnels.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// The role of the proxy.
    pub role: ProxyKind,
    /// The purpose of the program, in a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// The name of its user, if it is not the asking one's. The program that asks fills this in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Its process id: that of its main process.
    pub process: u32,
    /// The process that keeps the state of the process that serves, if there is one. It is the main
    /// process.
    #[serde(default)]
    pub holder_pid: Option<u32>,
    /// The process that serves.
    #[serde(default)]
    pub worker_pid: Option<u32>,
    /// The number of workers that died.
    #[serde(default)]
    pub restarts: u64,
    /// The death of the last of them.
    #[serde(default)]
    pub last_restart: Option<RestartStatus>,
    /// The version of the program.
    pub program_version: String,
    /// The time at which it was started.
    #[serde(with = "crate::status::unix_ms")]
    pub started_at: SystemTime,
    /// Its addresses.
    pub listen: Vec<String>,
    /// Its forwards, if it is a cproxy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forwards: Vec<ForwardStatus>,
    /// The addresses of its metrics and its page.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<String>,
    /// Whether it no longer accepts new sessions.
    pub is_draining: bool,
    /// Its tunnels.
    pub tunnels: Vec<TunnelStatus>,
    /// The servers whose tunnels have ended for good, while those of others continue.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<EndedServer>,
}

/// A server of several whose tunnel has ended for good.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EndedServer {
    /// Its name.
    pub server: String,
    /// The reason.
    pub why: String,
    /// The time at which the tunnel ended.
    #[serde(with = "crate::status::unix_ms")]
    pub ended_at: SystemTime,
}

/// A forward: a listener, and where its connections lead.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ForwardStatus {
    /// The name of its server, in a program with several servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The address of the listener.
    pub listen: String,
    /// Whether the server listens there, and not this program.
    #[serde(default)]
    pub is_remote: bool,
    /// The target, or what chooses it.
    pub target: String,
}

/// The death of a process that another one replaced.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RestartStatus {
    /// The cause: `SIGKILL`, `a panic`.
    pub cause: String,
    /// The time at which it died.
    #[serde(with = "crate::status::unix_ms")]
    pub restarted_at: SystemTime,
}
