//! The answers to an application on the port of `-D`: in each protocol, byte by byte, and by curl.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use etcp_testkit::loopback::program::wait;
use etcp_testkit::loopback::socket::{dial, is_over, patient};
use etcp_testkit::loopback::{Cproxy, Echo, LoopbackSite, LoopbackSproxy};
use etcp_testkit::refused;
use rustix::net::sockopt::set_socket_linger;

/// cproxy with `-D`, and an echo that it may reach.
struct SocksFixture {
    echo: SocketAddr,
    cproxy: Cproxy,
    /// The address on which it takes requests.
    dynamic: SocketAddr,
    _sproxy: LoopbackSproxy,
    _site: LoopbackSite,
}

impl SocksFixture {
    fn start() -> Self {
        Self::with(&[])
    }

    fn with(args: &[&str]) -> Self {
        let (site, echo) = (LoopbackSite::new(), Echo::start().address);
        let permits = ["--permit", "127.0.0.1:*", "--permit", "*.invalid:*"];
        let sproxy_args = [&["--listen", "127.0.0.1:0"][..], &permits].concat();
        let sproxy = LoopbackSproxy::with(&site, echo, &sproxy_args, None);
        let args = [&["-D", "0"][..], args].concat();
        let mut cproxy = Cproxy::with(&site, sproxy.address, "cproxy", &site.client, &args);
        let line = cproxy.program.wait_for_count("listening on", 2);
        let dynamic = line.rsplit_once(' ').expect("an address").1.parse().expect("an address");
        Self { echo, cproxy, dynamic, _sproxy: sproxy, _site: site }
    }

    fn dial(&self) -> TcpStream {
        dial(self.dynamic)
    }

    /// Sends this on its own connection; returns the whole answer.
    #[track_caller]
    fn ask(&self, request: &[u8]) -> Vec<u8> {
        let mut stream = self.dial();
        stream.write_all(request).expect("it is taken");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it ends in order");
        answer
    }
}

fn socks4(port: u16) -> Vec<u8> {
    [&[4, 1][..], &port.to_be_bytes(), &[127, 0, 0, 1], b"me\0"].concat()
}

fn socks4a(host: &str, port: u16) -> Vec<u8> {
    let port = port.to_be_bytes();
    [&[4, 1][..], &port, &[0, 0, 0, 1, 0], host.as_bytes(), &[0]].concat()
}

fn socks5(host: &str, port: u16) -> Vec<u8> {
    let length = u8::try_from(host.len()).expect("it is short");
    let head = [5, 1, 0, 5, 1, 0, 3, length];
    [&head[..], host.as_bytes(), &port.to_be_bytes()].concat()
}

fn connect(authority: &str) -> Vec<u8> {
    format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").into_bytes()
}

const GRANTED4: &[u8] = &[0, 90, 0, 0, 0, 0, 0, 0];
const REJECTED4: &[u8] = &[0, 91, 0, 0, 0, 0, 0, 0];

/// Returns the greeting's answer, and a reply with this code.
fn replied5(code: u8) -> Vec<u8> {
    vec![5, 0, 5, code, 0, 1, 0, 0, 0, 0, 0, 0]
}

#[test]
fn requests_that_come_byte_by_byte_with_data_behind_them_are_answered_and_carried() {
    let setting = SocksFixture::start();
    let port = setting.echo.port();
    for (request, answer) in [
        (socks4(port), GRANTED4.to_vec()),
        (socks4a("127.0.0.1", port), GRANTED4.to_vec()),
        (socks5("127.0.0.1", port), replied5(0)),
        (
            connect(&format!("127.0.0.1:{port}")),
            b"HTTP/1.1 200 Connection established\r\n\r\n".to_vec(),
        ),
    ] {
        for is_slow in [true, false] {
            let mut stream = setting.dial();
            stream.set_nodelay(true).expect("it is TCP");
            let said = [&request[..], b"at once"].concat();
            let pieces = if is_slow { 1 } else { said.len() };
            said.chunks(pieces).for_each(|piece| stream.write_all(piece).expect("it is taken"));
            let mut got = vec![0; answer.len() + b"at once".len()];
            stream.read_exact(&mut got).expect("it is answered");
            assert_eq!(got, [&answer[..], b"at once"].concat());
            // A half-close passes, and the data after it.
            stream.write_all(b", and later").expect("it is taken");
            stream.shutdown(Shutdown::Write).expect("it is open");
            let mut rest = String::new();
            stream.read_to_string(&mut rest).expect("it ends in order");
            assert_eq!(rest, ", and later");
        }
    }
}

