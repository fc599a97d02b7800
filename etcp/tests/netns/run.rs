//! `etcp run`: everything that a program connects to and looks up goes through the tunnel.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener};

use etcp_testkit::checked::{accept, listen, read_to_end};
use etcp_testkit::folder::{length, sha256};
use etcp_testkit::running::{NAME, PORT, RunningProcess, start_web, static_program};
use etcp_testkit::transfer::{FILE_LENGTH, strike_on_the_way};
use etcp_testkit::wait::{PATIENCE, until_some};
use etcp_testkit::{NetworkFault, RunAs, TestWorld, skip};

const TOOLS: [&str; 4] = ["dnsmasq", "curl", "python3", "getent"];

#[test]
fn curl_by_name_arrives_whole_while_the_client_moves() {
    if !skip::can_run("netns::run (curl)", &["dnsmasq", "curl", "python3", "sha256sum"]) {
        return;
    }
    let running = RunningProcess::start(&[&format!("{NAME}:{PORT}")], &["--permit-resolver"]);
    let original = running.folder.random_file("original", FILE_LENGTH, RunAs::Nobody);
    let _web = start_web(&running);
    let copy = running.folder.join("copy");
    let url = format!("http://{NAME}:{PORT}/original");
    let target = copy.to_str().expect("test paths are text");
    let words = ["curl", "-sS", "--fail", "--no-buffer", "--limit-rate", "10M", "-o", target, &url];
    let mut curl = running.run("run", &words);
    strike_on_the_way(&running.world, &NetworkFault::CYCLE, || (curl.is_running(), length(&copy)));
    assert!(curl.wait(2 * PATIENCE).success(), "curl is content");
    assert_eq!(sha256(&copy), sha256(&original), "every byte is right");
}

/// Connects to each of its arguments, sends hello, and prints the answer.
const GREETER: &str = r#"
use std::io::{Read, Write};
fn main() {
    for target in std::env::args().skip(1) {
        let mut stream = std::net::TcpStream::connect(&target).expect("it connects");
        stream.write_all(b"hello").expect("it takes it");
        stream.shutdown(std::net::Shutdown::Write).expect("it ends");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        println!("{answer}");
    }
}
"#;

#[test]
fn a_static_program_is_carried_to_names_and_addresses_of_both_families_while_the_client_moves() {
    if !skip::can_run("netns::run (static)", &["dnsmasq", "rustc", "ldd"]) {
        return;
    }
    let running = RunningProcess::start(&["*:*"], &[]);
    let listener = listen(&running.world.server, "[::]:0");
    let port = listener.local_addr().expect("it listens").port();
    let program = static_program(&running.folder, "greeter", GREETER);
    let targets = ["10.71.9.10", "[fd71:9::10]", NAME].map(|host| format!("{host}:{port}"));
    let program = program.to_str().expect("test paths are text");
    let faults =
        [NetworkFault::ResetAndMove, NetworkFault::BlackholeThenMove, NetworkFault::SoftMove];
    let mut process = running.run("static", &[program, &targets[0], &targets[1], &targets[2]]);
    greet(&listener, &running.world, &faults);
    assert!(process.wait(PATIENCE).success(), "{}", process.log());
    // A busy machine may say that it waits for the server.
    let log = process.log();
    let said: Vec<_> = log.lines().filter(|line| line.starts_with("hello")).collect();
    assert_eq!(said, ["hello 1", "hello 2", "hello 3"], "{log}");
}

/// Answers connections with their text and their number, each after another fault.
fn greet(listener: &TcpListener, world: &TestWorld, faults: &[NetworkFault]) {
    listener.set_nonblocking(true).expect("it need not block");
    for (number, fault) in (1..).zip(faults) {
        let (mut stream, _) = until_some("a connection", PATIENCE, || listener.accept().ok());
        stream.set_nonblocking(false).expect("it blocks");
        let mut said = String::new();
        stream.read_to_string(&mut said).expect("it speaks");
        fault.survive(world);
        write!(stream, "{said} {number}").expect("it listens");
    }
}

