//! The state of a tunnel, its carrier and its sessions, as seen from outside.
//!
//! These are snapshots, made on request. In JSON, fields that end in `_at` are milliseconds of Unix
//! time, those in `_ms` and `_us` are durations, and those in `_bytes` count payload.

mod event;
mod text;

pub(crate) use text::{millis, unix_ms, whole_millis};

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

pub use event::{EventKind, TunnelEvent};
pub(crate) use event::{Events, Publisher};

/// A tunnel as one of its ends sees it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TunnelStatus {
    /// The first digits of its id; `None` before the first attach.
    pub tunnel: Option<String>,
    /// The peer.
    #[serde(flatten)]
    pub peer: Peer,
    /// The time at which this end created it.
    #[serde(with = "text::unix_ms")]
    pub started_at: SystemTime,
    /// Its state.
    pub state: TunnelCondition,
    /// The time at which it entered that state.
    #[serde(with = "text::unix_ms")]
    pub state_since_at: SystemTime,
    /// The reason for the state, unless the tunnel is simply attached.
    pub why: Option<String>,
    /// The carrier, if there is one.
    pub carrier: Option<CarrierStatus>,
    /// The spare carrier that stands by, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standby: Option<CarrierStatus>,
    /// Carriers that were attached so far.
    pub carriers: u64,
    /// Payload sent to the peer, each byte counted once.
    pub sent_bytes: u64,
    /// Payload that local applications or targets took.
    pub received_bytes: u64,
    /// Payload that the peer's applications have not taken yet.
    pub queued_bytes: u64,
    /// Payload received that this side's applications have not taken.
    pub undelivered_bytes: u64,
    /// Payload sent again after attaches.
    pub replayed_bytes: u64,
    /// The end of the previous carrier.
    pub last_loss: Option<Loss>,
    /// Its sessions, in the order of their ids.
    pub sessions: Vec<SessionStatus>,
}

/// A tunnel with the first of its sessions: what a tunnel with thousands of them can say often.
#[derive(Clone, PartialEq, Debug)]
pub struct TunnelOverview {
    /// Its status. Only the first sessions are in it, and the queued and undelivered bytes are
    /// theirs.
    pub status: TunnelStatus,
    /// The number of all its sessions.
    pub sessions: usize,
}

/// The peer of a tunnel.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// A server: this is the client's end.
    Server(ServerPeer),
    /// A client: this is the server's end.
    Client(ClientPeer),
}

/// A server, and its client's attempts to reach it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ServerPeer {
    /// Its name, in a program with several servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its addresses, as they were given.
    pub address: String,
    /// Started dials.
    pub dials: u64,
    /// Doubts about a carrier.
    pub doubts: u64,
    /// Doubts that the carrier itself refuted.
    pub false_alarms: u64,
    /// The path of the spare carrier.
    pub spare: Option<String>,
    /// The fingerprint of its key, once a tunnel was requested there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its name among the servers of a fleet, if it has told one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Whether it is about to end, and asks its clients to move to another server.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
    /// The user's key that the server has admitted: its fingerprint, and its name on this machine.
    /// `None` before the admission, and if an earlier process made the tunnel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_key: Option<String>,
    /// The features of the server that this client can use now, by their names in the protocol.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
}

/// A client, as a server knows it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ClientPeer {
    /// The fingerprint of the admitted key.
    pub key: String,
    /// The name of that key: its comment in the server's `authorized_keys`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_name: Option<String>,
    /// The source address of its last carrier.
    pub from: String,
    /// Its name, by which a later client replaces it.
    pub name: String,
    /// Its user's number on that machine.
    pub user: String,
    /// Its machine: the hash of an id.
    pub machine: String,
}

/// The state of a tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TunnelCondition {
    /// A carrier is attached.
    Attached,
    /// A carrier is attached, and doubted.
    Doubted,
    /// A carrier exists, and the peer has not attached it yet.
    Attaching,
    /// There is no carrier.
    Detached,
    /// It is being closed.
    Closing,
}

impl fmt::Display for TunnelCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attached => "attached",
            Self::Doubted => "doubted",
            Self::Attaching => "attaching",
            Self::Detached => "detached",
            Self::Closing => "closing",
        })
    }
}

/// The carrier in use.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CarrierStatus {
    /// This end's address.
    pub local: SocketAddr,
    /// The peer's address.
    pub peer: SocketAddr,
    /// The interface that it uses, if this end chose it.
    pub interface: Option<String>,
    /// The number of carriers that have joined it.
    #[serde(default)]
    pub joined: usize,
    /// Whether both ends are quiet on it, because the tunnel is idle.
    #[serde(default)]
    pub quiet: bool,
    /// Whether new carriers over its path use small segments, because large ones vanished there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub small_segments: bool,
    /// The round-trip time: of the kernel's TCP, else of heartbeats.
    #[serde(rename = "round_trip_us", with = "text::micros")]
    pub round_trip: Option<Duration>,
    /// Its mean deviation.
    #[serde(rename = "deviation_us", with = "text::micros")]
    pub deviation: Option<Duration>,
    /// Time since data last arrived on it.
    #[serde(rename = "silent_ms", with = "text::millis")]
    pub silent: Option<Duration>,
}

/// The end of a carrier, and its consequences.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Loss {
    /// The time at which this side learned of it.
    #[serde(with = "text::unix_ms")]
    pub lost_at: SystemTime,
    /// One word: `silent`, `reset`, `closed`, `error`, `broken`, `joined`, `doubted`, `replaced`,
    /// `refused`, `detached`.
    pub kind: String,
    /// The reason in words.
    pub why: String,
    /// Time from when the carrier last worked until the next one was attached; `None` until then.
    #[serde(rename = "outage_ms", with = "text::millis")]
    pub outage: Option<Duration>,
    /// Payload that was sent again after it.
    pub replayed_bytes: u64,
}

/// A session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionStatus {
    /// Its number in the tunnel.
    pub session: u32,
    /// Its state.
    pub stage: SessionStage,
    /// The application that opened it, if it is on this side.
    pub from: Option<String>,
    /// Its target.
    pub target: String,
    /// The time at which it was opened.
    #[serde(with = "text::unix_ms")]
    pub opened_at: SystemTime,
    /// Payload that this side's application or target sent.
    pub sent_bytes: u64,
    /// Payload that this side's application or target was given.
    pub received_bytes: u64,
    /// Sent payload that the other side's application has not taken yet.
    pub queued_bytes: u64,
    /// Received payload that this side's application has not taken yet.
    pub undelivered_bytes: u64,
}

/// The state of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SessionStage {
    /// Its target is not connected yet.
    Opening,
    /// Both directions are open.
    Open,
    /// At least one direction has ended.
    Ending,
    /// It is being reset.
    Resetting,
}

impl From<eternaltcp_proto::SessionPhase> for SessionStage {
    fn from(stage: eternaltcp_proto::SessionPhase) -> Self {
        use eternaltcp_proto::SessionPhase;
        match stage {
            SessionPhase::Opening => Self::Opening,
            SessionPhase::Open => Self::Open,
            SessionPhase::Ending => Self::Ending,
            SessionPhase::Resetting => Self::Resetting,
        }
    }
}

impl fmt::Display for SessionStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Opening => "opening",
            Self::Open => "open",
            Self::Ending => "ending",
            Self::Resetting => "resetting",
        })
    }
}
