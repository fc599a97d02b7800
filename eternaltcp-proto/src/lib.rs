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
//!
//! # The drive loop
//!
//! A driver gives input to the tunnel, and then takes its output until nothing is left. Here both
//! sides and the carrier between them are in memory; a real driver encrypts the carrier, reads and
//! writes sockets, and waits for them or for the timeout, whichever is first.
//!
//! ```
//! use std::time::Duration;
//!
//! use bytes::{Bytes, BytesMut};
//! use eternaltcp_proto::{
//!     Acceptor, CarrierId, Config, Delivery, Event, Instance, Intent, Progress, Side, Time, Tunnel,
//!     TunnelId,
//! };
//!
//! /// An end of the tunnel, and the bytes that its one application has received.
//! struct End {
//!     tunnel: Tunnel,
//!     received: Vec<u8>,
//!     is_ended: bool,
//! }
//!
//! impl End {
//!     fn new(side: Side) -> Self {
//!         Self { tunnel: Tunnel::new(side, Config::default()), received: Vec::new(), is_ended: false }
//!     }
//!
//!     /// Drains every output after an input. Returns the bytes for the carrier.
//!     fn drain(&mut self, now: Time, carrier: CarrierId) -> Bytes {
//!         while let Some(event) = self.tunnel.poll_event() {
//!             match event {
//!                 // The peer opened a session: a real driver connects its target first.
//!                 Event::Opened(session) => self.tunnel.accept(now, session),
//!                 // Something of the session changed: deliver what there is.
//!                 Event::Dirty(session) => loop {
//!                     match self.tunnel.delivery(session) {
//!                         // The application's socket takes all of it.
//!                         Delivery::Data(bytes) => {
//!                             self.received.extend_from_slice(bytes);
//!                             let taken = bytes.len();
//!                             self.tunnel.delivered(now, session, taken);
//!                         }
//!                         Delivery::End | Delivery::Reset(_) => {
//!                             self.is_ended = true;
//!                             self.tunnel.delivered_ending(now, session);
//!                         }
//!                         Delivery::Nothing => break,
//!                     }
//!                 },
//!                 _ => {}
//!             }
//!         }
//!         let mut out = BytesMut::new();
//!         while let Some(packet) = self.tunnel.poll_transmit(now, carrier) {
//!             out.extend_from_slice(&packet.header.encode());
//!             out.extend_from_slice(&packet.payload);
//!         }
//!         out.freeze()
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (mut client, mut server) = (End::new(Side::Client), End::new(Side::Server));
//! // The driver's clock: it starts where the driver likes.
//! let mut now = Time::ZERO;
//!
//! // The application opens a session and writes before there is a carrier.
//! let session = client.tunnel.open(Bytes::from_static(b"the target"))?;
//! client.tunnel.write(now, session, Bytes::from_static(b"eternal"));
//! client.tunnel.finish(now, session);
//!
//! // A carrier is there: the client asks for a new tunnel, and the server judges the request.
//! let new = || Intent::New { enrol: Bytes::new(), instance: Instance::default() };
//! let at_client = client.tunnel.attach(now, new);
//! let mut acceptor = Acceptor::new(16);
//! acceptor.handle_input(client.drain(now, at_client));
//! assert!(matches!(acceptor.poll()?, Progress::Hello(_)));
//! assert_eq!(acceptor.poll()?, Progress::Complete);
//! let request = acceptor.into_request().ok_or("the request is whole")?;
//! let at_server = server.tunnel.handle_attach(now, TunnelId([7; 16]), request)?;
//!
//! // From here on both sides do the same, until the session has ended.
//! while !server.is_ended {
//!     client.tunnel.handle_input(now, at_client, server.drain(now, at_server))?;
//!     server.tunnel.handle_input(now, at_server, client.drain(now, at_client))?;
//!     // Nothing more to do now: come back when the tunnel says, or when the carrier is readable.
//!     let timeouts = [&client, &server].map(|end| end.tunnel.poll_timeout().map(|(at, _)| at));
//!     now = timeouts.into_iter().flatten().min().unwrap_or(now + Duration::from_secs(1)).max(now);
//!     client.tunnel.handle_timeout(now);
//!     server.tunnel.handle_timeout(now);
//! }
//! assert_eq!(server.received, b"eternal");
//! # Ok(()) }
//! ```

#![forbid(unsafe_code)]

mod acceptor;
mod announcement;
mod attach;
mod backlog;
mod backoff;
#[doc(hidden)]
pub mod bench;
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
pub use announcement::{Announcement, MAX_CONTENT, Topic};
pub use attach::{
    AttachSettings, FEATURE_NAMES, FEATURE_QUIET, FEATURE_STANDBY, FEATURE_TAKEOVER, Hello,
    HelloError, Instance, Intent, OLDEST_VERSION, VERSION,
};
pub use backoff::{Backoff, BadBounds};
pub use config::Config;
pub use digest::Digest;
pub use error::Violation;
pub use failover::{DialId, Failover, MAX_DIALS, Occasion};
pub use id::{Epoch, SessionId, Side, TunnelId};
pub use limits::{PACKET_CHARGE, RESERVE, cost};
pub use liveness::QuietConfig;
pub use packet::{HEADER_LEN, Header, HeaderError, Kind, MAX_PAYLOAD, READ_SIZE};
pub use reason::{Cause, Closing, Refusal, RefusalCode, Reset};
pub use request::{AttachRequest, JoinRequest};
pub use seq::Seq;
pub use session::{Delivery, Lost};
pub use standby::{StandbyConfig, StandbyLoss, StandbyRequest};
pub use state::{
    Boundary, DetachedSession, OpeningState, ReceivePhase, ReceivingState, RestoreError, SendPhase,
    SendingState, SessionState, TunnelState,
};
pub use suspicion::{PathReport, Suspicion};
pub use text::{CleanText, clean, is_unsafe};
pub use time::Time;
pub use transmit::Transmit;
pub use tunnel::{
    AttachError, CarrierId, Event, NotStandingBy, SessionOpenError, SessionPhase, SessionView,
    Stats, TimeoutReason, Tunnel,
};
