//! Connecting to a target, on whichever side it is.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use eternaltcp_proto::{Cause, Reset};
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::time::timeout;

use crate::address::Target;
use crate::lookup::{Lookups, User};
use crate::stream::{Stream, prepare};
use crate::unix;

/// What is to be reached.
pub(crate) struct Reach<'a> {
    pub(crate) target: &'a Target,
    /// What the target is told before the first byte of the session.
    pub(crate) header: &'a [u8],
    /// The time to do all that.
    pub(crate) patience: Duration,
    /// Who looks its name up, and for whom.
    pub(crate) lookups: &'a Lookups,
    pub(crate) user: &'a User,
}

/// Connects to a target; one that is slow counts as none. Of the addresses of
/// a name only those are dialled that `choose` leaves.
pub(crate) async fn reach(
    wanted: Reach<'_>,
    choose: impl FnOnce(Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Reset>,
) -> Result<Stream, Reset> {
    match timeout(wanted.patience, connect(&wanted, choose)).await {
        Ok(result) => result,
        Err(_) => Err(Reset::with_detail(Cause::TimedOut, wanted.target.to_string())),
    }
}

async fn connect(
    wanted: &Reach<'_>,
    choose: impl FnOnce(Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Reset>,
) -> Result<Stream, Reset> {
    let Reach { target, header, lookups, user, .. } = wanted;
    let failed =
        |error: io::Error| Reset::with_detail(cause_of(&error), format!("{target}: {error}"));
    match target {
        Target::Unix(path) => {
            let mut stream = unix::connect(path).await.map_err(failed)?;
            stream.write_all(header).await.map_err(failed)?;
            Ok(Stream::unix(stream))
        }
        Target::Tcp { host, port } => {
            let addresses = choose(lookups.resolve(user, host, *port).await?)?;
            let stream = first(&addresses).await.map_err(failed)?;
            stream.write_all(header).await.map_err(failed)?;
            Ok(stream)
        }
    }
}

/// Connects to the first address that answers. A connection that is given up on
/// the way ends with a reset.
pub(crate) async fn first(addresses: &[SocketAddr]) -> io::Result<Stream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match dial(*address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
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
