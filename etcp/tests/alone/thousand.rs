//! A thousand clients behind one address lose their carriers at once, and come back.

use std::path::Path;
use std::time::{Duration, Instant};

use etcp_testkit::netns::Namespace;
use etcp_testkit::wait::until;
use etcp_testkit::{Direction, Family, Folder, Sproxy, World, skip, tell};
use eternaltcp::client::{Client, ClientConfig, Trust};
use eternaltcp::tls::Identity;
use eternaltcp::{Slots, Stream, this_instance};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

const CLIENTS: usize = 1000;

/// A generous limit for the time that all of them need on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// One client, its session, and how much it has carried.
struct Guest {
    client: Client,
    application: UnixStream,
    carried: u8,
}

impl Guest {
    /// Echoes a byte.
    async fn echo(&mut self) {
        self.carried = self.carried.wrapping_add(1);
        self.application.write_u8(self.carried).await.expect("the session lives");
        let byte = self.application.read_u8().await.expect("the session lives");
        assert_eq!(byte, self.carried, "the byte that was sent comes back, once");
    }
}

#[test]
fn a_thousand_tunnels_that_come_back_at_once_all_attach_and_leave_no_descriptor() {
    let _turn = crate::turn();
    if !skip::can_run("alone::thousand", &[]) {
        return;
    }
    // Raises this process's own limit of descriptors as well.
    Slots::from_limit().expect("there are descriptors");
    let (world, folder) = (World::new(), Folder::new());
    let runtime = inside(&world.client);
    let target = echo(&runtime, &world.server);
    let sproxy = Sproxy::start_with(&world, &folder, Family::V4, &target, |launch| {
        // A limit on the tunnels' grants, not used memory.
        launch.args(["--memory", "1048576"])
    });
    let user = user(&folder);
    let start = Instant::now();
    let mut guests = runtime.block_on(async {
        let path = folder.path().to_owned();
        let started = tokio::spawn(async move { start_all(&user, &path).await });
        started.await.expect("every client starts")
    });
    tell(&format!("{CLIENTS} clients attached in {:.1?}", start.elapsed()));
    let process = &sproxy.process;
    let before = process.descriptors();
    for (round, fault) in ["reset", "silence"].into_iter().enumerate() {
        let attached = attaches(&guests);
        match fault {
            "reset" => world.router.reset_carriers(),
            _ => world.router.forget_carriers(Direction::Both),
        }
        let start = Instant::now();
        let what = format!("{CLIENTS} clients to be attached again after {fault}");
        until(&what, LIMIT, || attaches(&guests) >= attached + CLIENTS as u64);
        tell(&format!("{CLIENTS} clients attached again after {fault} in {:.1?}", start.elapsed()));
        guests = runtime.block_on(echo_all(guests));
        until("sproxy to have its descriptors back", LIMIT, || process.descriptors() <= before);
        let again = attaches(&guests) - CLIENTS as u64;
        assert!(again <= (round as u64 + 1) * 3 * CLIENTS as u64, "{again} attaches: they spin");
    }
    assert!(guests.iter().all(|guest| guest.client.is_attached()));
    runtime.shutdown_background();
}

/// Returns how many times all of them were attached. The server's log leaves lines about one source
/// out.
fn attaches(guests: &[Guest]) -> u64 {
    guests.iter().map(|guest| guest.client.history().attaches).sum()
}

/// A runtime whose sockets are all in a namespace.
fn inside(namespace: &Namespace) -> Runtime {
    let enter = namespace.entrance();
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().on_thread_start(enter);
    builder.build().expect("threads can be made")
}

/// A target in a namespace that gives back what comes.
fn echo(runtime: &Runtime, namespace: &Namespace) -> String {
    let listener = etcp_testkit::checked::listen(namespace, "127.0.0.1:0");
    let address = listener.local_addr().expect("it listens").to_string();
    listener.set_nonblocking(true).expect("a flag is set");
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("it listens");
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                // Its end is that of the test.
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
        }
    });
    address
}

/// Returns the key of all clients, which is admitted.
fn user(folder: &Folder) -> std::path::PathBuf {
    let path = folder.join("user");
    let user = Identity::load_or_create(&path).expect("a key can be made");
    let line = format!("{}\n", user.public_key());
    std::fs::write(folder.join("authorized_keys"), line).expect("the folder is ours");
    path
}

async fn start_all(user: &Path, folder: &Path) -> Vec<Guest> {
    let mut guests = Vec::new();
    for n in 0..CLIENTS {
        let identity = Identity::load(user).expect("the key is there");
        let trust = Trust::new(folder.join("known_hosts"));
        let server: eternaltcp::address::Server = "10.71.9.10:6200".parse().expect("an address");
        let instance = this_instance(format!("guest {n}"));
        let config = ClientConfig::new(server.into(), identity, trust, instance);
        let client = Client::start(config).expect("a client starts");
        let (application, end) = UnixStream::pair().expect("a pair of sockets");
        assert!(client.opener().carry(Stream::unix(end), None).await, "the client runs");
        guests.push(Guest { client, application, carried: 0 });
    }
    echo_all(guests).await
}

async fn echo_all(guests: Vec<Guest>) -> Vec<Guest> {
    let echoing = guests.into_iter().map(|mut guest| {
        tokio::spawn(async move {
            guest.echo().await;
            guest
        })
    });
    let echoing: Vec<_> = echoing.collect();
    let mut guests = Vec::new();
    for guest in echoing {
        guests.push(guest.await.expect("every session lives"));
    }
    guests
}
