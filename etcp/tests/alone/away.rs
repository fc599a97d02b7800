//! A thousand clients behind one address lose their carriers together, and return immediately, or
//! after a minute without a network. A user with another key notices nothing.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use etcp_testkit::netns::Namespace;
use etcp_testkit::wait::until;
use etcp_testkit::{Direction, IpFamily, Sproxy, TestFolder, TestWorld, skip, tell};
use eternaltcp::client::{Client, ClientConfig, Trust};
use eternaltcp::process::raise_descriptor_limit;
use eternaltcp::tls::Identity;
use eternaltcp::{Stream, this_instance};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

const CLIENTS: usize = 1000;

/// A generous limit for the time that all of them need on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

/// The length of an outage. The tunnels are detached for nearly all of it.
const OUTAGE: Duration = Duration::from_secs(60);

/// The time between two sessions of the user who has a network.
const PAUSE: Duration = Duration::from_millis(100);

/// One client, its session, and how much it has carried.
struct RunningClient {
    client: Client,
    application: UnixStream,
    carried: u8,
}

impl RunningClient {
    /// Sends a byte and gets it back.
    async fn echo(&mut self) {
        self.carried = self.carried.wrapping_add(1);
        self.application.write_u8(self.carried).await.expect("the session lives");
        let byte = timeout(LIMIT, self.application.read_u8()).await.expect("the byte comes back");
        assert_eq!(byte.expect("the session lives"), self.carried, "it comes back once");
    }

    /// Opens another session in place of the present one.
    async fn begin(&mut self) {
        let (application, end) = UnixStream::pair().expect("a pair of sockets");
        assert!(self.client.opener().carry(Stream::unix(end), None).await, "the client runs");
        self.application = application;
    }
}

#[test]
fn a_thousand_tunnels_that_come_back_at_once_all_attach_and_leave_no_descriptor() {
    let _turn = crate::turn();
    if !skip::can_run("alone::away", &[]) {
        return;
    }
    raise_descriptor_limit();
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    let runtime = inside(&world.client);
    let target = echo(&runtime, &world.server);
    let sproxy = Sproxy::start_with(&world, &folder, IpFamily::V4, &target, |launch| {
        // A limit on the tunnels' grants, not used memory.
        launch.args(["--memory", "1048576"])
    });
    let [user] = users(&folder, ["user"]);
    let mut clients = start_all(&runtime, &user, CLIENTS);
    let process = &sproxy.process;
    let before = process.descriptors();
    for (round, fault) in ["reset", "silence"].into_iter().enumerate() {
        let attached = attaches(&clients);
        match fault {
            "reset" => world.router.reset_carriers(),
            _ => world.router.forget_carriers(Direction::Both),
        }
        let start = Instant::now();
        let what = format!("{CLIENTS} clients to be attached again after {fault}");
        until(&what, LIMIT, || attaches(&clients) >= attached + CLIENTS as u64);
        tell(&format!("{CLIENTS} clients attached again after {fault} in {:.1?}", start.elapsed()));
        clients = runtime.block_on(echo_all(clients));
        until("sproxy to have its descriptors back", LIMIT, || process.descriptors() <= before);
        let again = attaches(&clients) - CLIENTS as u64;
        assert!(again <= (round as u64 + 1) * 3 * CLIENTS as u64, "{again} attaches: they spin");
    }
    assert!(clients.iter().all(|client| client.client.is_attached()));
    runtime.shutdown_background();
}