#[test]
fn each_refusal_has_its_code_in_each_language_and_ends_in_order() {
    let mut setting = SocksFixture::start();
    let closed = refused().port();
    for (host, port, code, status, text) in [
        ("127.0.0.1", closed, 5, "502", "the target refused the connection"),
        ("127.0.0.2", closed, 2, "403", "the target is not permitted"),
        ("name.invalid", 80, 4, "502", "the target's name was not found"),
    ] {
        assert_eq!(setting.ask(&socks4a(host, port)), REJECTED4);
        assert_eq!(setting.ask(&socks5(host, port)), replied5(code));
        // Data after the request do not discard the answer.
        let request = [&connect(&format!("{host}:{port}"))[..], &[b'x'; 20_000]].concat();
        let answer = String::from_utf8(setting.ask(&request)).expect("it is text");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").expect("it has a body");
        assert!(
            body.starts_with(&format!("{text}: {host}")) && body.lines().count() == 1,
            "{body}"
        );
        setting.cproxy.program.wait_for_count(text, 3);
    }
}

#[test]
fn a_request_that_is_not_carried_gets_an_answer() {
    let mut setting = SocksFixture::start();
    let bind5 = b"\x05\x01\0\x05\x02\0\x01\x7f\0\0\x01\0\x50";
    assert_eq!(setting.ask(bind5), replied5(7));
    setting.cproxy.program.wait_for("is refused: SOCKS5: BIND is not supported");
    assert_eq!(setting.ask(b"\x05\x01\0\x05\x03\0\x01\0\0\0\0\0\0"), replied5(7));
    assert_eq!(setting.ask(b"\x05\x01\x02"), [5, 0xff]);
    assert_eq!(setting.ask(b"\x04\x02\0\x50\x7f\0\0\x01\0"), REJECTED4);
    let answer = setting.ask(b"GET http://web.test/ HTTP/1.1\r\nHost: web.test\r\n\r\n");
    let answer = String::from_utf8(answer).expect("it is text");
    assert!(
        answer.starts_with("HTTP/1.1 405 Method Not Allowed\r\nAllow: CONNECT\r\n"),
        "{answer}"
    );
    assert!(answer.contains("this port takes SOCKS and HTTP CONNECT"), "{answer}");
    let answer = String::from_utf8(setting.ask(b"SSH-2.0-OpenSSH_9.2\r\n")).expect("it is text");
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
}

