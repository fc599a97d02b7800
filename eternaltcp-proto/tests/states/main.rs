//! The states of a session, each with every event. They are found by trying all events in all
//! states that are reached, and kept as tables in `snapshots/`.
//!
//! A state is what is visible from outside: the harness is one tunnel of the server, a peer made by
//! the test, and probes that are discarded after use.

#[path = "../common/mod.rs"]
mod common;
mod machine;
mod world;

use std::path::Path;

use common::files::snapshot;
use eternaltcp_proto::{Cause, Delivery, Kind};

use machine::{GONE, Machine, OVER};
use world::{Applied, StateWorld};

// -- How a state is shown.

/// Returns the packets that the sending direction has sent, and those that a peer which
/// acknowledges everything will still receive.
fn send_state(mut world: StateWorld) -> String {
    if !world.exists() {
        return GONE.into();
    }
    let last = world.sent.last().map(|(kind, _)| *kind);
    let is_acked = world.acked == world.sent.len();
    let suffix = if is_acked { ", acknowledged" } else { "" };
    world.fresh.clear();
    while world.receive_ack() == Ok(Applied::Yes) {}
    let waits = world.fresh.contains(&Kind::Data);
    let ending = world.fresh.iter().find(|kind| matches!(kind, Kind::End | Kind::Reset));
    match (last, ending) {
        (Some(Kind::Reset), _) => format!("reset sent{suffix}"),
        (_, Some(Kind::Reset)) => "reset waits behind data".into(),
        (Some(Kind::End), _) => format!("end sent{suffix}"),
        (_, Some(Kind::End)) => "end waits behind data".into(),
        _ if waits => "open, data wait for room".into(),
        _ if is_acked => "open".into(),
        _ => "open, data sent".into(),
    }
}

/// Returns the data that the local socket is given, and the units that the peer may still send.
fn receive_state(mut world: StateWorld) -> String {
    if !world.exists() {
        return GONE.into();
    }
    let (tunnel, id) = (&world.tunnel, world.id);
    let is_reset_pending = tunnel.pending_reset(id).is_some();
    let delivery = match tunnel.delivery(id) {
        Delivery::Data(_) if is_reset_pending => "reset waits behind data",
        Delivery::Reset(reset) if reset.cause == Cause::Corrupt => "own reset waits",
        Delivery::Reset(_) => "reset waits",
        Delivery::End => "end waits",
        Delivery::Data(_) => "data wait",
        Delivery::Nothing => "",
    };
    let takes_data = world.receive_data().is_ok();
    let state = match (delivery, takes_data) {
        ("data wait", false) => "end waits behind data",
        ("", true) if world.is_socket_gone => "dropping",
        ("", true) => "open",
        ("", false) if world.is_reset_received => "reset",
        ("", false) if world.is_socket_gone => "ended, dropping",
        ("", false) => "ended",
        (delivery, _) => delivery,
    };
    state.into()
}

/// Returns the progress of the opening.
fn opening_state(world: StateWorld) -> String {
    let (tunnel, id) = (&world.tunnel, world.id);
    let is_over = tunnel.capacity(id) == 0 && tunnel.offered_target(id).is_none();
    if !world.exists() {
        GONE.into()
    } else if is_over {
        OVER.into()
    } else if tunnel.offered_target(id).is_some() {
        "offered".into()
    } else if tunnel.is_established(id) {
        "established".into()
    } else if !tunnel.is_transmitted(id) {
        "asked, not sent".into()
    } else if world.acked == 0 {
        "asked".into()
    } else {
        "asked, acknowledged".into()
    }
}

// -- The tables.

fn check(name: &str, machine: &Machine) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    snapshot(&folder.join(name), &machine.explore());
}

#[test]
fn the_sending_direction_does_what_its_table_says() {
    check(
        "send.md",
        &Machine {
            title: "The sending direction of a session",
            starts: &[StateWorld::accepted],
            events: &[
                ("socket gives data", StateWorld::write),
                ("socket ends", StateWorld::finish),
                ("socket is reset", StateWorld::reset),
                ("all is acknowledged", StateWorld::receive_ack),
                ("`reset` comes", StateWorld::receive_reset),
                ("5 s pass", StateWorld::wait),
                ("attach, nothing received", StateWorld::reattach),
            ],
            state: send_state,
        },
    );
}

#[test]
fn the_receiving_direction_does_what_its_table_says() {
    check(
        "receive.md",
        &Machine {
            title: "The receiving direction of a session",
            starts: &[StateWorld::accepted],
            events: &[
                ("`data` comes", StateWorld::receive_data),
                ("`end` comes", StateWorld::receive_end),
                ("`end` with another digest comes", StateWorld::receive_wrong_end),
                ("`reset` comes", StateWorld::receive_reset),
                ("`opened` comes", StateWorld::receive_opened),
                ("socket takes what is next", StateWorld::take),
                ("socket is reset", StateWorld::reset),
                ("attach", StateWorld::reattach),
            ],
            state: receive_state,
        },
    );
}

#[test]
fn the_opening_does_what_its_table_says() {
    check(
        "opening.md",
        &Machine {
            title: "The opening of a session",
            starts: &[StateWorld::asked, StateWorld::offered],
            events: &[
                ("attach, not listed", StateWorld::reattach_unlisted),
                ("`open` is acknowledged", StateWorld::receive_ack),
                ("`opened` comes", StateWorld::receive_opened),
                ("`data` comes", StateWorld::receive_data),
                ("`reset` comes", StateWorld::receive_reset),
                ("target is connected", StateWorld::accept),
                ("socket gives data", StateWorld::write),
                ("socket is reset", StateWorld::reset),
            ],
            state: opening_state,
        },
    );
}
