//! One end of a tunnel, with its local sockets.

use std::collections::BTreeMap;

use bytes::BytesMut;
use eternaltcp_proto::{Cause, Config, Delivery, Event, Reset, SessionId, Side, Time, Tunnel};

/// The local end of a session, in place of a TCP socket.
pub(crate) struct TestSocket {
    /// The number of further bytes that the application will read.
    pub(crate) takes: usize,
    /// The bytes that it was given.
    pub(crate) got: Vec<u8>,
    /// Whether it was told the end of stream.
    pub(crate) is_ended: bool,
    /// The reset that it got, if any.
    pub(crate) reset: Option<Reset>,
    /// The bytes of the application that the tunnel has not read.
    pub(super) outbox: BytesMut,
    /// Whether the end of stream follows these bytes.
    pub(super) is_finishing: bool,
}

impl TestSocket {
    fn new(takes: usize) -> Self {
        Self {
            takes,
            got: Vec::new(),
            is_ended: false,
            reset: None,
            outbox: BytesMut::new(),
            is_finishing: false,
        }
    }

    /// Returns the bytes of the application that the tunnel has not read.
    pub(crate) fn unread(&self) -> usize {
        self.outbox.len()
    }

    /// Returns the cause of its reset.
    pub(crate) fn cause(&self) -> Option<Cause> {
        self.reset.as_ref().map(|reset| reset.cause)
    }
}

/// One side: its tunnel and its local sockets.
pub(crate) struct TestPeer {
    pub(crate) tunnel: Tunnel,
    pub(crate) sockets: BTreeMap<SessionId, TestSocket>,
    /// Every event except [`Event::Dirty`].
    pub(crate) events: Vec<Event>,
    /// Whether offered sessions are accepted at once.
    pub(crate) is_accepting: bool,
    /// The number of bytes that new sockets take.
    pub(crate) takes: usize,
}

impl TestPeer {
    pub(super) fn new(side: Side, config: Config) -> Self {
        Self {
            tunnel: Tunnel::new(side, config),
            sockets: BTreeMap::new(),
            events: Vec::new(),
            is_accepting: true,
            takes: usize::MAX,
        }
    }

    pub(crate) fn socket(&mut self, id: SessionId) -> &mut TestSocket {
        let takes = self.takes;
        self.sockets.entry(id).or_insert_with(|| TestSocket::new(takes))
    }

    /// Handles what the tunnel asks of the sockets.
    pub(crate) fn handle_events(&mut self, now: Time) {
        while let Some(event) = self.tunnel.poll_event() {
            match event {
                Event::Dirty(id) => self.serve(now, id),
                Event::Opened(id) if self.is_accepting => {
                    self.tunnel.accept(now, id);
                    self.serve(now, id);
                    self.events.push(event);
                }
                _ => self.events.push(event),
            }
        }
    }

    /// Moves data between the socket and the tunnel.
    pub(super) fn serve(&mut self, now: Time, id: SessionId) {
        self.read_socket(now, id);
        self.write_socket(now, id);
    }

    fn read_socket(&mut self, now: Time, id: SessionId) {
        loop {
            let capacity = self.tunnel.capacity(id);
            let outbox = &mut self.socket(id).outbox;
            let count = outbox.len().min(capacity);
            if count == 0 {
                break;
            }
            let chunk = outbox.split_to(count).freeze();
            self.tunnel.write(now, id, chunk);
        }
        let socket = self.socket(id);
        if socket.outbox.is_empty() && std::mem::take(&mut socket.is_finishing) {
            self.tunnel.finish(now, id);
        }
    }

    fn write_socket(&mut self, now: Time, id: SessionId) {
        let takes = self.socket(id).takes;
        let waiting: Vec<u8> = self.tunnel.deliverable(id).flatten().take(takes).copied().collect();
        if !waiting.is_empty() {
            let socket = self.socket(id);
            socket.takes -= waiting.len();
            socket.got.extend_from_slice(&waiting);
            self.tunnel.delivered(now, id, waiting.len());
        }
        match self.tunnel.delivery(id) {
            Delivery::Nothing | Delivery::Data(_) => {}
            Delivery::End => {
                self.socket(id).is_ended = true;
                self.tunnel.delivered_ending(now, id);
            }
            Delivery::Reset(reset) => {
                let reset = reset.clone();
                let socket = self.socket(id);
                socket.reset = Some(reset);
                socket.outbox.clear();
                self.tunnel.delivered_ending(now, id);
            }
        }
    }
}
