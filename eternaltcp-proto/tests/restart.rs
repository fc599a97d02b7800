//! Programs that die: another one goes on with the stored state, without received data that was not
//! delivered.

mod common;

use common::{TestPair, pattern};
use eternaltcp_proto::{Cause, Config, Kind, Side, Transmit, Tunnel};

use Side::{Client, Server};

/// Kills the program of one side and starts another one. Data that was received and not delivered is
/// lost. `surplus` is the amount of data that its sockets have taken beyond the recorded count.
fn restart(pair: &mut TestPair, side: Side, surplus: u64) {
    pair.cut();
    let tunnel = match side {
        Client => &mut pair.client.tunnel,
        Server => &mut pair.server.tunnel,
    };
    let (state, mut sessions) = tunnel.export();
    sessions.iter_mut().for_each(|session| session.surplus += surplus);
    let restored = Tunnel::restore(Config::default(), state, sessions);
    *tunnel = restored.expect("what was exported can be restored");
}

/// Data that a socket took before its proxy died is not given to it again.
#[test]
fn data_that_a_socket_took_before_its_program_died_is_skipped_in_the_replay() {
    for surplus in [0, 1, 4900, 4901, 9900, 14_900] {
        let mut pair = TestPair::attached();
        pair.server.takes = 100;
        let id = pair.session();
        for part in [0, 5000, 10_000] {
            pair.write(Client, id, &pattern(15_000)[part..part + 5000]);
            pair.drive();
        }
        restart(&mut pair, Server, surplus);
        restart(&mut pair, Server, 0);
        pair.server.socket(id).takes = usize::MAX;
        pair.attach();
        assert_eq!(pair.server.socket(id).got.len() as u64, 15_000 - surplus);
        assert_eq!(pair.server.socket(id).got[100..], pattern(15_000)[100 + surplus as usize..]);
        assert_eq!(pair.client.tunnel.held(), 0, "all was acknowledged");
        pair.end_both(id);
    }
}

/// Changes something of a packet.
type Tamper = fn(Side, &mut Transmit);

/// Changes a byte of the data packets of session 1.
fn tamper_with_data<const PLACE: usize>(side: Side, transmit: &mut Transmit) {
    let is_data = transmit.header.kind == Kind::Data && transmit.header.session == 1;
    if side == Client && is_data {
        let mut payload = transmit.payload.to_vec();
        payload[PLACE] ^= 1;
        transmit.payload = payload.into();
    }
}

/// A socket took a part of a packet that was damaged. The program died, and the packet is replayed
/// undamaged: its digest is right, and the bytes that the socket got are not.
#[test]
fn a_packet_that_comes_again_is_compared_with_what_the_socket_took_of_it() {
    let cases: [(Tamper, _); 2] =
        [(tamper_with_data::<50>, Some(Cause::Corrupt)), (tamper_with_data::<100>, None)];
    for (tamper, cause) in cases {
        let mut pair = TestPair::attached();
        pair.server.takes = 100;
        let id = pair.session();
        pair.tamper = Some(tamper);
        pair.write(Client, id, &pattern(5000));
        pair.drive();
        pair.tamper = None;
        restart(&mut pair, Server, 0);
        restart(&mut pair, Server, 0);
        pair.server.socket(id).takes = usize::MAX;
        pair.attach();
        assert_eq!(pair.server.socket(id).cause(), cause);
        assert_eq!(pair.client.socket(id).cause(), cause);
        if cause.is_none() {
            assert_eq!(pair.server.socket(id).got, pattern(5000));
        }
    }
}

/// Damages the digests of the data of session 1 that the server has delivered.
fn tamper_with_digest(side: Side, transmit: &mut Transmit) {
    if side == Server && transmit.header.kind == Kind::Numbers && transmit.header.session == 1 {
        transmit.payload = [&[7; 8], &transmit.payload[8..]].concat().into();
    }
}

/// [RESET-4] The server holds data for a slow application when the client drops them and
/// resets; then its program dies, with the reset or before it came.
#[test]
fn a_reset_behind_dropped_data_comes_where_a_peer_goes_on_that_has_forgotten_them() {
    for has_reset in [false, true] {
        let mut pair = TestPair::attached();
        pair.server.takes = 0;
        let (id, other) = (pair.session(), pair.session());
        pair.write(Client, id, &pattern(5000));
        pair.drive();
        pair.cut();
        pair.tamper = Some(tamper_with_digest);
        pair.begin_attach();
        pair.flush();
        pair.run_for(common::ONE_WAY * if has_reset { 10 } else { 2 });
        pair.tamper = None;
        restart(&mut pair, Server, 0);
        pair.attach();
        assert_eq!(pair.client.socket(id).cause(), Some(Cause::Corrupt));
        assert_eq!(pair.server.socket(id).cause(), Some(Cause::Corrupt));
        assert_eq!(pair.client.tunnel.session_count(), 1);
        pair.server.socket(other).takes = usize::MAX;
        pair.check_echo(other);
    }
}
