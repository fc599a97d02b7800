//! The EternalTCP protocol as a state machine.
//!
//! It owns no socket, clock, thread or random source: `now` comes with every input, and the driver
//! does the I/O that the state machine asks for. The same inputs always give the same outputs.
//!
//! A [`Tunnel`] is the association of one client (cproxy) and one server (sproxy). It carries
//! [sessions](SessionId), each of which is one application connection, over carriers, which may
//! die. When a carrier dies, the client attaches a new one, and both sides send again what the
//! other did not receive. The normative text is `docs/protocol.md`.
//!
//! Inputs are named `handle_*`, outputs `poll_*`, and the driver's commands are plain verbs. After
//! each input, drain [`Tunnel::poll_event`] and [`Tunnel::poll_transmit`], and return at the time
//! that [`Tunnel::poll_timeout`] gives.

#![forbid(unsafe_code)]

mod acceptor;
mod attach;
mod backlog;
mod backoff;
mod config;
mod decoder;
mod digest;
mod error;
mod failover;
mod id;
pub mod kept;
mod limits;
mod liveness;
mod numbers;
mod packet;
mod reason;
mod receive_queue;
mod reorder;
mod request;
mod scheduler;
mod send_queue;
mod seq;
mod session;
mod standby;
mod state;
mod suspicion;
mod text;
mod time;
mod transmit;
mod tunnel;
mod wire;

pub use acceptor::{AcceptError, Acceptor, Progress, encode_refusal};
pub use attach::{
    FEATURE_JOIN, FEATURE_NAMES, FEATURE_STANDBY, Hello, HelloError, Instance, Intent,
    OLDEST_VERSION, Settings, VERSION,
};
pub use backoff::{Backoff, BadBounds};
pub use config::Config;
pub use digest::Digest;
pub use error::Violation;
pub use failover::{DialId, Failover, MAX_DIALS, Occasion};
pub use id::{Epoch, SessionId, Side, TunnelId};
pub use limits::{PACKET_CHARGE, RESERVE, cost};
pub use packet::{HEADER_LEN, Header, HeaderError, Kind, MAX_PAYLOAD, READ_SIZE};
pub use reason::{Cause, Closing, Refusal, RefusalCode, Reset};
pub use request::{AttachRequest, JoinRequest};
pub use seq::Seq;
pub use session::{Delivery, Lost};
pub use standby::{Standby, StandbyConfig, StandbyEvent, StandbyRequest};
pub use state::{
    Boundary, DetachedSession, OpeningState, ReceivePhase, ReceivingState, RestoreError, SendPhase,
    SendingState, SessionState, TunnelState,
};
pub use suspicion::{PathReport, Suspicion};
pub use text::{CleanText, clean, is_unsafe};
pub use time::Time;
pub use transmit::Transmit;
pub use tunnel::{
    AttachError, Event, JoinedId, NotStandingBy, OpenError, SessionView, Stage, Stats,
    TimeoutReason, Tunnel,
};
