//! Announcements: a server's statements reach the client, again after each attach.

mod common;

use bytes::Bytes;
use common::{OnLead, TestPair, wire};
use eternaltcp_proto::{Announcement, Config, Event, Kind, MAX_CONTENT, Side, Topic, Violation};

/// Topics without a name in this version.
const FIRST: Topic = Topic::from_code(70);
const SECOND: Topic = Topic::from_code(71);

fn about(topic: Topic, content: &'static str) -> Announcement {
    Announcement { topic, content: Bytes::from_static(content.as_bytes()) }
}

/// Returns what the client was told since the last call.
fn told(pair: &mut TestPair) -> Vec<Announcement> {
    let events = std::mem::take(&mut pair.client.events);
    let told = events.into_iter().filter_map(|event| match event {
        Event::Announced(announcement) => Some(announcement),
        _ => None,
    });
    told.collect()
}

#[test]
fn a_statement_arrives_at_once_and_again_after_each_attach() {
    // [ANNOUNCE-2]
    let mut pair = TestPair::attached();
    pair.server.tunnel.announce(about(FIRST, "one"));
    pair.drive();
    assert_eq!(told(&mut pair), [about(FIRST, "one")]);
    // What has not changed is not repeated.
    pair.server.tunnel.announce(about(FIRST, "one"));
    pair.server.tunnel.announce(about(SECOND, "two"));
    pair.drive();
    assert_eq!(told(&mut pair), [about(SECOND, "two")]);
    pair.cut();
    pair.server.tunnel.announce(about(FIRST, "other"));
    pair.attach();
    assert_eq!(told(&mut pair), [about(FIRST, "other"), about(SECOND, "two")]);
}

#[test]
fn of_several_statements_about_a_topic_the_last_one_is_sent() {
    let mut pair = TestPair::attached();
    for content in ["one", "two", "three"] {
        pair.server.tunnel.announce(about(FIRST, content));
    }
    assert_eq!(pair.server.tunnel.words_waiting(), 1);
    pair.drive();
    assert_eq!(told(&mut pair), [about(FIRST, "three")]);
}

#[test]
fn a_statement_that_was_lost_with_its_carrier_is_made_on_the_next_one() {
    let mut pair = TestPair::attached();
    pair.lose(Side::Server);
    pair.server.tunnel.announce(about(FIRST, "lost"));
    pair.drive();
    assert_eq!(told(&mut pair), []);
    pair.cut();
    pair.attach();
    assert_eq!(told(&mut pair), [about(FIRST, "lost")]);
}

#[test]
fn a_client_without_the_feature_is_told_nothing() {
    // [ANNOUNCE-1]
    let old = Config { features: Config::default().features & !16, ..Config::default() };
    for (client, server) in [(old.clone(), Config::default()), (Config::default(), old)] {
        let mut pair = TestPair::with(client, server);
        pair.server.tunnel.announce(about(FIRST, "one"));
        pair.attach();
        pair.server.tunnel.announce(about(SECOND, "two"));
        pair.drive();
        assert_eq!(told(&mut pair), []);
        assert!(pair.log.iter().all(|(_, packet)| packet.header.kind != Kind::Announce));
    }
}

#[test]
fn a_statement_that_is_too_long_or_one_too_many_is_not_made() {
    let mut pair = TestPair::attached();
    let content = Bytes::from(vec![0; MAX_CONTENT + 1]);
    pair.server.tunnel.announce(Announcement { topic: FIRST, content });
    pair.drive();
    assert_eq!(told(&mut pair), []);
    let content = Bytes::from(vec![0; MAX_CONTENT]);
    for code in 0..20 {
        let (topic, content) = (Topic::from_code(code), content.clone());
        pair.server.tunnel.announce(Announcement { topic, content });
    }
    pair.drive();
    assert_eq!(told(&mut pair).len(), 16);
}

#[test]
fn an_announcement_out_of_place_ends_the_carrier() {
    // [ANNOUNCE-3]
    let packet = || wire::packet(Kind::Announce as u32, 0, 0, 0, &[9, 0, 0, 0, b'x']);
    let out = Err(Violation::OutOfPlace(Kind::Announce));
    let mut pair = TestPair::attached();
    let now = pair.now;
    assert_eq!(pair.server.tunnel.lead_input(now, packet()), out);
    assert_eq!(pair.client.tunnel.lead_input(now, packet()), Ok(()));
    assert_eq!(
        pair.client.tunnel.poll_event(),
        Some(Event::Announced(about(Topic::from_code(9), "x")))
    );
    let of_session = wire::packet(Kind::Announce as u32, 1, 0, 0, &[9, 0, 0, 0]);
    assert_eq!(pair.client.tunnel.lead_input(now, of_session), out);

    let old = Config { features: Config::default().features & !16, ..Config::default() };
    let mut pair = TestPair::with(old, Config::default());
    pair.attach();
    assert_eq!(pair.client.tunnel.lead_input(now, packet()), out);
}
