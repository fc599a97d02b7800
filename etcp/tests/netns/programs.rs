//! Programs that hold one connection open and wait on it: a subscription, a WebSocket, a
//! measurement of throughput, each across every move of the client.

use std::net::TcpStream;

use etcp_testkit::keys::Keys;
use etcp_testkit::nginx::start_nginx;
use etcp_testkit::pair::{built, etcp};
use etcp_testkit::terminal::Terminal;
use etcp_testkit::wait::{PATIENCE, until};
use etcp_testkit::{
    IpFamily, Launch, NetworkFault, Process, ProxyPair, RunAs, Sproxy, TestFolder, TestWorld, skip,
};

const REDIS: &str = "127.0.0.1:6379";
const NGINX: &str = "127.0.0.1:8080";
const IPERF: &str = "127.0.0.1:5201";

/// A WebSocket server that sends back what it gets (RFC 6455), one client, short frames alone.
const ECHO: &str = r#"
import base64, hashlib, socket
at = socket.create_server(("127.0.0.1", 8090))
while True:
    peer, _ = at.accept()
    stream = peer.makefile("rwb")
    key = b""
    while (line := stream.readline().strip()):
        if line.lower().startswith(b"sec-websocket-key:"):
            key = line.split(b":")[1].strip()
    if not key:
        continue  # Somebody only looked whether it listens.
    token = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    stream.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 b"Sec-WebSocket-Accept: " + token + b"\r\n\r\n")
    stream.flush()
    while (head := stream.read(2)):
        mask, body = stream.read(4), stream.read(head[1] & 127)
        text = bytes(b ^ mask[i % 4] for i, b in enumerate(body))
        stream.write(bytes([0x81, len(text)]) + text)
        stream.flush()
"#;