#[test]
fn a_thousand_tunnels_of_one_key_live_through_a_minute_without_a_network_beside_another_key() {
    let turn = crate::turn();
    if !skip::can_run("alone::away (a minute)", &[]) {
        return;
    }
    raise_descriptor_limit();
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    let (away, near) = (inside(&world.client), inside(&world.server));
    let target = echo(&near, &world.server);
    let _sproxy = Sproxy::start_with(&world, &folder, IpFamily::V4, &target, |launch| {
        launch.args(["--memory", "1048576"])
    });
    let [many, other] = users(&folder, ["many", "other"]);
    let clients = start_all(&away, &many, CLIENTS);
    let mut others = start_all(&near, &other, 1);
    world.router.blackhole(Direction::Both);
    // The clients only wait now, so other tests may run.
    drop(turn);
    let end = Instant::now() + OUTAGE;
    let mut sessions = 0;
    while Instant::now() < end {
        others = near.block_on(another_session(others));
        sessions += 1;
    }
    tell(&format!("the user of another key had {sessions} sessions meanwhile"));
    // A busy machine may notice later.
    until("all of them to notice", LIMIT, || clients.iter().all(|it| !it.client.is_attached()));
    let _turn = crate::turn();
    world.router.lift_blackhole();
    let start = Instant::now();
    until("all of them to be attached again", LIMIT, || attaches(&clients) >= 2 * CLIENTS as u64);
    tell(&format!("{CLIENTS} clients attached again in {:.1?}", start.elapsed()));
    away.block_on(echo_all(clients));
    // While all of them come back, a busy machine may doubt the carrier for a moment.
    let doubts: u64 = others.iter().map(|other| other.client.statistics().doubts).sum();
    assert!(attaches(&others) <= 1 + doubts, "its carrier has lived all the time");
    away.shutdown_background();
    near.shutdown_background();
}

/// Returns how many times all of them were attached. The server's log leaves lines about one source
/// out.
fn attaches(clients: &[RunningClient]) -> u64 {
    clients.iter().map(|client| client.client.statistics().attaches).sum()
}

/// Creates a runtime whose sockets are all in a namespace.
fn inside(namespace: &Namespace) -> Runtime {
    let enter = namespace.entrance();
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().on_thread_start(enter);
    builder.build().expect("threads can be made")
}

/// Starts a target in a namespace that gives back what comes.
fn echo(runtime: &Runtime, namespace: &Namespace) -> String {
    let listener = etcp_testkit::checked::listen(namespace, "127.0.0.1:0");
    let address = listener.local_addr().expect("it listens").to_string();
    listener.set_nonblocking(true).expect("a flag is set");
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("it listens");
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                // The target ends with the test.
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
        }
    });
    address
}

/// Creates keys with these names, and admits them.
fn users<const N: usize>(folder: &TestFolder, names: [&str; N]) -> [PathBuf; N] {
    let paths = names.map(|name| folder.join(name));
    let mut lines = String::new();
    for path in &paths {
        let user = Identity::load_or_create(path).expect("a key can be made");
        lines += &format!("{}\n", user.public_key());
    }
    std::fs::write(folder.join("authorized_keys"), lines).expect("the folder is ours");
    paths
}

/// Starts clients of one user, on the runtime's own threads, and a session in each.
fn start_all(runtime: &Runtime, user: &Path, count: usize) -> Vec<RunningClient> {
    let (user, begin) = (user.to_owned(), Instant::now());
    let clients = runtime.block_on(async {
        let started = tokio::spawn(async move {
            let mut clients = Vec::new();
            for number in 0..count {
                clients.push(start(&user, number).await);
            }
            echo_all(clients).await
        });
        started.await.expect("every client starts")
    });
    tell(&format!("{count} clients attached in {:.1?}", begin.elapsed()));
    clients
}

async fn start(user: &Path, number: usize) -> RunningClient {
    let identity = Identity::load(user).expect("the key is there");
    let trust = Trust::new(user.with_file_name("known_hosts"));
    let server: eternaltcp::address::ServerAddress = "10.71.9.10:6200".parse().expect("an address");
    let instance = this_instance(format!("client {number}"));
    let config = ClientConfig::new(server.into(), identity, trust, instance);
    let client = Client::start(config).expect("a client starts");
    let (application, end) = UnixStream::pair().expect("a pair of sockets");
    assert!(client.opener().carry(Stream::unix(end), None).await, "the client runs");
    RunningClient { client, application, carried: 0 }
}

/// Uses the session of each client, then opens another one and uses it.
async fn another_session(mut clients: Vec<RunningClient>) -> Vec<RunningClient> {
    sleep(PAUSE).await;
    for client in &mut clients {
        client.echo().await;
        client.begin().await;
    }
    echo_all(clients).await
}

async fn echo_all(clients: Vec<RunningClient>) -> Vec<RunningClient> {
    let echoing = clients.into_iter().map(|mut client| {
        tokio::spawn(async move {
            client.echo().await;
            client
        })
    });
    let echoing: Vec<_> = echoing.collect();
    let mut clients = Vec::new();
    for client in echoing {
        clients.push(client.await.expect("every session lives"));
    }
    clients
}