/// Asks its argument four times: half-closes first, has the other do it, resets, and is reset.
const ENDS: &str = r#"
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
fn main() {
    let target = std::env::args().nth(1).expect("a target");
    let connect = || TcpStream::connect(&target).expect("it connects");
    let read = |mut stream: &TcpStream| {
        let mut text = String::new();
        match stream.read_to_string(&mut text) {
            Ok(_) => println!("{text}, end"),
            Err(error) => println!("{text}, {:?}", error.kind()),
        }
    };
    let mut first = connect();
    first.write_all(b"question").expect("it takes it");
    first.shutdown(Shutdown::Write).expect("it is open");
    read(&first);
    let mut second = connect();
    read(&second);
    second.write_all(b"late").expect("the other half is open");
    drop(second);
    // Unread data when a socket is closed turn its end into a reset.
    let mut third = connect();
    third.write_all(b"!").expect("it takes it");
    while third.peek(&mut [0; 2]).expect("an answer") < 2 {}
    drop(third);
    let mut fourth = connect();
    fourth.write_all(b"!?").expect("it takes it");
    read(&fourth);
}
"#;

#[test]
fn half_close_and_reset_pass_each_way() {
    if !skip::can_run("netns::run (ends)", &["dnsmasq", "rustc", "ldd"]) {
        return;
    }
    let running = RunningProcess::start(&["*:*"], &[]);
    let listener = listen(&running.world.server, "10.71.9.10:0");
    let target = listener.local_addr().expect("it listens").to_string();
    let program = static_program(&running.folder, "ends", ENDS);
    let mut process = running.run("ends", &[program.to_str().expect("it is text"), &target]);

    let mut first = accept(&listener);
    assert_eq!(read_to_end(&first), (b"question".to_vec(), None));
    first.write_all(b"answer").expect("the other half is open");
    drop(first);
    process.wait_for("answer, end", PATIENCE);

    let mut second = accept(&listener);
    second.write_all(b"early").expect("it is open");
    second.shutdown(Shutdown::Write).expect("it is open");
    process.wait_for("early, end", PATIENCE);
    assert_eq!(read_to_end(&second), (b"late".to_vec(), None));

    let mut third = accept(&listener);
    third.read_exact(&mut [0]).expect("it speaks");
    third.write_all(b"!!").expect("it is open");
    assert_eq!(read_to_end(&third), (Vec::new(), Some(ErrorKind::ConnectionReset)));

    let mut fourth = accept(&listener);
    fourth.read_exact(&mut [0]).expect("it speaks");
    fourth.peek(&mut [0]).expect("it speaks on");
    drop(fourth);
    process.wait_for(", ConnectionReset", PATIENCE);
    assert!(process.wait(PATIENCE).success(), "{}", process.log());
}

#[test]
fn names_are_what_the_servers_resolver_says() {
    if !skip::can_run("netns::run (names)", &TOOLS) {
        return;
    }
    let running = RunningProcess::start(&[], &["--permit-resolver"]);
    let found = running.output("found", &["getent", "ahosts", NAME]);
    assert!(found.contains("10.71.9.10 ") && found.contains("fd71:9::10 "), "{found}");
    let (status, text) = running.outcome("missing", &["getent", "hosts", "missing.test"]);
    assert_eq!((status.code(), text.as_str()), (Some(2), ""), "there is no such name");
    let long = running.output("long", &["python3", "-c", ASK_FOR_LONG]);
    assert_eq!(long, "over UDP: cut, 0 answers\nover TCP: whole, 10 answers");
}

/// Requests a text that is too long for UDP, over UDP and TCP, as a program with its own resolver
/// does.
const ASK_FOR_LONG: &str = r#"
import socket, struct
query = bytes([0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4]) + b"long" + bytes([4]) + b"test" + bytes([0, 0, 16, 0, 1])
def show(way, message):
    flags, _, answers = struct.unpack("!HHH", message[2:8])
    print(f"over {way}: {'cut' if flags & 0x200 else 'whole'}, {answers} answers")
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.settimeout(20)
udp.connect(("192.0.2.53", 53))
udp.send(query)
show("UDP", udp.recv(65535))
tcp = socket.create_connection(("192.0.2.53", 53), 20).makefile("rwb")
tcp.write(struct.pack("!H", len(query)) + query)
tcp.flush()
show("TCP", tcp.read(struct.unpack("!H", tcp.read(2))[0]))
"#;

