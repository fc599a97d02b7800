//! Unix sockets at either end of each kind of forward, with the end of a stream and with resets.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use etcp_testkit::loopback::socket::patient;
use etcp_testkit::loopback::{Cproxy, LoopbackSite, LoopbackSproxy, PATIENCE, connect};
use etcp_testkit::wait::end_of;

/// One end of a session.
enum UnixEnd {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl UnixEnd {
    fn unix(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out is set");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time-out is set");
        Self::Unix(stream)
    }

    fn send(&mut self, bytes: &[u8]) {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes),
            Self::Unix(stream) => stream.write_all(bytes),
        }
        .expect("the other end is there");
    }

    fn receive(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        match self {
            Self::Tcp(stream) => stream.read_exact(&mut bytes),
            Self::Unix(stream) => stream.read_exact(&mut bytes),
        }
        .expect("the other end sends it");
        bytes
    }

    fn shut(&self) {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
        .expect("it is connected");
    }

    /// Returns all data, and how the stream ends: in order, or with an error.
    fn read_all(&mut self) -> (Vec<u8>, Option<ErrorKind>) {
        let mut all = Vec::new();
        let end = match self {
            Self::Tcp(stream) => stream.read_to_end(&mut all),
            Self::Unix(stream) => stream.read_to_end(&mut all),
        };
        (all, end.err().map(|error| error.kind()))
    }

    /// Ends it with a reset; one byte stays unread, which makes a closed Unix socket reset.
    fn reset(self) {
        if let Self::Tcp(stream) = &self {
            rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO)).expect("is set");
        }
    }

    /// Checks that the other side of its session was reset. A Unix socket cannot send a reset on
    /// behalf of another: it ends, and takes nothing any more.
    fn expect_reset(mut self) {
        let expected =
            if matches!(self, Self::Tcp(_)) { Some(ErrorKind::ConnectionReset) } else { None };
        assert_eq!(self.read_all(), (vec![], expected));
        if let Self::Unix(stream) = &mut self {
            let error = stream.write_all(b"x").expect_err("nobody is there");
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        }
    }
}

/// Half-closes and resets sessions, each way. `open` returns both ends of a
/// session: the connecting one, and the target.
fn check(mut open: impl FnMut() -> (UnixEnd, UnixEnd)) {
    for turn in [false, true] {
        let mut ends = || {
            let (one, other) = open();
            if turn { (other, one) } else { (one, other) }
        };
        let (mut one, mut other) = ends();
        one.send(b"question");
        one.shut();
        assert_eq!(other.read_all(), (b"question".to_vec(), None));
        other.send(&[7; 100_000]);
        drop(other);
        assert_eq!(one.read_all(), (vec![7; 100_000], None));

        let (mut one, mut other) = ends();
        other.send(b"xy");
        assert_eq!(one.receive(1), b"x");
        one.reset();
        other.expect_reset();
    }
}

/// The sockets at which sessions may begin and end, in one folder.
struct UnixFixture {
    site: LoopbackSite,
    sproxy: LoopbackSproxy,
    target: UnixListener,
}

impl UnixFixture {
    fn new() -> Self {
        let site = LoopbackSite::new();
        let path = site.path().to_str().expect("a path").to_owned();
        let target = UnixListener::bind(site.path().join("target")).expect("the folder is ours");
        let (default, sockets) = (format!("unix:{path}/target"), format!("unix:{path}/*"));
        let args = ["--listen", "127.0.0.1:0", "--target", &default];
        let permits = ["--permit", "*:*", "--permit", &sockets];
        let listens = ["--permit-listen", "localhost:*", "--permit-listen", &sockets];
        let sproxy = LoopbackSproxy::plain(&site, &[&args[..], &permits, &listens].concat());
        Self { site, sproxy, target }
    }

    fn path(&self, name: &str) -> String {
        self.site.path().join(name).to_str().expect("a path").to_owned()
    }

    fn cproxy(&self, args: &[&str]) -> Cproxy {
        Cproxy::with(&self.site, self.sproxy.address, "cproxy", &self.site.client, args).attached()
    }

    fn unix_target(&self) -> UnixEnd {
        UnixEnd::unix(self.target.accept().expect("a connection").0)
    }
}

fn tcp_target() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address = listener.local_addr().expect("it listens").to_string();
    (listener, address)
}

fn accept(listener: &TcpListener) -> UnixEnd {
    UnixEnd::Tcp(patient(listener.accept().expect("a connection").0))
}

fn dial(address: SocketAddr) -> UnixEnd {
    UnixEnd::Tcp(patient(TcpStream::connect(address).expect("it listens")))
}

