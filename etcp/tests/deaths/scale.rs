//! Thousands of sessions, and many tunnels, return after a death; the test reports the cost.
//!
//! ```text
//! ETCP_SESSIONS=5000 ETCP_TUNNELS=1000 cargo test --workspace --test deaths -- scale:: --test-threads=1
//! ```

use std::time::{Duration, Instant};

use etcp_testkit::loopback::{Echo, LoopbackSite, LoopbackSproxy};
use etcp_testkit::tell;
use etcp_testkit::usage::processor_time_of;
use eternaltcp::Session;
use eternaltcp::client::{Client, ClientConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::recovery::{ProxiesAndTarget, exchange};
use super::{Victims, kill_worker, next_worker};

/// Returns the number that an environment variable requests.
fn wanted(variable: &str, usually: usize) -> usize {
    std::env::var(variable).map_or(usually, |it| it.parse().expect("a number"))
}

#[test]
fn thousands_of_idle_sessions_are_back_within_seconds() {
    let count = wanted("ETCP_SESSIONS", 2000);
    eternaltcp::process::raise_descriptor_limit();
    let proxies = ProxiesAndTarget::new();
    let mut sessions: Vec<_> = (0..count).map(|_| proxies.session()).collect();
    for victims in Victims::ALL {
        let programs = victims.among(proxies.programs());
        let before: Vec<_> = programs.iter().map(|program| program.worker()).collect();
        let start = Instant::now();
        victims.kill(proxies.programs());
        for at in [0, count - 1] {
            let [application, target] = &mut sessions[at];
            exchange(application, target);
        }
        let elapsed = start.elapsed();
        let next = programs.iter().zip(before).map(|(program, it)| next_worker(program, it));
        let used: Vec<_> = next.map(processor_time_of).collect();
        tell(&format!(
            "{victims:?}: {count} sessions are back after {elapsed:.2?}, with {used:.2?} of processor time"
        ));
    }
    for [application, target] in &mut sessions {
        exchange(application, target);
    }
    proxies.finish();
}

/// Sends a byte through a session, and waits for it to come back.
async fn go_round(mut session: Session) -> Session {
    session.write_all(b"?").await.expect("the session is up");
    session.read_exact(&mut [0]).await.expect("the session is up");
    session
}

/// Starts a client with one session, which has been used.
async fn start(config: ClientConfig) -> (Client, Session) {
    let client = Client::connect(config).await.expect("the server admits it");
    let session = client.open_default().await.expect("it is attached");
    (client, go_round(session).await)
}

#[test]
fn many_tunnels_are_back_after_the_death_of_their_server() {
    return_of_tunnels(&["--max-startups", "4096:30:4096"]);
}

#[test]
fn many_tunnels_are_back_through_a_door_of_the_usual_width() {
    return_of_tunnels(&[]);
}

/// Lets many clients return to a server with these flags whose worker has died.
fn return_of_tunnels(args: &[&str]) {
    /// Clients that connect at the same time.
    const AT_ONCE: usize = 20;
    let count = wanted("ETCP_TUNNELS", 100);
    eternaltcp::process::raise_descriptor_limit();
    let (site, echo) = (LoopbackSite::new(), Echo::start());
    // All of them come from one address.
    let own = ["--listen", "127.0.0.1:0", "--per-source-max-startups", "4096"];
    let args = [&own[..], args].concat();
    let sproxy = LoopbackSproxy::with(&site, echo.address, &args, None);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("there are threads");
    let server = sproxy.address.to_string();
    let make = || {
        ClientConfig::with_files(&server, &site.client.path, &site.known_hosts())
            .expect("the files are there")
    };
    let (clients, sessions): (Vec<_>, Vec<_>) = runtime.block_on(async {
        let mut all = Vec::new();
        while all.len() < count {
            let mut starting = JoinSet::new();
            (all.len()..count).take(AT_ONCE).for_each(|_| drop(starting.spawn(start(make()))));
            all.extend(starting.join_all().await);
        }
        all.into_iter().unzip()
    });
    let begun = Instant::now();
    let worker = kill_worker(&sproxy.program);
    let sessions = runtime.block_on(async {
        let mut going = JoinSet::new();
        sessions.into_iter().for_each(|session| drop(going.spawn(go_round(session))));
        going.join_all().await
    });
    let elapsed = begun.elapsed();
    let used: Duration = processor_time_of(next_worker(&sproxy.program, worker));
    assert_eq!(sessions.len(), count);
    tell(&format!(
        "{count} tunnels are back after {elapsed:.2?}, with {used:.2?} of processor time ({args:?})"
    ));
    let line = format!("continuing with {count} tunnels and {count} sessions");
    assert_eq!(sproxy.program.count(&line), 1, "{}", sproxy.program.log());
    drop(sessions);
    let _inside = runtime.enter();
    drop(clients);
}
