//! Connections of each kind, in each state, outlive the processes that serve them.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use etcp_testkit::checked::accept;
use etcp_testkit::loopback::socket::{dial, patient};
use etcp_testkit::loopback::{Cproxy, Echo, LoopbackSite, LoopbackSproxy, PATIENCE, Steady};
use etcp_testkit::process::kill_raw;
use etcp_testkit::refused;
use etcp_testkit::worker::processes_of;
use rustix::net::sockopt::set_socket_linger;
use rustix::process::Signal;

use super::Victims;

/// A pair of proxies with an echo as the default target, and a session that shows that they serve.
struct Proxies {
    steady: Steady,
    cproxy: Cproxy,
    sproxy: LoopbackSproxy,
    _site: LoopbackSite,
}

impl Proxies {
    fn start(site: LoopbackSite, sproxy: &[&str], cproxy: &[&str]) -> Self {
        let args = [&["--listen", "127.0.0.1:0"][..], sproxy].concat();
        let sproxy = LoopbackSproxy::with(&site, Echo::start().address, &args, None);
        let cproxy = Cproxy::with(&site, sproxy.address, "cproxy", &site.client, cproxy).attached();
        let steady = Steady::start(cproxy.listen);
        Self { steady, cproxy, sproxy, _site: site }
    }

    fn kill(&self, victims: Victims) {
        victims.kill([&self.cproxy.program, &self.sproxy.program]);
    }

    /// Returns the second address on which the client listens.
    fn second(&mut self) -> SocketAddr {
        let line = self.cproxy.program.wait_for_count("listening on", 2);
        line.rsplit_once(' ').expect("an address").1.parse().expect("an address")
    }

    fn finish(self) {
        self.steady.finish();
        for program in [&self.cproxy.program, &self.sproxy.program] {
            for trouble in ["the peer broke the protocol", "cannot be resumed", "panicked"] {
                assert_eq!(program.count(trouble), 0, "{}", program.log());
            }
        }
    }
}

/// A request in one of the languages of `-D`, and the answer.
struct Asked {
    /// The bytes to write, piece by piece.
    says: [Vec<u8>; 2],
    /// The answer to each piece.
    hears: [Vec<u8>; 2],
}

impl Asked {
    fn all(to: SocketAddr, is_refused: bool) -> Vec<Self> {
        let port = to.port().to_be_bytes();
        let code = |good: u8, bad: u8| if is_refused { bad } else { good };
        let authority = format!("127.0.0.1:{}", to.port());
        let http = if is_refused { "HTTP/1.1 502 " } else { "HTTP/1.1 200 " };
        vec![
            Self {
                says: [vec![5, 1, 0], [&[5, 1, 0, 1, 127, 0, 0, 1][..], &port].concat()],
                hears: [vec![5, 0], vec![5, code(0, 5), 0, 1, 0, 0, 0, 0, 0, 0]],
            },
            Self {
                says: [Vec::new(), [&[4, 1][..], &port, &[127, 0, 0, 1], b"me\0"].concat()],
                hears: [Vec::new(), vec![0, code(90, 91), 0, 0, 0, 0, 0, 0]],
            },
            Self {
                says: [
                    Vec::new(),
                    format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").into(),
                ],
                hears: [Vec::new(), http.into()],
            },
        ]
    }
}

/// A connection whose request was begun.
struct Begun {
    stream: TcpStream,
    rest: Vec<u8>,
    answer: Vec<u8>,
}

impl Begun {
    /// Writes all but the last `left` bytes of the request. The answer to a greeting is awaited.
    fn start(at: SocketAddr, asked: &Asked, left: usize) -> Self {
        let mut stream = dial(at);
        stream.write_all(&asked.says[0]).expect("it is taken");
        let mut heard = vec![0; asked.hears[0].len()];
        stream.read_exact(&mut heard).expect("an answer");
        assert_eq!(heard, asked.hears[0]);
        let (first, rest) = asked.says[1].split_at(asked.says[1].len() - left);
        stream.write_all(first).expect("it is taken");
        Self { stream, rest: rest.to_vec(), answer: asked.hears[1].clone() }
    }

