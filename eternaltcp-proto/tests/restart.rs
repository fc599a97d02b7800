//! Programs that die: another one continues with the stored state, without received data that was not
//! delivered.

#![allow(clippy::unwrap_used, reason = "helpers of a test may panic as the test may")]

mod common;

use common::OnLead as _;

use bytes::Bytes;
use common::wire::{self, WireHello, packet};
use common::{TUNNEL, TestPair, pattern, transmits};
use eternaltcp_proto::{
    Acceptor, Cause, Config, Delivery, Digest, Kind, Progress, SessionId, Side, Time, Transmit,
    Tunnel,
};

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

/// Changes a field or the payload of a packet in transit.
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

/// [ATTACH-10] The server holds data and the reset behind them for a slow application when an attach
/// shows the client that the digests differ, and it drops the data. Then the server's program dies
/// and forgets both. The reset that comes again says why the data do not.
#[test]
fn a_reset_that_comes_again_without_its_data_says_why_they_are_missing() {
    let mut pair = TestPair::attached();
    pair.server.takes = 0;
    let (id, other) = (pair.session(), pair.session());
    pair.write(Client, id, &pattern(5000));
    pair.drive();
    pair.reset(Client, id);
    pair.drive();
    pair.cut();
    pair.tamper = Some(tamper_with_digest);
    pair.attach();
    pair.tamper = None;
    let expected = Some(Cause::Application);
    let waiting = pair.server.tunnel.pending_reset(id).map(|reset| reset.cause);
    assert_eq!(waiting, expected, "nothing follows the reset that is there");
    for _ in 0..2 {
        restart(&mut pair, Client, 0);
        restart(&mut pair, Server, 0);
    }
    pair.attach();
    assert_eq!(pair.server.socket(id).got, b"");
    assert_eq!(pair.server.socket(id).cause(), Some(Cause::Corrupt));
    assert_eq!(pair.client.tunnel.session_count(), 1);
    pair.server.socket(other).takes = usize::MAX;
    pair.check_echo(other);
}

/// The server's program, and a peer made by hand that has opened session 1.
struct ServerUnderTest(Tunnel);

impl ServerUnderTest {
    const NOW: Time = Time::ZERO;

    /// Attaches the peer's next carrier, on which it states these numbers of the session.
    fn attach(&mut self, epoch: u64, numbers: Option<Bytes>) {
        let mut acceptor = Acceptor::new(10);
        acceptor.handle_input(WireHello::resume(epoch, TUNNEL.0).packet());
        let count = numbers.iter().len() as u32;
        numbers.into_iter().for_each(|numbers| acceptor.handle_input(numbers));
        acceptor.handle_input(wire::numbers_end(count));
        while let Progress::Hello(_) = acceptor.poll().unwrap() {}
        let request = acceptor.into_request().unwrap();
        self.0.handle_attach(Self::NOW, TUNNEL, request).unwrap();
    }

    /// Handles a packet of the session. Returns the numbered packets that are sent then.
    fn take(&mut self, kind: u32, seq: u32, ack: u32, payload: &[u8]) -> Vec<(Kind, u32)> {
        self.0.lead_input(Self::NOW, packet(kind, 1, seq, ack, payload)).unwrap();
        let sent = transmits(&mut self.0, Self::NOW);
        let numbered = sent.iter().filter(|it| it.header.kind.is_numbered());
        numbered.map(|it| (it.header.kind, it.header.seq.get())).collect()
    }

    /// Delivers to the local socket everything that it may take. Returns the cause of its reset.
    fn serve(&mut self, id: SessionId) -> Option<Cause> {
        loop {
            match self.0.delivery(id) {
                Delivery::Nothing => return None,
                Delivery::Data(data) => {
                    let count = data.len();
                    self.0.delivered(Self::NOW, id, count);
                }
                Delivery::End => self.0.delivered_ending(Self::NOW, id),
                Delivery::Reset(reset) => {
                    let cause = reset.cause;
                    self.0.delivered_ending(Self::NOW, id);
                    return Some(cause);
                }
            }
        }
    }

    /// Lets the process die, and another one continue.
    fn restart(&mut self) {
        let (state, sessions) = self.0.export();
        self.0 = Tunnel::restore(Config::default(), state, sessions).unwrap();
    }
}

/// [RESET-5] The server's program dies after it has answered a reset that waited behind data and an
/// end of stream. The end comes again before the reset does, and may be all that comes before the
/// program dies once more, or before the peer forgets the session.
#[test]
fn a_session_whose_reset_was_answered_and_forgotten_waits_for_it_to_come_again() {
    let id = SessionId::new(1).unwrap();
    let numbers = || Some(wire::numbers(1, 3, 3, 0, 1 << 18));
    for (dies_behind_end, is_forgotten_there) in
        [(false, false), (true, false), (false, true), (true, true)]
    {
        let mut server = ServerUnderTest(Tunnel::new(Server, Config::default()));
        let digest = Digest::default().after(b"data").get().to_le_bytes();
        server.attach(1, None);
        server.take(wire::OPEN, 0, 0, b"\0");
        server.0.accept(ServerUnderTest::NOW, id);
        server.0.write(ServerUnderTest::NOW, id, pattern(100));
        assert_eq!(server.take(wire::DATA, 1, 0, b"data"), [(Kind::Opened, 0), (Kind::Data, 1)]);
        server.take(wire::END, 2, 2, &digest);
        let killed = wire::reset(Cause::Killed.code());
        assert_eq!(server.take(wire::RESET, 3, 2, &killed), [(Kind::Reset, 2)]);
        server.take(wire::ACK, 0, 3, b"");
        server.restart();

        server.attach(2, numbers());
        server.take(wire::DATA, 1, 3, b"data");
        server.take(wire::END, 2, 3, &digest);
        assert_eq!(server.serve(id), None, "the data and the end");
        assert_eq!(server.0.session_count(), 1, "the reset is still to come");
        if dies_behind_end {
            server.restart();
        }
        if is_forgotten_there {
            server.attach(3, None);
            assert_eq!(server.serve(id), Some(Cause::Unresumable));
        } else {
            if dies_behind_end {
                server.attach(3, numbers());
            }
            server.take(wire::RESET, 3, 3, &killed);
            assert_eq!(server.serve(id), Some(Cause::Killed));
        }
        assert_eq!(server.0.session_count(), 0);
    }
}
