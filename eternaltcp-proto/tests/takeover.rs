//! Takeover: the next attach on a carrier that the tunnel has, and the other carriers, which stay
//! open.

#![allow(clippy::unwrap_used, reason = "helpers of a test may panic as the test may")]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::TestPair;
use common::beside::{Beside, encode, join, sent_on};
use common::wire::{self, packet};
use eternaltcp_proto::{
    Config, Event, FEATURE_TAKEOVER, HEADER_LEN, Kind, MAX_PAYLOAD, SessionId, Side, Suspicion,
    Transmit, Violation,
};

use Side::{Client, Server};

/// Returns a pair with a session that both know, and two joined carriers.
fn two_joined() -> (TestPair, SessionId, [Beside; 2]) {
    let mut pair = TestPair::attached();
    let id = pair.session();
    pair.drive();
    let joined = [join(&mut pair), join(&mut pair)];
    (pair, id, joined)
}

fn bytes(length: usize) -> Vec<u8> {
    (0..=255).cycle().take(length).collect()
}

impl TestPair {
    /// Ends the lead with everything in flight, and tells both sides.
    fn lose_lead(&mut self) {
        self.forget_flying();
        for side in [Client, Server] {
            let tunnel = &mut self.peer(side).tunnel;
            let lead = tunnel.lead().unwrap();
            tunnel.handle_lost(lead);
            assert!(!tunnel.is_attached());
        }
    }

    fn say(&mut self, from: Side, beside: Beside) -> Vec<Transmit> {
        let now = self.now;
        sent_on(&mut self.peer(from).tunnel, now, beside.at(from))
    }

    /// Passes on everything that both sides have for a carrier.
    fn exchange(&mut self, beside: Beside) {
        loop {
            let sent = [Client, Server].map(|side| (side, self.say(side, beside)));
            if sent.iter().all(|(_, sent)| sent.is_empty()) {
                return;
            }
            for (side, sent) in sent {
                let to = if side == Client { Server } else { Client };
                self.give_beside(to, beside, encode(sent)).unwrap();
                let now = self.now;
                self.peer(to).handle_events(now);
            }
        }
    }

    /// Lets a carrier take over, up to the server's answer.
    fn take_over(&mut self, beside: Beside) {
        self.forget_flying();
        let now = self.now;
        self.client.tunnel.take_over(now, beside.client).unwrap();
        self.exchange(beside);
        for side in [Client, Server] {
            let tunnel = &self.peer(side).tunnel;
            assert!(tunnel.is_attached() && tunnel.lead() == Some(beside.at(side)), "{side:?}");
        }
    }
}

/// [JOIN-7] [JOIN-8] [JOIN-9]
#[test]
fn when_the_lead_ends_a_joined_carrier_takes_over_and_the_others_stay() {
    let (mut pair, id, [first, second]) = two_joined();
    pair.client.tunnel.write(pair.now, id, bytes(MAX_PAYLOAD * 6).into());
    let mut lost = Vec::new();
    for beside in [first, second] {
        let now = pair.now;
        let sent = pair.client.tunnel.poll_transmit(now, beside.client).unwrap();
        lost.push((beside, encode([sent])));
    }
    pair.lose_lead();
    assert_eq!(pair.client.tunnel.joined_count(), 2);
    assert_eq!(pair.server.tunnel.joined_count(), 2);
    assert_eq!(pair.say(Client, second).len(), 0, "no data before it has joined again");
    assert!([first.client, second.client].map(Some).contains(&pair.client.tunnel.successor()));
    // Packets that were sent before are still on their way.
    let (_, before) = lost.remove(0);
    pair.give_beside(Server, first, before).unwrap();
    pair.take_over(first);
    let (_, before) = lost.remove(0);
    pair.give_beside(Server, second, before).unwrap();
    pair.exchange(second);
    pair.client.tunnel.write(pair.now, id, bytes(MAX_PAYLOAD * 4).into());
    let sent = pair.client.tunnel.poll_transmit(pair.now, second.client).unwrap();
    assert_eq!(sent.header.kind, Kind::Data, "it carries data again");
    pair.give_beside(Server, second, encode([sent])).unwrap();
    pair.exchange(first);
    pair.exchange(second);
    pair.drive();
    let expected = [bytes(MAX_PAYLOAD * 6), bytes(MAX_PAYLOAD * 4)].concat();
    assert_eq!(pair.server.socket(id).got, expected);
    assert_eq!(pair.client.tunnel.stats().takeovers, 1);
    assert_eq!(pair.client.tunnel.joined_count(), 1);
    pair.check_usable();
}

