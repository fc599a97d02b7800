//! Connects to a target, on either side.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eternaltcp_proto::{Cause, Reset};
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::address::Target;
use crate::net::lookup::{Lookups, User};
use crate::net::race::{in_turns, race};
use crate::net::slots::{SlotGuard, Slots};
use crate::net::stream::{Stream, prepare};
use eternaltcp_sys::unix;

/// The target of one attempt, and its conditions.
pub(crate) struct Reach<'a> {
    pub(crate) target: &'a Target,
    /// The bytes that the target gets before the first byte of the session.
    pub(crate) header: &'a [u8],
    /// Time allowed for all of this.
    pub(crate) patience: Duration,
    /// The look-ups, and the user on whose behalf the name is looked up.
    pub(crate) lookups: &'a Lookups,
    pub(crate) user: &'a User,
    pub(crate) places: AttemptSlots,
}

/// The descriptors' places for the attempts of one session.
#[derive(Clone)]
pub(crate) struct AttemptSlots {
    /// The session's own place, which the first attempt uses.
    own: Arc<Mutex<Option<SlotGuard>>>,
    /// The pool from which each further attempt takes its place.
    further: Slots,
}

impl AttemptSlots {
    pub(crate) fn new(own: SlotGuard, further: Slots) -> Self {
        Self { own: Arc::new(Mutex::new(Some(own))), further }
    }

    /// Returns the place for one attempt. A further attempt waits for one, and holds nothing
    /// meanwhile.
    async fn take(&self) -> SlotGuard {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner).take();
        match own {
            Some(own) => own,
            None => self.further.take().await,
        }
    }
}

/// Connects to a target within a time limit. Of the addresses of a name, only those that `choose`
/// returns are dialled.
pub(crate) async fn reach(
    wanted: Reach<'_>,
    choose: impl FnOnce(Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Reset>,
) -> Result<Stream, Reset> {
    let Reach { target, header, lookups, user, places, patience } = wanted;
    let deadline = Instant::now() + patience;
    let failed =
        |error: io::Error| Reset::with_detail(cause_of(&error), format!("{target}: {error}"));
    let late = || Reset::with_detail(Cause::TimedOut, target.to_string());
    let (host, port) = match target {
        Target::Unix(path) => {
            let connected = timeout_at(deadline, connect_unix(path, header)).await;
            let stream = connected.map_err(|_| late())?.map_err(failed)?;
            return Ok(stream.with_slot(places.take().await));
        }
        Target::Tcp { host, port } => (host, *port),
    };
    let found = timeout_at(deadline, lookups.resolve(user, host, port)).await;
    let addresses = in_turns(choose(found.map_err(|_| late())??)?);
    let stream = match first(addresses, deadline, places).await {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(late()),
        result => result.map_err(failed)?,
    };
    let sent = timeout_at(deadline, stream.write_all(header)).await;
    sent.map_err(|_| late())?.map_err(failed)?;
    Ok(stream)
}

async fn connect_unix(path: &std::path::Path, header: &[u8]) -> io::Result<Stream> {
    let mut stream = unix::connect(path).await?;
    stream.write_all(header).await?;
    Ok(Stream::unix(stream))
}

/// Connects to the first address that answers before the deadline. All of them race, so that silent
/// ones delay the others only by a fraction of a second. An abandoned connection ends with a reset.
pub(crate) async fn first(
    addresses: Vec<SocketAddr>,
    deadline: Instant,
    places: AttemptSlots,
) -> io::Result<Stream> {
    let attempt = |address| {
        let places = places.clone();
        // Each attempt observes the deadline, so that an earlier failure is reported.
        async move {
            let dialled = timeout_at(deadline, async {
                let place = places.take().await;
                Ok(dial(address).await?.with_slot(place))
            });
            dialled.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        }
    };
    let result = race(addresses, JoinSet::new(), attempt).await;
    result.map_err(|error| error.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
}

async fn dial(address: SocketAddr) -> io::Result<Stream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    prepare(&SockRef::from(&socket))?;
    socket.connect(address).await.map(Stream::prepared)
}

pub(crate) fn cause_of(error: &io::Error) -> Cause {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Cause::Refused,
        io::ErrorKind::TimedOut => Cause::TimedOut,
        _ => Cause::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;
    use eternaltcp_sys::testport::refused;

    /// Returns an address that does not answer: its listener's queue is full.
    fn silent() -> (TcpListener, std::net::TcpStream, SocketAddr) {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        socket.bind(&any.into()).unwrap();
        socket.listen(0).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        // The queue has one place. It is taken once there is a connection to accept.
        let filling = std::net::TcpStream::connect(address).unwrap();
        let mut waiting = [PollFd::new(&listener, PollFlags::IN)];
        assert_eq!(poll(&mut waiting, None), Ok(1));
        (listener, filling, address)
    }

    fn live() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn places(further: &Slots) -> AttemptSlots {
        AttemptSlots::new(further.try_take().unwrap(), further.clone())
    }

    async fn within(patience: u64, addresses: &[SocketAddr], slots: &Slots) -> io::Result<Stream> {
        let deadline = Instant::now() + Duration::from_millis(patience);
        first(addresses.to_vec(), deadline, places(slots)).await
    }

    #[tokio::test]
    async fn a_silent_address_does_not_hold_up_one_that_answers() {
        let slots = Slots::new(9, 0);
        let (_silent, _filling, silent) = silent();
        let (_live, live) = live();
        drop(within(60_000, &[silent, live], &slots).await.unwrap());
        // Attempts that lost the race release their places.
        let mut all = Vec::new();
        for _ in 0..9 {
            all.push(slots.take().await);
        }
    }

    #[tokio::test]
    async fn an_attempt_without_a_place_waits_for_one() {
        let slots = Slots::new(1, 0);
        let (_silent, _filling, silent) = silent();
        let (_live, live) = live();
        let error = within(600, &[silent, live], &slots).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        within(60_000, &[refused(), live], &slots).await.unwrap();
    }

    // The clock moves only when nothing else can happen: a refusal is never too late.
    #[tokio::test(start_paused = true)]
    async fn the_most_specific_failure_is_reported() {
        let slots = Slots::new(9, 0);
        let (_silent, _filling, silent) = silent();
        for addresses in [[silent, refused()], [refused(), silent]] {
            let error = within(2_000, &addresses, &slots).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
        let error = within(600, &[], &slots).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    }
}
