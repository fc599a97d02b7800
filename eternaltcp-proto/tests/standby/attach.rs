//! Attaches on a carrier that stood by.

use super::*;

/// [STANDBY-3]
#[test]
fn an_attach_after_many_heartbeats_goes_on_as_on_a_new_carrier() {
    let mut world = StandbyWorld::ready();
    let id = world.pair.session();
    world.pair.write(Client, id, b"before ");
    world.client().detach();
    world.pair.flush();
    world.run_for(SECOND * 100);
    world.pair.cut();
    world.pair.write(Client, id, b"after");
    let mut pair = world.attach(&[]).unwrap();
    pair.drive();
    assert_eq!(pair.server.socket(id).got, b"before after");
    pair.check_usable();
}

/// [STANDBY-6]
#[test]
fn an_echo_that_is_under_way_may_come_before_the_answer() {
    let mut world = StandbyWorld::alone();
    world.beat();
    world.pair.cut();
    let mut pair = world.attach(&echo(0)).unwrap();
    pair.check_usable();
}

/// [STANDBY-6]
#[test]
fn a_partly_received_echo_is_not_lost() {
    for cut in 1..20 {
        let mut world = StandbyWorld::alone();
        world.beat();
        let (head, tail) = (echo(0).slice(..cut), echo(0).slice(cut..));
        world.hear(head).unwrap();
        let mut pair = world.attach(&tail).unwrap();
        pair.check_usable();
    }
}

/// [STANDBY-6]
#[test]
fn an_echo_that_nothing_asked_for_ends_the_carrier() {
    let out = Violation::OutOfPlace(Kind::Echo);
    let asked = || {
        let mut world = StandbyWorld::alone();
        world.beat();
        world
    };
    assert_eq!(StandbyWorld::ready().attach(&echo(0)).err(), Some(out.clone()), "of no heartbeat");
    assert_eq!(asked().attach(&echo(1)).err(), Some(out.clone()), "of another");
    let twice = [echo(0), echo(0)].concat();
    assert_eq!(asked().attach(&twice).err(), Some(out.clone()), "twice");
    let of_session = packet(wire::ECHO, 1, 0, 0, b"");
    assert_eq!(asked().attach(&of_session).err(), Some(out.clone()), "of a session");
    let mut unsent = StandbyWorld::ready();
    unsent.probe();
    assert_eq!(unsent.attach(&echo(0)).err(), Some(out), "of one that never went");
}

/// [STANDBY-6] A carrier that never stood by has no echo that may still come.
#[test]
fn an_echo_on_a_new_carrier_ends_it() {
    let mut pair = TestPair::attached();
    pair.client.tunnel.attach(pair.now, new_tunnel);
    let result = pair.client.tunnel.lead_input(pair.now, echo(0));
    assert_eq!(result, Err(Violation::OutOfPlace(Kind::Echo)));
}

/// [STANDBY-3]
#[test]
fn an_attach_for_another_tunnel_ends_it() {
    let other = TunnelId([1; 16]);
    for hello in [WireHello::resume(2, other.0), WireHello::new_tunnel(2)] {
        let mut world = StandbyWorld::ready();
        world.acceptor.handle_input(hello.packet());
        let error = Violation::OutOfPlace(Kind::Attach);
        assert_eq!(world.acceptor.poll(), Err(AcceptError::Violation(error)));
    }
}