/// [JOIN-6]
#[test]
fn a_peer_without_takeover_loses_all_carriers_with_one() {
    for side in [Client, Server] {
        let old = Config { features: !FEATURE_TAKEOVER, ..Config::default() };
        let (client, server) = match side {
            Client => (old, Config::default()),
            Server => (Config::default(), old),
        };
        let mut pair = TestPair::with(client, server);
        pair.attach();
        pair.session();
        let beside = join(&mut pair);
        pair.client.tunnel.handle_lost(beside.client);
        pair.server.tunnel.handle_lost(beside.server);
        for tunnel in [&pair.client.tunnel, &pair.server.tunnel] {
            assert!(tunnel.lead().is_none() && tunnel.joined_count() == 0);
            assert_eq!(tunnel.successor(), None);
        }
    }
}

/// [JOIN-7]
#[test]
fn a_server_that_loses_a_joined_carrier_ends_the_lead_and_keeps_the_others() {
    let (mut pair, _, [first, second]) = two_joined();
    pair.server.tunnel.handle_lost(first.server);
    assert!(pair.server.tunnel.lead().is_none());
    assert!(pair.server.tunnel.has_carrier(second.server));
    let late = packet(wire::DATA, 1, 99, 0, b"of the old attach");
    pair.give_beside(Server, second, late).unwrap();
    assert_eq!(pair.server.tunnel.held(), 0);
}

/// [JOIN-7] [JOIN-8] The lead lives: it is attached again, without a handshake.
#[test]
fn when_a_joined_carrier_ends_the_lead_is_attached_again_and_the_others_stay() {
    let (mut pair, id, [first, second]) = two_joined();
    let now = pair.now;
    let lead = Beside {
        client: pair.client.tunnel.lead().unwrap(),
        server: pair.server.tunnel.lead().unwrap(),
    };
    pair.client.tunnel.write(now, id, bytes(MAX_PAYLOAD * 5).into());
    let lost = pair.client.tunnel.poll_transmit(now, first.client).unwrap();
    assert_eq!(lost.header.kind, Kind::Data);
    let held = pair.client.tunnel.poll_transmit(now, lead.client).unwrap();
    pair.client.tunnel.handle_lost(first.client);
    assert_eq!(pair.client.tunnel.successor(), Some(lead.client));
    let late = packet(wire::ACK, id.get(), 0, 1, b"");
    pair.give_beside(Client, lead, late).unwrap();
    pair.give_beside(Server, lead, encode([held])).unwrap();
    pair.take_over(lead);
    pair.exchange(second);
    pair.exchange(lead);
    assert_eq!(pair.server.socket(id).got, bytes(MAX_PAYLOAD * 5));
    assert_eq!(pair.client.tunnel.joined_count(), 1);
    pair.check_usable();
}

/// [JOIN-9]
#[test]
fn a_join_that_overtakes_its_attach_is_answered_after_it() {
    let (mut pair, _, [first, second]) = two_joined();
    pair.lose_lead();
    let now = pair.now;
    pair.client.tunnel.take_over(now, first.client).unwrap();
    let asked = pair.say(Client, second);
    assert_eq!(asked[0].header.kind, Kind::Join);
    pair.give_beside(Server, second, encode(asked)).unwrap();
    assert!(pair.say(Server, second).is_empty(), "the attach has not come");
    pair.exchange(first);
    let answer = pair.say(Server, second);
    assert_eq!(answer[0].header.kind, Kind::Join);
    pair.give_beside(Client, second, encode(answer)).unwrap();
    pair.check_usable();
}

