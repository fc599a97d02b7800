//! The end of a stream and a reset, by either side, while there is no path: they arrive unchanged,
//! after the data before them, once there is a path again.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use etcp_testkit::checked::{Pattern, read_to_end};
use etcp_testkit::{Direction, WorldSite, fault::SILENCE, skip};

/// The data that are sent before the end, while the path is dead.
const LAST_WORDS: usize = 16 * 1024;

/// A site whose sessions end in an outage.
struct HalfCloseFixture(WorldSite);

/// The two ends of an established session: the one that ends it in the outage, and the one that
/// must notice.
struct Ends {
    active: TcpStream,
    passive: TcpStream,
}

#[derive(Clone, Copy)]
enum ClosingSide {
    Client,
    Server,
}

impl HalfCloseFixture {
    fn new() -> Self {
        Self(WorldSite::new())
    }

    /// Opens a session, and passes something each way.
    fn session(&self, active: ClosingSide) -> Ends {
        let [mut client, mut server] = self.0.session();
        let mut byte = [0];
        client.write_all(b"?").expect("the session is up");
        server.read_exact(&mut byte).expect("the session is up");
        server.write_all(b"!").expect("the session is up");
        client.read_exact(&mut byte).expect("the session is up");
        match active {
            ClosingSide::Client => Ends { active: client, passive: server },
            ClosingSide::Server => Ends { active: server, passive: client },
        }
    }

    /// Does `work` while nothing passes, and then lets the client attach again from its other
    /// uplink.
    fn in_outage(&mut self, work: impl FnOnce()) {
        let before = self.0.pair.attached_again();
        self.0.world.router.blackhole(Direction::Both);
        work();
        std::thread::sleep(SILENCE);
        self.0.world.use_uplink(self.0.world.other_uplink());
        self.0.world.router.lift_blackhole();
        self.0.pair.wait_attached_again(before);
    }
}

fn half_close(side: ClosingSide) {
    let mut setting = HalfCloseFixture::new();
    let Ends { mut active, mut passive } = setting.session(side);
    let (words, answer) = (Pattern(1).bytes(0, LAST_WORDS), Pattern(2).bytes(0, LAST_WORDS));
    setting.in_outage(|| {
        active.write_all(&words).expect("the proxy takes it");
        active.shutdown(Shutdown::Write).expect("half is closed");
        assert_silent(&passive);
    });
    assert_eq!(read_to_end(&passive), (words, None), "the data, then the end in order");
    // The other half is still open, and ends by itself.
    passive.write_all(&answer).expect("the other half is open");
    drop(passive);
    assert_eq!(read_to_end(&active), (answer, None), "the answer, then its end");
}

fn reset(side: ClosingSide) {
    let mut setting = HalfCloseFixture::new();
    let Ends { mut active, passive } = setting.session(side);
    let words = Pattern(3).bytes(0, LAST_WORDS);
    setting.in_outage(|| {
        active.write_all(&words).expect("the proxy takes it");
        // Closing with no time to linger is a reset.
        rustix::net::sockopt::set_socket_linger(&active, Some(Duration::ZERO)).expect("is set");
        drop(active);
        assert_silent(&passive);
    });
    let (bytes, end) = read_to_end(&passive);
    assert_eq!(end, Some(ErrorKind::ConnectionReset), "a reset arrives as a reset");
    assert_eq!(bytes, words, "after the data before it");
}

/// Checks that nothing, not even an end, has arrived during the outage.
fn assert_silent(stream: &TcpStream) {
    stream.set_nonblocking(true).expect("is set");
    let seen = stream.peek(&mut [0]).map_err(|error| error.kind());
    stream.set_nonblocking(false).expect("is set");
    assert_eq!(seen, Err(ErrorKind::WouldBlock), "the path is dead");
}

#[test]
fn the_client_closes_its_half_in_an_outage() {
    if skip::can_run("netns::half_close (client, FIN)", &[]) {
        half_close(ClosingSide::Client);
    }
}

#[test]
fn the_server_closes_its_half_in_an_outage() {
    if skip::can_run("netns::half_close (server, FIN)", &[]) {
        half_close(ClosingSide::Server);
    }
}

#[test]
fn the_client_resets_in_an_outage() {
    if skip::can_run("netns::half_close (client, RST)", &[]) {
        reset(ClosingSide::Client);
    }
}

#[test]
fn the_server_resets_in_an_outage() {
    if skip::can_run("netns::half_close (server, RST)", &[]) {
        reset(ClosingSide::Server);
    }
}
