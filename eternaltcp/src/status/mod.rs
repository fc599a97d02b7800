//! What a tunnel, its carrier and its sessions look like from outside.
//!
//! These are snapshots, made when somebody asks. In JSON the fields that end in
//! `_at` are milliseconds of Unix time, those in `_ms` and `_us` are durations,
//! and those in `_bytes` count payload.

mod event;
mod text;

pub(crate) use text::unix_ms;

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

pub use event::{EventKind, TunnelEvent};
pub(crate) use event::{Events, Herald};

/// A tunnel as one of its ends sees it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TunnelStatus {
    /// The first digits of its id; `None` before the first attach.
    pub tunnel: Option<String>,
    /// Who is at the other end.
    #[serde(flatten)]
    pub peer: Peer,
    /// Since when this end has it.
    #[serde(with = "text::unix_ms")]
    pub started_at: SystemTime,
    /// How it stands.
    pub state: TunnelState,
    /// Since when it stands so.
    #[serde(with = "text::unix_ms")]
    pub state_since_at: SystemTime,
    /// Why, unless it is simply attached.
    pub why: Option<String>,
    /// The carrier, if there is one.
    pub carrier: Option<CarrierStatus>,
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
    /// How the carrier before ended.
    pub last_loss: Option<Loss>,
    /// Its sessions, in the order of their ids.
    pub sessions: Vec<SessionStatus>,
}

/// Who is at the other end of a tunnel.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// A server: this is the client's end.
    Server(ServerPeer),
    /// A client: this is the server's end.
    Client(ClientPeer),
}

/// A server, and what its client did to reach it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ServerPeer {
    /// Its addresses, as they were given.
    pub address: String,
    /// Dials begun.
    pub dials: u64,
    /// Doubts about a carrier.
    pub doubts: u64,
    /// Doubts that the carrier itself removed.
    pub false_alarms: u64,
    /// The path of the spare that stands by.
    pub spare: Option<String>,
}

/// A client, as a server knows it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ClientPeer {
    /// The fingerprint of the key that was let in.
    pub key: String,
    /// The address that its last carrier came from.
    pub from: String,
    /// Its name, by which a later one of the same client replaces it.
    pub name: String,
    /// Its user's number there.
    pub user: String,
    /// Its machine: the hash of an id.
    pub machine: String,
}

/// How a tunnel stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TunnelState {
    /// A carrier is bound to it.
    Attached,
    /// A carrier is bound to it, and doubted.
    Doubted,
    /// A carrier is there, and the peer has not bound it yet.
    Attaching,
    /// There is no carrier.
    Detached,
    /// It is being closed.
    Closing,
}

impl fmt::Display for TunnelState {
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

/// A carrier in use.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CarrierStatus {
    /// This end's address.
    pub local: SocketAddr,
    /// The other end's.
    pub peer: SocketAddr,
    /// The interface that it leaves by, where this end chose it.
    pub interface: Option<String>,
    /// How many carriers have joined it.
    #[serde(default)]
    pub joined: usize,
    /// The round trip: of the kernel's TCP, else of heartbeats.
    #[serde(rename = "round_trip_us", with = "text::micros")]
    pub round_trip: Option<Duration>,
    /// The mean deviation of it.
    #[serde(rename = "deviation_us", with = "text::micros")]
    pub deviation: Option<Duration>,
    /// How long ago something was heard on it.
    #[serde(rename = "silent_ms", with = "text::millis")]
    pub silent: Option<Duration>,
}

/// The end of a carrier, and what it cost.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Loss {
    /// When this side learned of it.
    #[serde(with = "text::unix_ms")]
    pub lost_at: SystemTime,
    /// In one word: `silent`, `reset`, `closed`, `error`, `broken`, `joined`,
    /// `doubted`, `replaced`, `refused`, `detached`.
    pub kind: String,
    /// In words.
    pub why: String,
    /// From when the carrier was last of use until the next was attached;
    /// `None` until then.
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
    /// How far it is.
    pub stage: SessionStage,
    /// The application that opened it, where it is on this side.
    pub from: Option<String>,
    /// Where it ends.
    pub target: String,
    /// Since when.
    #[serde(with = "text::unix_ms")]
    pub opened_at: SystemTime,
    /// What this side's application or target sent.
    pub sent_bytes: u64,
    /// What it was given.
    pub received_bytes: u64,
    /// What it sent and the other side's has not taken yet.
    pub queued_bytes: u64,
    /// What came for it and it has not taken.
    pub undelivered_bytes: u64,
}

/// How far a session is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionStage {
    /// Its target is not connected yet.
    Opening,
    /// Both directions are open.
    Open,
    /// One direction has ended at least.
    Ending,
    /// It is being reset.
    Resetting,
}

impl From<eternaltcp_proto::Stage> for SessionStage {
    fn from(stage: eternaltcp_proto::Stage) -> Self {
        use eternaltcp_proto::Stage;
        match stage {
            Stage::Opening => Self::Opening,
            Stage::Open => Self::Open,
            Stage::Ending => Self::Ending,
            Stage::Resetting => Self::Resetting,
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
