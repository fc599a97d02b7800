//! Records of what a server did: who was admitted and refused, from where, which sessions there
//! were, and how they ended.
//!
//! The program that runs the server gives it an [`AuditSink`]. The fields of the records, and their
//! names in JSON, are an interface: `docs/records.md` describes them, and [`AUDIT_VERSION`] is its
//! version. Names are as in the [status](crate::status): fields that end in `_at` are milliseconds
//! of Unix time, those in `_ms` are durations, and those in `_bytes` count payload.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use eternaltcp_proto::CleanText;
use serde::{Serialize, Serializer};

use crate::status::{unix_ms, whole_millis};

/// The version of the records. It changes when a field is removed or gets another meaning, and not
/// when an event or a field is added.
pub const AUDIT_VERSION: u32 = 1;

/// Takes the records of a server.
pub trait AuditSink: fmt::Debug + Send + Sync {
    /// Takes a record. It must not block: the tasks of tunnels call it.
    fn record(&self, event: &AuditEvent);
}

/// The place where a server's records go; none by default. It is cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Audit(Option<Arc<dyn AuditSink>>);

impl Audit {
    /// Passes records to a sink.
    #[must_use]
    pub fn to(sink: Arc<dyn AuditSink>) -> Self {
        Self(Some(sink))
    }

    /// Returns whether records are taken.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Records an event, which is only made if it is taken.
    pub(crate) fn record(&self, event: impl FnOnce() -> AuditEvent) {
        if let Some(sink) = &self.0 {
            sink.record(&event());
        }
    }
}

/// A text of a record: one clean line of at most 400 bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AuditText(CleanText);

impl<T: Into<CleanText>> From<T> for AuditText {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl Serialize for AuditText {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

/// The client that a record is about.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct AuditClient {
    /// The first digits of the tunnel's id, as in the log and the status.
    pub tunnel: String,
    /// The fingerprint of the admitted key.
    pub key: String,
    /// The name of the key: its comment in the server's `authorized_keys`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_name: Option<AuditText>,
    /// The address of the client's last carrier.
    pub from: IpAddr,
}

/// A session that a record is about.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct AuditSession {
    /// Its number in the tunnel.
    pub session: u32,
    /// Its target.
    pub target: AuditText,
    /// The origin of the connection, as the client states it, or as the server's listener knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<SocketAddr>,
}

/// The outages of a tunnel in some time: the times without a carrier that are over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct AuditOutages {
    /// Their number.
    pub outages: u64,
    /// Their time together.
    #[serde(rename = "outage_ms", with = "whole_millis")]
    pub time: Duration,
}

/// The end of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AuditEnd {
    /// Both directions ended in order.
    Order,
    /// The connection to the target failed, or the target reset it.
    TargetReset,
    /// The client's end reset it.
    Reset,
    /// The server's operator ended it.
    Killed,
    /// A permission of its key was withdrawn.
    Forbidden,
    /// A connection to a listener waited too long for its client.
    TimedOut,
    /// Its tunnel ended before it.
    TunnelOver,
    /// It could not be resumed.
    Lost,
}

