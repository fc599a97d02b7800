//! Resolves a server's name, off the data path.
//!
//! getaddrinfo(3) may take many seconds and cannot be cancelled, while dials start several times a
//! second. Therefore dials share a running look-up.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::DialError;
use crate::address::ServerAddress;
use crate::net::race::in_turns;

/// Time that a dial waits for a name.
const PATIENCE: Duration = Duration::from_secs(10);

/// Age after which a look-up is no longer joined: it may query the servers of a network that was
/// left.
const FRESH: Duration = Duration::from_secs(5);

/// The maximum number of concurrent look-ups of one name. Further dials share the newest one.
const MAX_RUNNING: usize = 4;

/// A look-up of one name.
pub(super) type Resolve = dyn Fn(ServerAddress) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>
    + Send
    + Sync;

/// The result of a look-up, for every dial that waits for it.
type LookupResult = Result<Vec<SocketAddr>, (io::ErrorKind, String)>;

/// Resolves names.
pub(super) struct NameCache {
    lookup: Arc<Resolve>,
    running: Mutex<Vec<Running>>,
}

/// A running look-up; the newest of a name is last.
struct Running {
    server: ServerAddress,
    since: Instant,
    answer: watch::Receiver<Option<LookupResult>>,
}

impl Default for NameCache {
    /// Uses the system's name services: its hosts file, DNS, and others.
    fn default() -> Self {
        Self::new(Arc::new(|server| {
            Box::pin(async move {
                Ok(lookup_host((server.host.as_str(), server.port)).await?.collect())
            })
        }))
    }
}

impl fmt::Debug for NameCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names")
    }
}

impl NameCache {
    pub(super) fn new(lookup: Arc<Resolve>) -> Self {
        Self { lookup, running: Mutex::default() }
    }

    /// Returns the addresses of a server, in the order to dial them.
    pub(super) async fn resolve(
        &self,
        server: &ServerAddress,
    ) -> Result<Vec<SocketAddr>, DialError> {
        let mut answer = self.join(server);
        let failed = |error| DialError::Resolve(server.host.clone(), error);
        let found = timeout(PATIENCE, answer.wait_for(Option::is_some)).await;
        let found = found.map_err(|_| {
            failed(io::Error::new(io::ErrorKind::TimedOut, "the name servers do not answer"))
        })?;
        match found.as_deref() {
            Ok(Some(Ok(addresses))) => Ok(in_turns(addresses.clone())),
            Ok(Some(Err((kind, text)))) => Err(failed(io::Error::new(*kind, text.clone()))),
            Ok(None) | Err(_) => Err(failed(io::Error::other("the look-up ended early"))),
        }
    }

    /// Joins a look-up of this name, or starts one.
    fn join(&self, server: &ServerAddress) -> watch::Receiver<Option<LookupResult>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|it| it.answer.borrow().is_none() && it.answer.has_changed().is_ok());
        let mine = running.iter().rev().filter(|it| it.server == *server);
        let is_full = mine.clone().count() >= MAX_RUNNING;
        let joined = mine.clone().find(|it| is_full || it.since.elapsed() < FRESH);
        if let Some(joined) = joined {
            return joined.answer.clone();
        }
        let (sender, answer) = watch::channel(None);
        let lookup = (self.lookup)(server.clone());
        tokio::spawn(async move {
            let found = lookup.await.map_err(|error| (error.kind(), error.to_string()));
            // The requester may be gone.
            let _ = sender.send(Some(found));
        });
        let (server, since) = (server.clone(), Instant::now());
        running.push(Running { server, since, answer: answer.clone() });
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    fn parse(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// Returns names whose look-ups are counted, and end when told to.
    fn held() -> (Arc<NameCache>, Arc<AtomicUsize>, Arc<Notify>) {
        let (count, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (counter, gate) = (Arc::clone(&count), Arc::clone(&go));
        let names = NameCache::new(Arc::new(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            let gate = Arc::clone(&gate);
            Box::pin(async move {
                gate.notified().await;
                Ok(vec![parse("192.0.2.1:1")])
            })
        }));
        (Arc::new(names), count, go)
    }

    #[tokio::test(start_paused = true)]
    async fn dials_share_a_look_up_that_is_under_way() {
        let (names, count, go) = held();
        let server: ServerAddress = "example.org".parse().unwrap();
        let (first, second) = (names.join(&server), names.join(&server));
        assert_eq!(count.load(Ordering::Relaxed), 1);
        drop(names.join(&"example.net".parse().unwrap()));
        assert_eq!(count.load(Ordering::Relaxed), 2, "another name is another look-up");
        go.notify_waiters();
        tokio::task::yield_now().await;
        go.notify_waiters();
        for mut answer in [first, second] {
            assert!(answer.wait_for(Option::is_some).await.unwrap().as_ref().unwrap().is_ok());
        }
        drop(names.join(&server));
        assert_eq!(count.load(Ordering::Relaxed), 3, "an answer is not kept");
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_up_that_hangs_is_replaced_a_few_times() {
        let (names, count, _go) = held();
        let server: ServerAddress = "example.org".parse().unwrap();
        for _ in 0..20 {
            let error = names.resolve(&server).await.unwrap_err();
            assert!(error.to_string().starts_with("cannot resolve example.org yet: "), "{error}");
        }
        assert_eq!(count.load(Ordering::Relaxed), MAX_RUNNING);
    }

    #[tokio::test]
    async fn an_address_needs_no_look_up_and_keeps_its_scope() {
        let names = NameCache::default();
        let found = names.resolve(&"192.0.2.1:7".parse().unwrap()).await.unwrap();
        assert_eq!(found, [parse("192.0.2.1:7")]);
    }
}
