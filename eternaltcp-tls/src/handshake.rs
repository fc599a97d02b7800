//! The handshake over a real socket, with a deadline and little memory, because the peer may be
//! anyone.

use std::io;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::{Connection, PublicKey, TlsError};

/// The maximum number of bytes that are read at once. A complete honest handshake fits.
const READ: usize = 4096;

/// The record `change_cipher_spec` of TLS 1.3, which has no meaning.
const CHANGE_CIPHER_SPEC: [u8; 6] = [20, 3, 3, 0, 1, 1];

/// The result of a finished handshake.
#[derive(Debug)]
pub struct Handshaken {
    /// The key that the peer has proved to own.
    pub peer: PublicKey,
    /// Data that arrived with the end of the handshake: the first of the stream.
    pub early: Vec<Bytes>,
}

/// The reason why the handshake failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The deadline passed.
    #[error("the TLS handshake was not done in time: the peer is slow, or does not speak TLS")]
    TimedOut,
    /// The peer closed the connection.
    #[error("the peer closed the connection during the TLS handshake")]
    Ended,
    /// The socket failed.
    #[error("the connection failed during the TLS handshake: {0}")]
    Io(#[from] io::Error),
    /// TLS failed.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl HandshakeError {
    /// Returns whether the peer's machine went silent: the path may have died.
    pub fn is_silence(&self) -> bool {
        match self {
            Self::TimedOut => true,
            Self::Io(error) => error.kind() == io::ErrorKind::TimedOut,
            Self::Ended | Self::Tls(_) => false,
        }
    }
}

/// Drives a new `connection` through its handshake over `stream`.
///
/// `incoming` should be empty and needs no capacity. After success it holds the front of an
/// incomplete record, if any, and must be used for the following reads. If the future is dropped
/// before its end, drop the connection and the stream with it: bytes of the handshake may be lost.
///
/// # Errors
/// See [`HandshakeError`]. An alert that explains a failure is written to the socket once, without
/// waiting.
pub async fn handshake(
    stream: &TcpStream,
    connection: &mut Connection,
    incoming: &mut BytesMut,
    deadline: Instant,
) -> Result<Handshaken, HandshakeError> {
    timeout_at(deadline, drive(stream, connection, incoming))
        .await
        .map_err(|_| HandshakeError::TimedOut)?
}

/// The deadlines of a stranger for its parts of a handshake.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// The deadline for its first message.
    pub hello: Instant,
    /// The deadline for its answer to this side's part, or for a sign that it received that part.
    pub answer: Instant,
    /// The deadline for its answer after such a sign: its agent may have to ask its user.
    pub signature: Instant,
}

/// Performs the handshake with a stranger, which gets more time only after a sign of life. A client
/// that cannot sign at once sends what TLS permits before its signature: the `change_cipher_spec`
/// of RFC 8446, appendix D.4, after the server's hello. `asks` is called then.
pub async fn handshake_of_stranger(
    stream: &TcpStream,
    connection: &mut Connection,
    incoming: &mut BytesMut,
    deadlines: Deadlines,
    asks: impl FnOnce(),
) -> Result<Handshaken, HandshakeError> {
    let until_said = async {
        let (mut outgoing, mut early) = (Vec::new(), Vec::new());
        while outgoing.is_empty() {
            receive(stream, incoming).await?;
            connection
                .process(incoming, &mut outgoing, &mut early)
                .inspect_err(|_| offer(stream, &outgoing))?;
        }
        send(stream, &mut outgoing).await
    };
    let late = |_| HandshakeError::TimedOut;
    timeout_at(deadlines.hello, until_said).await.map_err(late)??;
    timeout_at(deadlines.answer, wait_for_answer(stream, incoming)).await.map_err(late)??;
    let until = if is_change_cipher_spec(incoming) {
        asks();
        deadlines.signature
    } else {
        deadlines.answer
    };
    handshake(stream, connection, incoming, until).await
}