fn dial_unix(path: &str) -> UnixEnd {
    UnixEnd::unix(UnixStream::connect(path).expect("it listens"))
}

/// Returns the address after these words in the log, the `count`th time.
fn address_after(cproxy: &mut Cproxy, words: &str, count: usize) -> SocketAddr {
    let line = cproxy.program.wait_for_count(words, count);
    let rest = line.split(words).nth(1).expect("it was looked for").trim();
    rest.split(' ').next().expect("a word").parse().expect("an address")
}

#[test]
fn the_default_target_may_be_a_unix_socket() {
    let setting = UnixFixture::new();
    let cproxy = setting.cproxy(&[]);
    check(|| (dial(cproxy.listen), setting.unix_target()));
}

#[test]
fn a_forward_leads_from_a_port_to_a_unix_socket() {
    let setting = UnixFixture::new();
    let mut cproxy = setting.cproxy(&["-L", &format!("0:{}", setting.path("target"))]);
    let listen = address_after(&mut cproxy, "INFO listening on ", 2);
    check(|| (dial(listen), setting.unix_target()));
}

#[test]
fn a_forward_leads_from_a_unix_socket_to_a_port() {
    let setting = UnixFixture::new();
    let (listener, address) = tcp_target();
    let path = setting.path("local");
    let _cproxy = setting.cproxy(&["-L", &format!("{path}:{address}")]);
    check(|| (dial_unix(&path), accept(&listener)));
}

#[test]
fn a_forward_leads_from_a_unix_socket_to_a_unix_socket() {
    let setting = UnixFixture::new();
    let path = setting.path("local");
    let _cproxy = setting.cproxy(&["-L", &format!("unix:{path}:unix:{}", setting.path("target"))]);
    check(|| (dial_unix(&path), setting.unix_target()));
}

#[test]
fn a_remote_forward_leads_from_a_port_to_a_unix_socket() {
    let setting = UnixFixture::new();
    let mut cproxy = setting.cproxy(&["-R", &format!("0:{}", setting.path("target"))]);
    let listen = address_after(&mut cproxy, "the server listens on ", 1);
    check(|| (dial(listen), setting.unix_target()));
}

#[test]
fn a_remote_forward_leads_from_a_unix_socket_to_a_port() {
    use std::os::unix::fs::PermissionsExt;
    let setting = UnixFixture::new();
    let (listener, address) = tcp_target();
    let path = setting.path("remote");
    let mut cproxy = setting.cproxy(&["-R", &format!("{path}:{address}")]);
    cproxy.program.wait_for(&format!("the server listens on unix:{path} for {address}"));
    let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "its owner alone may connect");
    check(|| (dial_unix(&path), accept(&listener)));
    // A killed client finds its socket free.
    cproxy.program.kill();
    let mut cproxy = setting.cproxy(&["-R", &format!("{path}:{address}")]);
    cproxy.program.wait_for("the server listens on ");
    check(|| (dial_unix(&path), accept(&listener)));
}

#[test]
fn connect_reaches_a_unix_socket_and_tells_a_reset_by_its_exit_code() {
    let setting = UnixFixture::new();
    let target = format!("unix:{}", setting.path("target"));
    let start = || {
        let (server, key) = (setting.sproxy.address, &setting.site.client);
        connect(&setting.site, server, key, &[&target]).spawn().expect("etcp runs")
    };
    let mut child = start();
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(b"question").expect("it reads");
    drop(stdin);
    let mut end = setting.unix_target();
    assert_eq!(end.read_all(), (b"question".to_vec(), None));
    end.send(b"answer");
    drop(end);
    let output = end_of(child);
    assert!(output.status.success() && output.stdout == b"answer", "{output:?}");

    // The output ends before the input does, as ssh requires.
    let mut child = start();
    let (mut stdin, mut stdout) = (child.stdin.take(), child.stdout.take().expect("a pipe"));
    let mut end = setting.unix_target();
    end.send(b"first");
    end.shut();
    let mut output = String::new();
    stdout.read_to_string(&mut output).expect("it ends");
    assert_eq!(output, "first");
    stdin.take().expect("a pipe").write_all(b"last").expect("it reads");
    assert_eq!(end.read_all(), (b"last".to_vec(), None));
    drop(end);
    assert!(child.wait().expect("it ends").success());

    let mut child = start();
    child.stdin.as_mut().expect("a pipe").write_all(b"xy").expect("it reads");
    let mut end = setting.unix_target();
    assert_eq!(end.receive(1), b"x");
    end.reset();
    let output = end_of(child);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}
