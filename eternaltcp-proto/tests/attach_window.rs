//! Events between a client's request and the server's answer are not lost, although the request has
//! already sent the numbers.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use bytes::Bytes;
use common::OnLead as _;
use eternaltcp_proto::{
    Acceptor, Config, Delivery, Instance, Intent, Kind, Progress, SessionId, Side, Time, Transmit,
    Tunnel, TunnelId,
};

const NOW: Time = Time::ZERO;
const LIMIT: u64 = 5000;

fn new_tunnel(side: Side) -> Tunnel {
    Tunnel::new(side, Config { session_limit: LIMIT, ..Config::default() })
}

fn transmits(tunnel: &mut Tunnel) -> Vec<Transmit> {
    std::iter::from_fn(|| tunnel.lead_transmit(NOW)).collect()
}

fn sent(tunnel: &mut Tunnel) -> Bytes {
    let packets = transmits(tunnel);
    let bytes = packets.iter().flat_map(|t| [&t.header.encode()[..], &t.payload].concat());
    bytes.collect::<Vec<u8>>().into()
}

fn request(client: &mut Tunnel) -> Bytes {
    let enrol = Bytes::from_static(b"key");
    client.attach(NOW, || Intent::New { enrol, instance: Instance::default() });
    sent(client)
}

fn answer(server: &mut Tunnel, request: Bytes) -> Bytes {
    let mut acceptor = Acceptor::new(10);
    acceptor.handle_input(request);
    while acceptor.poll().unwrap() != Progress::Complete {}
    let request = acceptor.into_request().unwrap();
    server.handle_attach(NOW, TunnelId([1; 16]), request).unwrap();
    sent(server)
}

/// Returns a session in which a whole limit waits at the client for its socket.
fn a_full_session() -> (Tunnel, Tunnel, SessionId) {
    let (mut client, mut server) = (new_tunnel(Side::Client), new_tunnel(Side::Server));
    let whole_answer = {
        let request = request(&mut client);
        answer(&mut server, request)
    };
    client.lead_input(NOW, whole_answer).unwrap();
    let id = client.open(Bytes::from_static(b"target")).unwrap();
    server.lead_input(NOW, sent(&mut client)).unwrap();
    server.accept(NOW, id);
    server.write(NOW, id, vec![7; 4 * LIMIT as usize].into());
    client.lead_input(NOW, sent(&mut server)).unwrap();
    (client, server, id)
}

fn deliver_all(client: &mut Tunnel, id: SessionId) {
    while let Delivery::Data(data) = client.delivery(id) {
        let count = data.len();
        client.delivered(NOW, id, count);
    }
}

#[test]
fn a_limit_raised_before_the_answer_is_advertised_after_it() {
    let (mut client, mut server, id) = a_full_session();
    let request = request(&mut client);
    deliver_all(&mut client, id);
    let answer = answer(&mut server, request);
    client.lead_input(NOW, answer).unwrap();
    let advertised =
        transmits(&mut client).into_iter().find(|t| t.header.kind == Kind::Limit).unwrap();
    assert_eq!(advertised.payload[..], (2 * LIMIT).to_le_bytes());
}

#[test]
fn a_session_that_ends_before_the_answer_is_confirmed_after_it() {
    let (mut client, mut server, id) = a_full_session();
    client.finish(NOW, id);
    server.lead_input(NOW, sent(&mut client)).unwrap();
    server.delivered_ending(NOW, id);
    deliver_all(&mut client, id);
    let whole = |from: &mut Tunnel, to: &mut Tunnel, later: Time| {
        from.handle_timeout(later);
        to.lead_input(later, sent(from)).unwrap();
    };
    let mut later = NOW;
    for _ in 0..20 {
        later = later + std::time::Duration::from_millis(100);
        whole(&mut client, &mut server, later);
        whole(&mut server, &mut client, later);
        server.finish(NOW, id);
        if client.delivery(id) != Delivery::End {
            deliver_all(&mut client, id);
        }
    }
    assert_eq!(client.delivery(id), Delivery::End);

    let request = request(&mut client);
    client.delivered_ending(NOW, id);
    let answer = answer(&mut server, request);
    client.lead_input(later, answer).unwrap();
    assert_eq!(sent(&mut client).len(), 0, "it waits to be coalesced");
    let (at, _) = client.poll_timeout().unwrap();
    whole(&mut client, &mut server, at);
    assert_eq!((client.session_count(), server.session_count()), (0, 0));
}