/// A WebSocket client: each line of stdin is a message, each answer a line.
const TALK: &str = r#"
import socket, sys
stream = socket.create_connection(("127.0.0.1", 9000)).makefile("rwb")
stream.write(b"GET / HTTP/1.1\r\nHost: echo.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
stream.flush()
answer = b""
while not answer.endswith(b"\r\n\r\n"):
    answer += stream.readline()
print("open" if b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer else answer, flush=True)
for line in sys.stdin:
    text = line.strip().encode()
    stream.write(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)
    stream.flush()
    head = stream.read(2)
    print("answer:", stream.read(head[1]).decode(), flush=True)
"#;

fn pair(world: &TestWorld, folder: &TestFolder, target: &str) -> ProxyPair {
    let sproxy = Sproxy::start(world, folder, IpFamily::V4, target, &[target]);
    ProxyPair::start(world, folder, sproxy, &[&format!("9000:{target}")])
}

fn wait_for_port(world: &TestWorld, server: &mut Process, at: &str) {
    until("the server to accept", PATIENCE, || {
        assert!(server.is_running(), "it ended: {}", server.log());
        world.server.run(|| TcpStream::connect(at)).is_ok()
    });
}

#[test]
fn the_server_of_the_librarys_documentation_answers_etcp_before_and_after_a_move() {
    let program = built("examples/late");
    let needed = program.to_str().expect("build paths are text");
    if !skip::can_run("netns::programs (documentation)", &[needed]) {
        return;
    }
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    let home = folder.folder("home", RunAs::Nobody);
    let [ssh, state] = [".ssh", ".local/state/eternaltcp"].map(|name| home.join(name));
    let keys = Keys::generate(&folder, &[format!("[{}]:6200", world.server_v4())]);
    for (from, to) in [
        (&keys.authorized_keys, ssh.join("authorized_keys")),
        (&keys.server, state.join("server_key")),
    ] {
        std::fs::create_dir_all(to.parent().expect("it is in a folder")).expect("it is made");
        std::fs::rename(from, &to).expect("it is the same file system");
    }
    for path in [".ssh", ".local", ".local/state", ".local/state/eternaltcp"] {
        RunAs::Nobody.own(&home.join(path));
    }
    let mut server = Launch::new("late", folder.program("late", &program))
        .env("HOME", &home)
        .start(&world.server, &folder);
    let at = std::net::SocketAddr::new(world.server_v4(), 6200);
    until("the server to listen", PATIENCE, || {
        assert!(server.is_running(), "{}", server.log());
        world.server.run(|| TcpStream::connect(at)).is_ok()
    });
    let etcp = folder.program("etcp", &etcp());
    let ask = |name: &str, target: &str| {
        let mut client = Launch::new(name, &etcp)
            .args(["connect", "--no-ssh-config", "--server", &at.to_string(), target, "--identity"])
            .arg(&keys.client)
            .arg("--known-hosts")
            .arg(&keys.known_hosts)
            .env("HOME", folder.path())
            .start(&world.client, &folder);
        let code = client.wait(PATIENCE).code();
        // The log is in the same file, and its lines may come later.
        (code, client.log().lines().filter(|line| *line == "late").count())
    };
    assert_eq!(ask("before", "time:37"), (Some(0), 1));
    world.use_uplink(world.other_uplink());
    assert_eq!(ask("after", "time:37"), (Some(0), 1));
    assert_eq!(server.count("asks for time:37"), 2, "{}", server.log());
    assert_eq!(ask("other", "time:38").0, Some(3));
}

#[test]
fn a_redis_subscription_gets_every_message_while_the_client_moves() {
    if !skip::can_run("netns::programs", &["redis-server", "redis-cli"]) {
        return;
    }
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    let mut redis = Launch::new("redis", "redis-server")
        .args(["--port", "6379", "--bind", "127.0.0.1", "--save", "", "--dir", "/tmp"])
        .start(&world.server, &folder);
    wait_for_port(&world, &mut redis, REDIS);
    let mut pair = pair(&world, &folder, REDIS);
    let mut subscriber = Launch::new("subscriber", "redis-cli")
        .args(["-p", "9000", "SUBSCRIBE", "news"])
        .start(&world.client, &folder);
    subscriber.wait_for("subscribe", PATIENCE);
    for (n, fault) in (1..).zip(NetworkFault::CYCLE) {
        for moment in ["before", "after"] {
            let mut publisher = Launch::new("publisher", "redis-cli")
                .args(["PUBLISH", "news", &format!("{moment} move {n}.")])
                .start(&world.server, &folder);
            assert!(publisher.wait(PATIENCE).success());
            if moment == "before" {
                pair.survive(fault, &world);
            }
        }
        subscriber.wait_for(&format!("after move {n}."), PATIENCE);
        assert_eq!(subscriber.count(&format!("before move {n}.")), 1);
    }
    assert!(subscriber.is_running(), "one connection for all of it");
}

#[test]
fn a_websocket_through_nginx_goes_on_while_the_client_moves() {
    if !skip::can_run("netns::programs", &["nginx", "python3"]) {
        return;
    }
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    let python = |name, text| {
        let script = folder.readable_file(&format!("{name}.py"), text);
        Launch::new(name, "python3").arg("-u").arg(script).user(RunAs::Root)
    };
    let mut echo = python("echo", ECHO).start(&world.server, &folder);
    wait_for_port(&world, &mut echo, "127.0.0.1:8090");
    let upgrade = "location / { proxy_pass http://127.0.0.1:8090; proxy_http_version 1.1; \
                   proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }";
    let _nginx = start_nginx(&world.server, &folder, &format!("listen {NGINX}; {upgrade}"), NGINX);
    let mut pair = pair(&world, &folder, NGINX);
    let mut talk = Terminal::start(python("talk", TALK), &world.client, &folder);
    talk.expect("open", PATIENCE);
    for (n, fault) in (1..).zip(NetworkFault::CYCLE) {
        pair.survive(fault, &world);
        talk.line(&format!("message {n}"));
        talk.expect(&format!("answer: message {n}"), PATIENCE);
    }
}

#[test]
fn iperf3_measures_to_its_end_while_the_client_moves() {
    if !skip::can_run("netns::programs", &["iperf3"]) {
        return;
    }
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    let mut server = Launch::new("iperf3-server", "iperf3")
        .args(["-s", "-B", "127.0.0.1", "--forceflush"])
        .start(&world.server, &folder);
    server.wait_for("Server listening", PATIENCE);
    let mut pair = pair(&world, &folder, IPERF);
    let mut iperf = Launch::new("iperf3", "iperf3")
        .args(["-c", "127.0.0.1", "-p", "9000", "-t", "45", "-b", "50M", "--forceflush"])
        .start(&world.client, &folder);
    iperf.wait_for("MBytes", PATIENCE);
    for fault in NetworkFault::CYCLE {
        pair.survive(fault, &world);
    }
    assert!(iperf.is_running(), "it was over before the last move");
    assert!(iperf.wait(2 * PATIENCE).success(), "{}", iperf.log());
    iperf.wait_for("receiver", PATIENCE);
}