    /// Writes the rest, and checks the answer.
    #[track_caller]
    fn finish(mut self, is_refused: bool) {
        self.stream.write_all(&self.rest).expect("it is taken");
        let mut heard = vec![0; self.answer.len()];
        self.stream.read_exact(&mut heard).expect("an answer");
        assert_eq!(heard, self.answer);
        let mut all = Vec::new();
        if !is_refused {
            self.stream.write_all(b"hello").expect("it is taken");
            self.stream.shutdown(Shutdown::Write).expect("it is open");
        }
        self.stream.read_to_end(&mut all).expect("it ends in order");
        assert!(is_refused || all.ends_with(b"hello"), "{all:?}");
    }
}

#[test]
fn requests_on_the_port_of_d_are_answered_wherever_a_death_has_cut_them() {
    let permit = ["--permit", "127.0.0.1:*"];
    let mut proxies = Proxies::start(LoopbackSite::new(), &permit, &["-D", "0"]);
    let (at, echo, closed) = (proxies.second(), Echo::start().address, refused());
    for victims in Victims::ALL {
        let mut begun = Vec::new();
        for (to, is_refused) in [(echo, false), (closed, true)] {
            for asked in Asked::all(to, is_refused) {
                let length = asked.says[1].len();
                for left in [length, length - 1, length / 2, 1, 0] {
                    begun.push((Begun::start(at, &asked, left), is_refused));
                }
            }
        }
        proxies.kill(victims);
        for (begun, is_refused) in begun {
            begun.finish(is_refused);
        }
        proxies.steady.goes_on();
    }
    proxies.finish();
}

#[test]
fn connections_whose_targets_are_not_connected_yet_get_their_answer_after_a_death() {
    let permit = ["--permit", "127.0.0.1:*"];
    let mut proxies = Proxies::start(LoopbackSite::new(), &permit, &["-D", "0"]);
    let (at, echo, closed) = (proxies.second(), Echo::start().address, refused());
    for victims in Victims::ALL {
        // While the server stands still nobody connects a target.
        proxies.sproxy.program.freeze();
        let mut begun = Vec::new();
        for (to, is_refused) in [(echo, false), (closed, true)] {
            let all = Asked::all(to, is_refused);
            begun.extend(all.iter().map(|asked| (Begun::start(at, asked, 0), is_refused)));
        }
        let mut plain = dial(proxies.cproxy.listen);
        plain.write_all(b"early").expect("it is taken");
        proxies.kill(victims);
        for process in processes_of(proxies.sproxy.program.id()) {
            // The worker may be the one that was killed.
            let _ = kill_raw(process, Signal::CONT);
        }
        for (begun, is_refused) in begun {
            begun.finish(is_refused);
        }
        plain.read_exact(&mut [0; 5]).expect("it comes back");
        proxies.steady.goes_on();
    }
    proxies.finish();
}

fn patient_unix(stream: UnixStream) -> UnixStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out is set");
    stream.set_write_timeout(Some(PATIENCE)).expect("a time-out is set");
    stream
}

/// Returns what is left of a stream that ends in order.
#[track_caller]
fn rest(mut stream: impl Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("it ends in order");
    text
}

/// A session between Unix sockets: the application's end and the target's.
type UnixPair = (UnixStream, UnixStream);

/// Opens a session at `path`, and sends `text` on it.
#[track_caller]
fn open_unix(path: &Path, target: &UnixListener, text: &str) -> UnixPair {
    let mut near = patient_unix(UnixStream::connect(path).expect("it listens"));
    near.write_all(text.as_bytes()).expect("it is taken");
    let mut far = patient_unix(target.accept().expect("a connection").0);
    far.read_exact(&mut vec![0; text.len()]).expect("it arrives");
    (near, far)
}

/// Checks a session whose application has ended its direction.
#[track_caller]
fn check_shut((near, far): UnixPair) {
    (&far).write_all(b"to one that has said all").expect("it is taken");
    drop(far);
    assert_eq!(rest(&near), "to one that has said all");
}