#[test]
fn traffic_that_cannot_be_carried_fails_at_once_with_a_line() {
    if !skip::can_run("netns::run (UDP)", &TOOLS) {
        return;
    }
    const SEND: &str = r#"
import socket, sys
for host in sys.argv[1:]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM)
    udp.settimeout(20)
    udp.connect((host, 443))
    try:
        udp.send(b"?")
        udp.recv(1)
        sys.exit("it was carried")
    except (PermissionError, ConnectionRefusedError):
        print("failed")
"#;
    let running = RunningProcess::start(&["*:*"], &[]);
    // The program stays until the lines appear: the kernel reports refused packets a little later.
    let script = format!("python3 -c '{SEND}' \"$@\"; exec sleep 60");
    let mut process =
        running.run("udp", &["sh", "-c", &script, "sh", "10.71.9.10", "10.71.9.10", "fd71:9::10"]);
    process.wait_for_count("failed", 3, PATIENCE);
    for line in
        ["UDP to 10.71.9.10:443 is not forwarded", "UDP to [fd71:9::10]:443 is not forwarded"]
    {
        process.wait_for(line, PATIENCE);
    }
    assert_eq!(process.count("is not forwarded"), 2, "each once: {}", process.log());
    process.stop(PATIENCE);
}

#[test]
fn a_program_talks_to_itself_and_not_to_this_machine() {
    if !skip::can_run("netns::run (loopback)", &TOOLS) {
        return;
    }
    const TALK: &str = r#"
import socket, sys
for family, host in [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]:
    own = socket.socket(family)
    own.bind((host, 0))
    own.listen()
    socket.create_connection(own.getsockname()[:2]).sendall(b"x")
    print("itself:", own.accept()[0].recv(1).decode())
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20)
except ConnectionRefusedError:
    print("this machine: refused")
"#;
    let running = RunningProcess::start(&["*:*"], &[]);
    let listener = listen(&running.world.client, "127.0.0.1:0");
    let port = listener.local_addr().expect("it listens").port().to_string();
    let output = running.output("talk", &["python3", "-c", TALK, &port]);
    assert_eq!(output, "itself: x\nitself: x\nthis machine: refused");
}

#[test]
fn data_written_before_the_program_ended_arrives() {
    if !skip::can_run("netns::run (last words)", &["dnsmasq", "python3"]) {
        return;
    }
    const LAST: &str = r#"
import socket, sys
stream = socket.create_connection((sys.argv[1], int(sys.argv[2])))
stream.sendall(bytes(3000000))
"#;
    let running = RunningProcess::start(&["*:*"], &[]);
    let listener = listen(&running.world.server, "10.71.9.10:0");
    let port = listener.local_addr().expect("it listens").port().to_string();
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        listener.accept().expect("a connection").0.read_to_end(&mut all).expect("it ends in order");
        all.len()
    });
    running.output("last", &["python3", "-c", LAST, "10.71.9.10", &port]);
    assert_eq!(reader.join().expect("it was read"), 3_000_000);
}

#[test]
fn a_target_or_a_name_that_the_server_does_not_permit_is_reset_and_a_line_says_why() {
    if !skip::can_run("netns::run (refused)", &TOOLS) {
        return;
    }
    let running = RunningProcess::start(&["10.71.9.10:1"], &[]);
    let url = format!("http://10.71.9.10:{PORT}/");
    let (status, log) = running.outcome("target", &["curl", "-sS", &url]);
    assert!(!status.success());
    let line = format!("10.71.9.10:{PORT}: the server does not permit this target");
    assert!(log.contains(&line), "{log}");
    let (status, log) = running.outcome("name", &["getent", "hosts", NAME]);
    assert_eq!(status.code(), Some(2));
    assert_eq!(log.matches("--permit-resolver").count(), 1, "{log}");
}
