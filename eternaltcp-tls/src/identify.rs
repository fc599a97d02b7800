//! Asks a server for its key, and ends before this side has shown anything: for a diagnosis.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::handshake::{receive, send};
use super::handshake_off_path;
use super::{ClientTls, Connection, HandshakeError, Identity, Judgement, PublicKey, TlsError};

/// The extension that pads a first message (`padding`, RFC 7685).
const PADDING: [u8; 2] = [0, 21];

/// The bytes of the headers in front of a first message: those of its record and of the message
/// itself (RFC 8446, sections 4 and 5.1).
const RECORD_HEADER: usize = 5;
const MESSAGE_HEADER: usize = 4;

/// The longest first message that is made here; it fits into one record.
const MAX_HELLO: usize = 16 * 1024;

/// Lets the server behind `stream` prove its key, and ends the handshake there. It sees no key of
/// this side, and learns that its own was not trusted.
///
/// # Errors
/// It proves no key: see [`HandshakeError`].
pub async fn identify(stream: &TcpStream, patience: Duration) -> Result<PublicKey, HandshakeError> {
    let shown = Arc::new(Mutex::new(None));
    let place = Arc::clone(&shown);
    let judgement: Judgement = Arc::new(move |key: &PublicKey| {
        *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(key.clone());
        false
    });
    let connection = Connection::client(&stranger()?.judging(judgement))?;
    let result = handshake_off_path(stream, connection, patience).await;
    let shown = shown.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (shown, result) {
        (Some(key), _) => Ok(key),
        (None, Err(error)) => Err(error),
        (None, Ok(_)) => Err(TlsError::NotEstablished.into()),
    }
}

/// Sends a first message of about `size` bytes, and returns whether the server answers at all.
/// Large packets of an answerless connection may have been lost on the way.
///
/// # Errors
/// The connection fails.
pub async fn answers_hello(
    stream: &TcpStream,
    size: usize,
    patience: Duration,
) -> Result<bool, HandshakeError> {
    let mut connection = Connection::client(&stranger()?)?;
    let mut hello = Vec::new();
    connection.process(&mut BytesMut::new(), &mut hello, &mut Vec::new())?;
    let mut hello = padded(&hello, size);
    let answered = async {
        send(stream, &mut hello).await?;
        receive(stream, &mut BytesMut::new()).await
    };
    match timeout(patience, answered).await {
        Ok(Ok(())) => Ok(true),
        Ok(Err(HandshakeError::Io(error))) if error.kind() == io::ErrorKind::TimedOut => Ok(false),
        Ok(Err(error)) => Err(error),
        Err(_) => Ok(false),
    }
}

/// Returns the configuration of a client that nobody knows.
fn stranger() -> Result<ClientTls, TlsError> {
    let identity = Identity::generate().map_err(|error| TlsError::Internal(error.to_string()))?;
    ClientTls::new(&identity)
}

/// Returns a first message with padding at its end, so that it has `size` bytes with its headers.
/// A message that is long enough, or has an unexpected form, is returned unchanged.
fn padded(hello: &[u8], size: usize) -> Vec<u8> {
    let extensions = extensions_at(hello);
    let more = size.min(MAX_HELLO).checked_sub(hello.len() + 2 * PADDING.len());
    let (Some(at), Some(more)) = (extensions, more) else { return hello.to_vec() };
    let mut padded = hello.to_vec();
    padded.extend(PADDING);
    padded.extend((more as u16).to_be_bytes());
    padded.resize(padded.len() + more, 0);
    // The lengths of the record, of the message (its low bytes) and of all extensions.
    for (position, end) in [(3, RECORD_HEADER), (RECORD_HEADER + 2, 9), (at, at + 2)] {
        let length = (padded.len() - end) as u16;
        padded[position..position + 2].copy_from_slice(&length.to_be_bytes());
    }
    padded
}

/// Returns the position of the length of all extensions in a first message (RFC 8446, section
/// 4.1.2).
fn extensions_at(hello: &[u8]) -> Option<usize> {
    // Behind the headers: the version and the random bytes.
    let mut at = RECORD_HEADER + MESSAGE_HEADER + 2 + 32;
    at += 1 + usize::from(*hello.get(at)?);
    at += 2 + usize::from(u16::from_be_bytes([*hello.get(at)?, *hello.get(at + 1)?]));
    at += 1 + usize::from(*hello.get(at)?);
    let length = usize::from(u16::from_be_bytes([*hello.get(at)?, *hello.get(at + 1)?]));
    (at + 2 + length == hello.len()).then_some(at)
}