/// Checks a session whose target has sent an answer and ended its direction.
#[track_caller]
fn check_answered((near, far): UnixPair) {
    assert_eq!(rest(&near), "the answer");
    (&near).write_all(b"after the answer").expect("it is taken");
    drop(near);
    assert_eq!(rest(&far), "after the answer");
}

/// Checks a session that is open in both directions.
#[track_caller]
fn check_whole((near, far): UnixPair) {
    (&near).write_all(b"there").expect("it is taken");
    (&far).write_all(b"back").expect("it is taken");
    drop(near.shutdown(Shutdown::Write));
    drop(far.shutdown(Shutdown::Write));
    assert_eq!((rest(&far), rest(&near)), ("there".into(), "back".into()));
}

#[test]
fn sessions_between_unix_sockets_go_on_half_closed_or_whole() {
    let site = LoopbackSite::new();
    let path = |name: &str| site.path().join(name);
    let (local, there, remote) = (path("local"), path("target"), path("remote"));
    let listener = UnixListener::bind(&there).expect("the folder is ours");
    let forward = format!("unix:{}:unix:{}", local.display(), there.display());
    let back = format!("{}:{}", remote.display(), there.display());
    let permit = format!("unix:{}", there.display());
    let permit_listen = format!("unix:{}", remote.display());
    let server = ["--permit", &permit, "--permit-listen", &permit_listen];
    let mut proxies = Proxies::start(site, &server, &["-L", &forward, "-R", &back]);
    proxies.cproxy.program.wait_for("the server listens on ");
    for victims in Victims::ALL {
        for at in [&local, &remote] {
            let open = |text| open_unix(at, &listener, text);
            let (whole, shut, answered, ended) = (open("a"), open("bb"), open("ccc"), open("d"));
            shut.0.shutdown(Shutdown::Write).expect("it is open");
            assert_eq!(rest(&shut.1), "");
            (&answered.1).write_all(b"the answer").expect("it is taken");
            answered.1.shutdown(Shutdown::Write).expect("it is open");
            proxies.kill(victims);
            // No worker serves now, or the next one has just begun.
            (&ended.0).write_all(b"last words").expect("the kernel takes it");
            drop(ended.0);
            let queued = UnixStream::connect(at).expect("the kernel's queue takes it");
            (&queued).write_all(b"queued").expect("the kernel takes it");
            drop(queued);
            assert_eq!(rest(&ended.1), "last words", "{victims:?}");
            check_shut(shut);
            check_answered(answered);
            check_whole(whole);
            // A target that was being connected may see a connection that ends without a byte.
            let served = || rest(patient_unix(listener.accept().expect("a connection").0));
            while served() != "queued" {}
        }
        proxies.steady.goes_on();
    }
    proxies.finish();
}

/// The number of connections for each kind of reset: several resets are under way at a death.
const RESETS_OF_A_KIND: usize = 8;

#[test]
fn resets_before_and_after_a_death_are_passed_on_as_resets() {
    let target = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let forward = format!("0:{}", target.local_addr().expect("it listens"));
    let permit = ["--permit", "127.0.0.1:*"];
    let mut proxies = Proxies::start(LoopbackSite::new(), &permit, &["-L", &forward]);
    let at = proxies.second();
    for victims in Victims::ALL {
        // The application or the target resets its connection, before or after the death, after data
        // or without any.
        let mut cases = Vec::new();
        for (is_target, is_early, has_data) in
            (0..8 * RESETS_OF_A_KIND).map(|bits| (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0))
        {
            let mut near = dial(at);
            near.write_all(b"?").expect("it is taken");
            let mut far = accept(&target);
            far.read_exact(&mut [0]).expect("it arrives");
            let (resets, sees) = if is_target { (far, near) } else { (near, far) };
            cases.push((resets, sees, is_early, has_data));
        }
        let reset = |mut stream: TcpStream, has_data| {
            if has_data {
                stream.write_all(b"data").expect("the kernel takes it");
            }
            set_socket_linger(&stream, Some(std::time::Duration::ZERO)).expect("an option");
        };
        let (early, late): (Vec<_>, Vec<_>) = cases.into_iter().partition(|case| case.2);
        let mut watchers = Vec::new();
        for (resets, sees, _, has_data) in early {
            reset(resets, has_data);
            watchers.push(sees);
        }
        proxies.kill(victims);
        for (resets, sees, _, has_data) in late {
            reset(resets, has_data);
            watchers.push(sees);
        }
        for mut sees in watchers {
            let error = sees.read_to_end(&mut Vec::new()).expect_err("it is no end of stream");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{victims:?}");
        }
        proxies.steady.goes_on();
    }
    proxies.finish();
}

