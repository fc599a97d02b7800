//! A peer that sends arbitrary bytes inside real TLS with a real key.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use eternaltcp::tls::{ClientTls, Connection, Identity};
use eternaltcp_proto::{Config, Event, Instance, Intent, Refusal, Side, Time, Tunnel, TunnelId};

use super::socket::{connect_from, patient};

/// A connection to sproxy whose TLS handshake is done, and nothing else.
pub struct RawCarrier {
    pub stream: TcpStream,
    tls: Connection,
    incoming: BytesMut,
}

impl RawCarrier {
    /// Connects from `source`, and proves `key`.
    pub fn connect(source: IpAddr, server: SocketAddr, key: &Identity) -> Self {
        Self::try_connect(source, server, key).expect("the server has ended the handshake")
    }

    /// Connects as [`Self::connect`] does. Returns `None` when the server ends the handshake.
    pub fn try_connect(source: IpAddr, server: SocketAddr, key: &Identity) -> Option<Self> {
        Self::try_connect_late(source, server, key, |_| {})
    }

    /// Connects as [`Self::try_connect`] does, but makes the server wait for the signature while
    /// `delay` runs, and gives no sign that a signature will follow.
    pub fn try_connect_late(
        source: IpAddr,
        server: SocketAddr,
        key: &Identity,
        delay: impl FnOnce(&TcpStream),
    ) -> Option<Self> {
        let mut delay = Some(delay);
        let stream = patient(connect_from(source, server).expect("sproxy listens"));
        let tls = ClientTls::new(key).and_then(|tls| Connection::client(&tls)).expect("a key");
        let mut carrier = Self { stream, tls, incoming: BytesMut::new() };
        while carrier.tls.is_handshaking() {
            let early = carrier.advance().expect("the server's handshake is right");
            assert!(early.is_empty(), "the server waits for the client's word");
            if carrier.tls.is_handshaking() && !carrier.fill() {
                return None;
            }
            if let Some(delay) = delay.take() {
                delay(&carrier.stream);
            }
        }
        Some(carrier)
    }

    /// Sends bytes inside TLS. Returns whether the socket took them.
    pub fn send(&mut self, plaintext: &[u8]) -> bool {
        let mut outgoing = Vec::new();
        self.tls.encrypt(plaintext, &mut outgoing).expect("the handshake is done");
        self.stream.write_all(&outgoing).is_ok()
    }

    /// Waits for bytes inside TLS; `None` when the connection is over.
    pub fn receive(&mut self) -> Option<Vec<Bytes>> {
        loop {
            let plaintext = self.advance()?;
            if !plaintext.is_empty() {
                return Some(plaintext);
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// Handles the data read; `None` when TLS has failed.
    fn advance(&mut self) -> Option<Vec<Bytes>> {
        let (mut outgoing, mut plaintext) = (Vec::new(), Vec::new());
        let status = self.tls.process(&mut self.incoming, &mut outgoing, &mut plaintext).ok()?;
        let _ = self.stream.write_all(&outgoing);
        (!status.peer_closed || !plaintext.is_empty()).then_some(plaintext)
    }

    /// Reads some data. Returns `false` at the end of the stream, or after an error.
    fn fill(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        let count = self.stream.read(&mut buffer).unwrap_or(0);
        self.incoming.extend_from_slice(&buffer[..count]);
        count > 0
    }
}

/// The answer of the server to an attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerAnswer {
    /// The carrier is attached.
    Attached,
    /// The attach was refused.
    Refused(Refusal),
    /// The server has closed the connection silently.
    Closed,
}

/// A client's tunnel without a client's rules.
pub struct HostilePeer {
    pub tunnel: Tunnel,
    pub carrier: RawCarrier,
    start: Instant,
}

impl HostilePeer {
    /// Creates a peer on `carrier` that has sent nothing.
    pub fn new(carrier: RawCarrier) -> Self {
        // Its carrier is read when the test has time for it.
        let config = Config { dead_after: Duration::from_secs(600), ..Config::default() };
        let tunnel = Tunnel::new(Side::Client, config);
        Self { tunnel, carrier, start: Instant::now() }
    }

    /// Requests a new tunnel whose own key will be `own`.
    pub fn ask_new(&mut self, own: &Identity, name: &str) -> PeerAnswer {
        self.ask(new(own, name))
    }

    /// Requests the tunnel with this id.
    pub fn ask_resume(&mut self, tunnel: TunnelId) -> PeerAnswer {
        self.ask(Intent::Resume { tunnel })
    }

    fn ask(&mut self, intent: Intent) -> PeerAnswer {
        let request = self.request(intent);
        self.carrier.send(&request);
        self.answer()
    }

    /// Returns the bytes of the next request to attach, without sending them.
    pub fn request(&mut self, intent: Intent) -> Vec<u8> {
        let now = self.now();
        self.tunnel.attach(now, || intent);
        self.due()
    }

    /// Waits for the answer to a request.
    pub fn answer(&mut self) -> PeerAnswer {
        loop {
            while let Some(event) = self.tunnel.poll_event() {
                match event {
                    Event::Attached { .. } => return PeerAnswer::Attached,
                    Event::Refused(refusal) => return PeerAnswer::Refused(refusal),
                    _ => {}
                }
            }
            let Some(chunks) = self.carrier.receive() else { return PeerAnswer::Closed };
            for chunk in chunks {
                self.hear(chunk);
            }
        }
    }

    fn hear(&mut self, chunk: Bytes) {
        let now = self.now();
        let lead = self.tunnel.lead().expect("it has asked");
        self.tunnel.handle_input(now, lead, chunk).expect("the server keeps the protocol");
    }

    /// Sends all of the tunnel's output. Returns whether the socket took it.
    pub fn flush(&mut self) -> bool {
        let due = self.due();
        due.is_empty() || self.carrier.send(&due)
    }

    /// Handles the server's data, if there are any. Returns whether the carrier lives.
    pub fn read(&mut self) -> bool {
        let Some(chunks) = self.carrier.receive() else { return false };
        for chunk in chunks {
            self.hear(chunk);
        }
        while self.tunnel.poll_event().is_some() {}
        true
    }

    /// Returns whether the server has sent data that were not read, or closed the carrier.
    pub fn has_input(&self) -> bool {
        let stream = &self.carrier.stream;
        stream.set_nonblocking(true).expect("it is a socket");
        let waits = stream.peek(&mut [0]).is_ok();
        stream.set_nonblocking(false).expect("it is a socket");
        waits
    }

    pub fn now(&self) -> Time {
        Time::new(self.start.elapsed())
    }

    fn due(&mut self) -> Vec<u8> {
        let now = self.now();
        let mut bytes = Vec::new();
        let Some(lead) = self.tunnel.lead() else { return bytes };
        while let Some(transmit) = self.tunnel.poll_transmit(now, lead) {
            bytes.extend_from_slice(&transmit.header.encode());
            bytes.extend_from_slice(&transmit.payload);
        }
        bytes
    }
}

/// Returns the request for a new tunnel.
pub fn new(own: &Identity, name: &str) -> Intent {
    let instance = Instance { name: name.into(), ..Instance::default() };
    Intent::New { enrol: own.public_key().to_string().into(), instance }
}