/// Waits for input that is neither empty nor the front of a `change_cipher_spec`.
async fn wait_for_answer(
    stream: &TcpStream,
    incoming: &mut BytesMut,
) -> Result<(), HandshakeError> {
    while incoming.len() < CHANGE_CIPHER_SPEC.len() {
        receive(stream, incoming).await?;
    }
    Ok(())
}

/// Returns whether exactly this record arrived.
fn is_change_cipher_spec(incoming: &[u8]) -> bool {
    incoming == CHANGE_CIPHER_SPEC
}

/// Drives a client's connection through its handshake, with blocking calls on a thread of their
/// own: checking the server may read files and ask the user, and an agent may be slow to sign. If
/// that is expected, [`Connection::pause_to_send`] tells the server that the rest will follow.
///
/// `patience` limits the peer's time; the time that this side needs does not count. A dropped
/// future leaves that thread waiting.
pub async fn handshake_off_path(
    stream: &TcpStream,
    mut connection: Connection,
    patience: Duration,
) -> Result<(Connection, BytesMut, Handshaken), HandshakeError> {
    let mut deadline = Instant::now() + patience;
    let late = |_| HandshakeError::TimedOut;
    let mut incoming = BytesMut::new();
    let (mut early, mut outgoing) = (Vec::new(), Vec::new());
    loop {
        let started = Instant::now();
        let step = tokio::task::spawn_blocking(move || {
            let result = connection.process(&mut incoming, &mut outgoing, &mut early);
            (connection, incoming, outgoing, early, result)
        });
        let failed = |error| HandshakeError::Io(io::Error::other(error));
        let result;
        (connection, incoming, outgoing, early, result) = step.await.map_err(failed)?;
        deadline += started.elapsed();
        let status = result.inspect_err(|_| offer(stream, &outgoing))?;
        timeout_at(deadline, send(stream, &mut outgoing)).await.map_err(late)??;
        if status.handshake_done {
            let peer = connection.peer_key().ok_or(TlsError::NotEstablished)?;
            return Ok((connection, incoming, Handshaken { peer, early }));
        }
        if !connection.is_paused() {
            timeout_at(deadline, receive(stream, &mut incoming)).await.map_err(late)??;
        }
    }
}

async fn drive(
    stream: &TcpStream,
    connection: &mut Connection,
    incoming: &mut BytesMut,
) -> Result<Handshaken, HandshakeError> {
    let mut outgoing = Vec::new();
    let mut early = Vec::new();
    loop {
        let status = connection
            .process(incoming, &mut outgoing, &mut early)
            .inspect_err(|_| offer(stream, &outgoing))?;
        send(stream, &mut outgoing).await?;
        if status.handshake_done {
            let peer = connection.peer_key().ok_or(TlsError::NotEstablished)?;
            return Ok(Handshaken { peer, early });
        }
        receive(stream, incoming).await?;
    }
}

/// Writes all of `outgoing`.
pub(super) async fn send(stream: &TcpStream, outgoing: &mut Vec<u8>) -> Result<(), HandshakeError> {
    let mut sent = 0;
    while sent < outgoing.len() {
        stream.writable().await?;
        match stream.try_write(&outgoing[sent..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    outgoing.clear();
    Ok(())
}

/// Reads the available bytes, at least one and at most [`READ`].
pub(super) async fn receive(
    stream: &TcpStream,
    incoming: &mut BytesMut,
) -> Result<(), HandshakeError> {
    loop {
        stream.readable().await?;
        incoming.reserve(READ);
        match stream.try_read_buf(&mut incoming.limit(READ)) {
            Ok(0) => return Err(HandshakeError::Ended),
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Tries once to send the reason.
fn offer(stream: &TcpStream, alert: &[u8]) {
    if !alert.is_empty() {
        // The connection ends anyway.
        let _ = stream.try_write(alert);
    }
}