/// The header of version 2 for TCP over IPv4: its first bytes, and its length.
const HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";
const HEADER_LENGTH: usize = 28;

/// The number of connections to each address.
const CONNECTIONS: u8 = 12;

/// Serves connections that have each sent their number: checks their headers, and sends their
/// numbers back. Returns the connections, which are open.
#[track_caller]
fn serve_with_headers(target: &TcpListener, streams: &[TcpStream]) -> Vec<TcpStream> {
    let mut open = Vec::new();
    while open.len() < streams.len() {
        let mut far = patient(target.accept().expect("a connection").0);
        let mut got = vec![0; HEADER_LENGTH + 1];
        if let Err(error) = far.read_exact(&mut got) {
            // The attempt was given up before a byte of the application came.
            assert!(error.kind() != ErrorKind::WouldBlock);
            continue;
        }
        let number = usize::from(got[HEADER_LENGTH]);
        assert_eq!(&got[..HEADER.len()], HEADER);
        let port = u16::from_be_bytes([got[24], got[25]]);
        assert_eq!(port, streams[number].local_addr().expect("it is connected").port());
        far.write_all(&[got[HEADER_LENGTH]]).expect("it is taken");
        open.push(far);
    }
    open
}

#[test]
fn a_target_gets_one_header_of_the_proxy_protocol_before_the_bytes_of_each_connection() {
    let target = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let there = target.local_addr().expect("it listens");
    let (forward, back) = (format!("0:{there}"), format!("127.0.0.1:0:{there}"));
    let server = ["--permit", "127.0.0.1:*", "--send-proxy"];
    let client = ["-L", &forward, "-R", &back, "--send-proxy"];
    // The steady session's target gets a header as well, and gives it back.
    let site = LoopbackSite::new();
    let args = [&["--listen", "127.0.0.1:0"][..], &server].concat();
    let sproxy = LoopbackSproxy::with(&site, there, &args, None);
    let mut cproxy =
        Cproxy::with(&site, sproxy.address, "cproxy", &site.client, &client).attached();
    let line = cproxy.program.wait_for("the server listens on ");
    let remote = line.split("listens on ").nth(1).and_then(|it| it.split(' ').next());
    let remote: SocketAddr = remote.and_then(|it| it.parse().ok()).expect("an address");
    let line = cproxy.program.wait_for_count("listening on", 2);
    let local: SocketAddr =
        line.rsplit_once(' ').and_then(|(_, it)| it.parse().ok()).expect("an address");
    for victims in Victims::ALL {
        for at in [local, remote] {
            let mut streams = Vec::new();
            let mut connect = |number: u8| {
                let mut stream = dial(at);
                stream.write_all(&[number]).expect("the kernel takes it");
                streams.push(stream);
            };
            (0..CONNECTIONS / 2).for_each(&mut connect);
            victims.kill([&cproxy.program, &sproxy.program]);
            (CONNECTIONS / 2..CONNECTIONS).for_each(&mut connect);
            let _open = serve_with_headers(&target, &streams);
            for (number, mut stream) in (0..).zip(streams) {
                let mut answer = [0];
                stream.read_exact(&mut answer).expect("it is served");
                assert_eq!(answer, [number]);
            }
        }
    }
}