/// [JOIN-8] [JOIN-9] A full carrier holds the server's answer to a join back. Meanwhile another attach
/// follows on the lead, with the next join on the full carrier, or on the full carrier itself.
#[test]
fn a_join_whose_answer_is_still_due_may_be_followed_by_another_request() {
    for is_attached_there in [false, true] {
        let (mut pair, id, [first, second]) = two_joined();
        let third = join(&mut pair);
        pair.lose_lead();
        let now = pair.now;
        pair.client.tunnel.take_over(now, first.client).unwrap();
        let asked = pair.say(Client, second);
        pair.exchange(first);
        assert!(pair.client.tunnel.is_attached());
        pair.give_beside(Server, second, encode(asked)).unwrap();
        let (lost, lead) = match is_attached_there {
            true => (first, second),
            false => (third, first),
        };
        pair.client.tunnel.handle_lost(lost.client);
        pair.forget_flying();
        pair.client.tunnel.take_over(now, lead.client).unwrap();
        let asked = pair.say(Client, second);
        let kind = if is_attached_there { Kind::Attach } else { Kind::Join };
        assert_eq!(asked[0].header.kind, kind);
        pair.give_beside(Server, second, encode(asked)).unwrap();
        pair.exchange(lead);
        pair.exchange(second);
        assert_eq!(pair.server.tunnel.lead(), Some(lead.server));
        assert_eq!(pair.client.tunnel.joined_count(), 1);
        pair.check_echo(id);
        pair.check_usable();
    }
}

/// [JOIN-8] [JOIN-9] The first that takes over dies, too. Late packets of its attach change nothing.
#[test]
fn a_request_that_a_later_one_has_overtaken_ends_its_carrier_and_nothing_else() {
    let (mut pair, id, [first, second]) = two_joined();
    pair.lose_lead();
    let now = pair.now;
    pair.client.tunnel.take_over(now, first.client).unwrap();
    let request = pair.say(Client, first);
    let join = pair.say(Client, second);
    pair.client.tunnel.handle_lost(first.client);
    assert_eq!(pair.client.tunnel.successor(), Some(second.client));
    pair.give_beside(Server, second, encode(join)).unwrap();
    pair.take_over(second);
    pair.give_beside(Server, first, encode(request)).unwrap();
    assert!(!pair.server.tunnel.has_carrier(first.server));
    assert!(pair.server.tunnel.is_attached());
    pair.check_echo(id);
}

/// [JOIN-8]
#[test]
fn an_attach_of_an_old_epoch_or_another_tunnel_on_a_carrier_with_data_is_a_violation() {
    for change in [0, 1] {
        let (mut pair, _, [first, second]) = two_joined();
        pair.lose_lead();
        let now = pair.now;
        pair.client.tunnel.take_over(now, first.client).unwrap();
        let request = pair.say(Client, first);
        pair.exchange(first);
        let mut bytes = encode(request).to_vec();
        if change == 1 {
            // The last byte of the tunnel's id, with which the hello ends.
            let hello = HEADER_LEN + u32::from_le_bytes(bytes[16..20].try_into().unwrap()) as usize;
            bytes[hello - 1] ^= 1;
        }
        pair.give_beside(Server, first, Bytes::from(bytes.clone())).ok();
        let result = pair.give_beside(Server, second, bytes.into());
        let is_violation = result == Err(Violation::OutOfPlace(Kind::Attach));
        assert!(is_violation || !pair.server.tunnel.has_carrier(second.server));
    }
}

/// A doubt about the lead is settled by a carrier that was heard since, and by no other.
#[test]
fn a_doubted_lead_is_left_for_a_carrier_that_was_heard_since() {
    let (mut pair, id, [first, second]) = two_joined();
    pair.client.tunnel.write(pair.now, id, Bytes::from_static(b"x"));
    pair.lose(Client);
    pair.flush();
    let asked = pair.now + pair.client.tunnel.config().heartbeat;
    pair.sleep(pair.client.tunnel.config().heartbeat);
    pair.client.tunnel.handle_timeout(asked);
    pair.flush();
    let doubted = asked + Duration::from_millis(250);
    pair.sleep(Duration::from_millis(250));
    pair.exchange(first);
    pair.exchange(second);
    pair.client.tunnel.handle_timeout(doubted);
    assert_eq!(pair.client.tunnel.suspicion(), Some(Suspicion::Path));
    assert_eq!(pair.client.tunnel.successor(), None, "nothing was heard since");
    pair.sleep(Duration::from_millis(20));
    pair.exchange(second);
    assert_eq!(pair.client.tunnel.successor(), Some(second.client));
    pair.take_over(second);
    pair.exchange(first);
    pair.exchange(second);
    assert_eq!(pair.server.socket(id).got, b"x");
    let events: Vec<_> = pair.client.events.iter().filter(|it| **it == Event::Relieved).collect();
    assert!(events.is_empty(), "{events:?}");
}
