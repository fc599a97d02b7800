//! Joined carriers of a pair.

use std::time::Duration;

use bytes::Bytes;
use eternaltcp_proto::{
    Acceptor, CarrierId, Event, MAX_PAYLOAD, Progress, SessionId, Side, StandbyConfig, Time,
    Transmit, Tunnel, Violation,
};

use super::{TestPair, wire};

use Side::{Client, Server};

pub(crate) const SILENCE: Duration = Duration::from_secs(45);

/// The two ends of a joined carrier.
#[derive(Clone, Copy)]
pub(crate) struct Beside {
    pub(crate) client: CarrierId,
    pub(crate) server: CarrierId,
}

impl Beside {
    pub(crate) fn at(self, side: Side) -> CarrierId {
        if side == Client { self.client } else { self.server }
    }
}

pub(crate) fn encode(transmits: impl IntoIterator<Item = Transmit>) -> Bytes {
    let bytes = transmits.into_iter().map(|transmit| wire::encode(&transmit));
    bytes.collect::<Vec<_>>().concat().into()
}

pub(crate) fn sent_on(tunnel: &mut Tunnel, now: Time, id: CarrierId) -> Vec<Transmit> {
    std::iter::from_fn(|| tunnel.poll_transmit(now, id)).collect()
}

/// Returns a carrier that stands by, and the server's acceptor of it.
pub(crate) fn standing_by(pair: &mut TestPair) -> (CarrierId, Acceptor) {
    standing_by_with(pair, StandbyConfig::default())
}

fn standing_by_with(pair: &mut TestPair, config: StandbyConfig) -> (CarrierId, Acceptor) {
    let now = pair.now;
    let tunnel = &mut pair.client.tunnel;
    let standby = tunnel.stand_by(now, config).unwrap();
    let mut acceptor = Acceptor::new(10);
    acceptor.handle_input(encode(sent_on(tunnel, now, standby)));
    assert!(matches!(acceptor.poll(), Ok(Progress::Standby(_))));
    acceptor.let_stand_by(now, SILENCE);
    let answer = encode(std::iter::from_fn(|| acceptor.poll_transmit()));
    tunnel.handle_input(now, standby, answer).unwrap();
    assert_eq!(tunnel.poll_event(), Some(Event::StandsBy(standby)));
    (standby, acceptor)
}

/// Lets one more carrier join.
pub(crate) fn join(pair: &mut TestPair) -> Beside {
    join_with(pair, StandbyConfig::default())
}

/// Lets one more carrier join, with settings of its own.
pub(crate) fn join_with(pair: &mut TestPair, config: StandbyConfig) -> Beside {
    let (client, mut acceptor) = standing_by_with(pair, config);
    let now = pair.now;
    pair.client.tunnel.join(now, client).unwrap();
    acceptor.handle_input(encode(sent_on(&mut pair.client.tunnel, now, client)));
    assert_eq!(acceptor.poll(), Ok(Progress::Join));
    let server = pair.server.tunnel.handle_join(acceptor.into_join().unwrap()).unwrap();
    let answer = encode(sent_on(&mut pair.server.tunnel, now, server));
    pair.client.tunnel.handle_input(now, client, answer).unwrap();
    Beside { client, server }
}

/// Returns an attached pair with a session that both know, and a joined carrier.
pub(crate) fn joined() -> (TestPair, SessionId, Beside) {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.drive();
    let beside = join(&mut pair);
    (pair, id, beside)
}

/// Returns the same as [`joined`], after the client's application has sent much.
pub(crate) fn joined_with_bulk() -> (TestPair, SessionId, Beside) {
    let (mut pair, id, beside) = joined();
    pair.write(Client, id, &[0; MAX_PAYLOAD * 3]);
    pair.drive();
    pair.server.socket(id).got.clear();
    (pair, id, beside)
}

impl TestPair {
    pub(crate) fn give_beside(
        &mut self,
        side: Side,
        beside: Beside,
        bytes: Bytes,
    ) -> Result<(), Violation> {
        let now = self.now;
        let tunnel = match side {
            Client => &mut self.client.tunnel,
            Server => &mut self.server.tunnel,
        };
        tunnel.handle_input(now, beside.at(side), bytes)
    }
}