#[test]
fn garbage_is_closed_at_once_with_one_line_in_the_log() {
    let mut setting = SocksFixture::start();
    // The bytes are a hello of TLS, and of no protocol.
    assert_eq!(setting.ask(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"), b"");
    setting.cproxy.program.wait_for("it begins with TLS, which is neither SOCKS nor HTTP CONNECT");
    assert_eq!(setting.ask(&[0xee; 30_000]), b"");
    setting.cproxy.program.wait_for("it begins with a byte 0xee");
    assert_eq!(setting.cproxy.program.count("neither SOCKS nor HTTP CONNECT"), 2);
}

#[test]
fn an_application_without_a_request_is_closed_after_ten_seconds() {
    let mut setting = SocksFixture::start();
    let (start, silent, mut slow) = (Instant::now(), setting.dial(), setting.dial());
    slow.write_all(b"CONNECT 127.0.0.1").expect("it is taken");
    wait("both to be closed", || is_over(&silent) && is_over(&slow));
    let took = start.elapsed();
    assert!((9.5..60.0).contains(&took.as_secs_f64()), "{took:?}");
    setting.cproxy.program.wait_for("sent no complete request within 10 s");
}

#[test]
fn a_reset_passes_each_way() {
    let setting = SocksFixture::start();
    let target = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let port = target.local_addr().expect("it listens").port();
    for is_application in [true, false] {
        let mut application = setting.dial();
        application.write_all(&socks5("127.0.0.1", port)).expect("it is taken");
        let mut answer = [0; 12];
        application.read_exact(&mut answer).expect("it is answered");
        assert_eq!(answer[..], replied5(0));
        let server = patient(target.accept().expect("it is connected").0);
        let (from, to) = if is_application { (application, server) } else { (server, application) };
        set_socket_linger(&from, Some(Duration::ZERO)).expect("it is TCP");
        drop(from);
        let error = (&to).read(&mut [0; 1]).expect_err("it is reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[test]
fn a_target_that_sends_at_once_and_resets_was_connected() {
    let setting = SocksFixture::start();
    let target = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let port = target.local_addr().expect("it listens").port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = target.accept().expect("it is connected");
        stream.write_all(b"sorry").expect("it is taken");
        // The socket is closed only once the other end has all of it, because a reset would discard
        // it.
        wait("it to be read", || etcp_testkit::loopback::socket::is_read(&stream));
        set_socket_linger(&stream, Some(Duration::ZERO)).expect("it is TCP");
    });
    let mut application = setting.dial();
    application.write_all(&socks5("127.0.0.1", port)).expect("it is taken");
    let mut got = [0; 17];
    application.read_exact(&mut got).expect("the answer, and what the server said");
    assert_eq!(got[..], [&replied5(0)[..], b"sorry"].concat());
    server.join().expect("it was connected");
}

#[test]
fn a_missing_server_is_reported_when_the_wait_is_over() {
    let site = LoopbackSite::new();
    let args = ["-D", "0", "--wait", "1s"];
    let mut cproxy = Cproxy::with(&site, refused(), "cproxy", &site.client, &args);
    let line = cproxy.program.wait_for_count("listening on", 2);
    let dynamic: SocketAddr = line.rsplit_once(' ').expect("an address").1.parse().expect("it is");
    let mut stream = dial(dynamic);
    stream.write_all(&connect("127.0.0.1:80")).expect("it is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it ends in order");
    assert!(answer.starts_with("HTTP/1.1 504 Gateway Timeout\r\n"), "{answer}");
    assert!(answer.contains("there was no path to the other side"), "{answer}");
}

#[test]
fn many_that_say_nothing_do_not_keep_the_port_for_long() {
    let setting = SocksFixture::start();
    let silent: Vec<_> = (0..300).map(|_| setting.dial()).collect();
    let mut stream = setting.dial();
    stream.write_all(&socks5("127.0.0.1", setting.echo.port())).expect("it is taken");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("it is answered");
    assert_eq!(answer[..], replied5(0));
    drop(silent);
}

#[test]
fn the_port_may_be_a_unix_socket() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socks");
    let mut setting = SocksFixture::with(&["-D", path.to_str().expect("it is text")]);
    // The third address is that of the socket.
    setting.cproxy.program.wait_for_count("listening on", 3);
    let mut stream = std::os::unix::net::UnixStream::connect(&path).expect("it listens");
    let request = [&socks4(setting.echo.port())[..], b"hello"].concat();
    stream.write_all(&request).expect("it is taken");
    let mut got = [0; 13];
    stream.read_exact(&mut got).expect("it is answered");
    assert_eq!(got[..], [GRANTED4, b"hello"].concat());
}

#[test]
fn curl_shows_each_refusal() {
    if !etcp_testkit::skip::can_run("usage::socks_answers", &["curl"]) {
        return;
    }
    let setting = SocksFixture::start();
    let (dynamic, closed) = (setting.dynamic.to_string(), refused());
    let curl = |args: &[&str], to: &str| {
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "30"]).args(args).arg(to);
        let output = command.output().expect("curl runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let not_permitted = format!("http://127.0.0.2:{}/", closed.port());
    let refused = format!("http://{closed}/");
    for (option, to, code) in [
        ("--socks5-hostname", refused.as_str(), "(5)"),
        ("--socks5", &not_permitted, "(2)"),
        ("--socks5-hostname", "http://name.invalid/", "(4)"),
        ("--socks4", &refused, "(91)"),
        ("--socks4a", "http://name.invalid/", "(91)"),
    ] {
        let (status, text) = curl(&[option, &dynamic], to);
        assert_eq!(status, Some(97), "{option} {to}: {text}");
        assert!(text.contains(code), "{option} {to}: {text}");
    }
    let proxy = format!("http://{dynamic}");
    for (to, code) in [(&refused, "502"), (&not_permitted, "403")] {
        let (status, text) = curl(&["--proxytunnel", "-x", &proxy], to);
        assert_eq!(status, Some(56), "{to}: {text}");
        assert!(text.contains(code), "{to}: {text}");
    }
    // Without CONNECT, the answer explains the purpose of the port.
    let output = Command::new("curl").args(["-sS", "-x", &proxy, &refused]).output();
    let output = output.expect("curl runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("GET is not supported; this port takes SOCKS and HTTP CONNECT"),
        "{text}"
    );
}
