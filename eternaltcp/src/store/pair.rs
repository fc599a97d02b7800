//! Two tunnels without a network, for tests and fuzz bodies.

use std::time::Duration;

use bytes::Bytes;
use eternaltcp_proto::{
    Acceptor, Config, Event, Instance, Intent, Progress, Side, Time, Transmit, Tunnel, TunnelId,
};
#[cfg(test)]
use eternaltcp_proto::{Delivery, SessionId};

/// The maximum number of sessions in an attach.
const MAX_NUMBERS: usize = 100;

/// A time longer than any delay of an acknowledgement.
const PAUSE: Duration = Duration::from_millis(100);

/// The tunnels of a client and a server, attached to each other.
pub(super) struct TunnelPair {
    pub(super) client: Tunnel,
    pub(super) server: Tunnel,
    now: Time,
}

impl TunnelPair {
    pub(super) fn attached(config: Config) -> Self {
        let client = Tunnel::new(Side::Client, config.clone());
        let server = Tunnel::new(Side::Server, config);
        let mut pair = Self { client, server, now: Time::ZERO };
        pair.attach();
        pair
    }

    /// Gives both tunnels a new carrier.
    pub(super) fn attach(&mut self) {
        self.client.detach();
        self.server.detach();
        let enrol = Bytes::from_static(b"key");
        self.client.attach(self.now, || Intent::New { enrol, instance: Instance::default() });
        let mut acceptor = Acceptor::new(MAX_NUMBERS);
        acceptor.handle_input(transmit(self.now, &mut self.client).into());
        while acceptor.poll().is_ok_and(|progress| progress != Progress::Complete) {}
        if let Some(request) = acceptor.into_request() {
            let _ = self.server.handle_attach(self.now, TunnelId([7; 16]), request);
        }
        self.exchange();
    }

    /// Delivers to both tunnels what the other one sends now and shortly after.
    pub(super) fn exchange(&mut self) {
        self.drain();
        self.now = self.now + PAUSE;
        self.client.handle_timeout(self.now);
        self.server.handle_timeout(self.now);
        self.drain();
    }

    fn drain(&mut self) {
        let now = self.now;
        loop {
            let (there, back) = (transmit(now, &mut self.client), transmit(now, &mut self.server));
            if there.is_empty() && back.is_empty() {
                return;
            }
            receive(now, &mut self.server, there);
            receive(now, &mut self.client, back);
            while let Some(event) = self.server.poll_event() {
                if let Event::Opened(id) = event {
                    self.server.accept(now, id);
                }
            }
            while self.client.poll_event().is_some() {}
        }
    }

    /// Takes up to `most` bytes of a session at the server.
    #[cfg(test)]
    pub(super) fn server_takes(&mut self, id: SessionId, most: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < most
            && let Delivery::Data(bytes) = self.server.delivery(id)
        {
            let count = bytes.len().min(most - all.len());
            all.extend_from_slice(&bytes[..count]);
            self.server.delivered(self.now, id, count);
            self.exchange();
        }
        all
    }
}

/// Delivers input on the tunnel's only carrier.
fn receive(now: Time, tunnel: &mut Tunnel, bytes: Vec<u8>) {
    if let Some(id) = tunnel.lead() {
        let _ = tunnel.handle_input(now, id, bytes.into());
    }
}

fn transmit(now: Time, tunnel: &mut Tunnel) -> Vec<u8> {
    let packets = std::iter::from_fn(|| tunnel.poll_transmit(now, tunnel.lead()?));
    let bytes = |packet: Transmit| [&packet.header.encode()[..], &packet.payload].concat();
    packets.flat_map(bytes).collect()
}