/// An event of a server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AuditEvent {
    /// A client was admitted, and has a new tunnel.
    Admitted {
        /// The client.
        #[serde(flatten)]
        client: AuditClient,
        /// Its name, by which a later client replaces it, as it states it.
        name: AuditText,
        /// Its user's number on its machine, as it states it.
        user: AuditText,
        /// The hash of its machine's id, as it states it.
        machine: AuditText,
    },
    /// A client returned with another carrier.
    Attached {
        /// The client.
        #[serde(flatten)]
        client: AuditClient,
        /// The time without a carrier; none if another carrier replaced one that worked, or a
        /// worker died meanwhile.
        #[serde(rename = "outage_ms", with = "crate::status::millis")]
        outage: Option<Duration>,
        /// Payload that is sent again.
        replayed_bytes: u64,
    },
    /// A client has no carrier any more.
    Detached {
        /// The client.
        #[serde(flatten)]
        client: AuditClient,
        /// The reason, in one word.
        reason: Cow<'static, str>,
    },
    /// A carrier was refused.
    Refused {
        /// The address from which it came.
        from: IpAddr,
        /// The fingerprint of the key that it proved: of a new client, that of its user; of one that
        /// returns, the tunnel's own.
        key: Option<String>,
        /// The reason, in one word.
        reason: Cow<'static, str>,
        /// Whether another attempt is pointless.
        is_final: bool,
        /// The reason in words.
        detail: AuditText,
        /// Refusals before this one that were not recorded.
        not_recorded: u64,
    },
    /// Carriers were refused, and not recorded one by one.
    RefusedMore {
        /// Their address; of IPv6, that of its network. None: they are strangers, or too many.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<IpAddr>,
        /// Their number.
        not_recorded: u64,
    },
    /// A session is connected to its target.
    SessionOpened {
        /// Its client.
        #[serde(flatten)]
        client: AuditClient,
        /// The session.
        #[serde(flatten)]
        session: AuditSession,
        /// The address to which it is connected, if it is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<SocketAddr>,
    },
    /// A session was not connected to its target.
    SessionRefused {
        /// Its client.
        #[serde(flatten)]
        client: AuditClient,
        /// The session.
        #[serde(flatten)]
        session: AuditSession,
        /// The reason, in one word.
        reason: Cow<'static, str>,
        /// The reason in words.
        detail: AuditText,
    },
    /// A session ended.
    SessionEnded {
        /// Its client.
        #[serde(flatten)]
        client: AuditClient,
        /// The session.
        #[serde(flatten)]
        session: AuditSession,
        /// The way in which it ended.
        end: AuditEnd,
        /// The cause of its reset, in one word.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<Cow<'static, str>>,
        /// The cause of its reset, in words.
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<AuditText>,
        /// Payload that its target sent.
        sent_bytes: u64,
        /// Payload that its target was given.
        received_bytes: u64,
        /// The time at which it was opened.
        #[serde(with = "unix_ms")]
        opened_at: SystemTime,
        /// The time for which it lasted.
        #[serde(rename = "lasted_ms", with = "whole_millis")]
        lasted: Duration,
        /// The outages of its tunnel in that time.
        #[serde(flatten)]
        outages: AuditOutages,
    },
    /// The server's operator ends a session.
    Killed {
        /// Its client.
        #[serde(flatten)]
        client: AuditClient,
        /// Its number in the tunnel.
        session: u32,
    },
    /// The server listens for a client.
    Listening {
        /// The client.
        #[serde(flatten)]
        client: AuditClient,
        /// The session that is the listener.
        session: u32,
        /// The addresses.
        addresses: Vec<String>,
    },
    /// The server no longer listens there for the client.
    ListeningEnded {
        /// The client.
        #[serde(flatten)]
        client: AuditClient,
        /// The session that was the listener.
        session: u32,
        /// The addresses.
        addresses: Vec<String>,
    },
    /// The server takes no new clients and sessions.
    Draining {
        /// The time after which it ends in any case.
        #[serde(rename = "limit_ms", with = "crate::status::millis")]
        limit: Option<Duration>,
        /// Sessions that continue.
        sessions: usize,
        /// Its clients are asked to move to another server, and their new sessions are taken until then.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        moves: bool,
    },
    /// A tunnel is over, and so are its sessions: no further record is about them.
    TunnelLost {
        /// The tunnel, as far as it is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        tunnel: Option<String>,
        /// The fingerprint of its key, if it is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// The name of that key.
        #[serde(skip_serializing_if = "Option::is_none")]
        key_name: Option<AuditText>,
        /// The address of the client's last carrier, if it is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<IpAddr>,
        /// The reason, in one word.
        reason: &'static str,
        /// The number of its sessions, if it is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        sessions: Option<usize>,
    },
    /// A tunnel ended.
    TunnelEnded {
        /// Its client.
        #[serde(flatten)]
        client: AuditClient,
        /// Whether the client ended it.
        is_by_client: bool,
        /// The reason, in one word.
        reason: Cow<'static, str>,
        /// The time at which it was made.
        #[serde(with = "unix_ms")]
        started_at: SystemTime,
        /// The time for which it lasted.
        #[serde(rename = "lasted_ms", with = "whole_millis")]
        lasted: Duration,
        /// Carriers that were attached.
        carriers: u64,
        /// Payload sent to the client, each byte counted once.
        sent_bytes: u64,
        /// Payload of the client that targets took.
        received_bytes: u64,
        /// Payload that was sent again.
        replayed_bytes: u64,
        /// The outages that the present worker has seen.
        #[serde(flatten)]
        outages: AuditOutages,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_flat_object_and_cleans_what_a_peer_says() {
        let client = AuditClient {
            tunnel: "33d69d2a".to_owned(),
            key: "SHA256:abc".to_owned(),
            key_name: None,
            from: [192, 0, 2, 7].into(),
        };
        let session = AuditSession {
            session: 3,
            target: "a\n{\"event\":\"admitted\"}\u{202e}:1".into(),
            origin: None,
        };
        let event = AuditEvent::SessionEnded {
            client,
            session,
            end: AuditEnd::TargetReset,
            reason: None,
            detail: None,
            sent_bytes: 1,
            received_bytes: 2,
            opened_at: SystemTime::UNIX_EPOCH + Duration::from_millis(5),
            lasted: Duration::from_secs(2),
            outages: AuditOutages { outages: 1, time: Duration::from_millis(310) },
        };
        let text = serde_json::to_string(&event).unwrap();
        let expected = "{\"event\":\"session-ended\",\"tunnel\":\"33d69d2a\",\"key\":\"SHA256:abc\",\
            \"from\":\"192.0.2.7\",\"session\":3,\"target\":\"a {\\\"event\\\":\\\"admitted\\\"} :1\",\
            \"end\":\"target-reset\",\"sent_bytes\":1,\"received_bytes\":2,\"opened_at\":5,\
            \"lasted_ms\":2000,\"outages\":1,\"outage_ms\":310}";
        assert_eq!(text, expected);
    }
}
