//! The other end of a control socket: for `etcp status` and the like.

use std::fs::Metadata;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use super::message::{Answer, Fault, Reply, Request};
use eternaltcp_sys::unix::connect_blocking;

/// A proxy that says nothing for this long hangs, or is no proxy.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of the longest answer that is read: a hundred thousand sessions fit.
const MAX_ANSWER: u64 = 64 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens there.
    #[error("nothing is running there")]
    Gone,
    /// There is something else than a socket.
    #[error("it is not a socket: name a proxy's control socket, which its log tells")]
    NoSocket,
    /// No socket can have such a path (unix(7)).
    #[error("the path is longer than a socket's may be (107 bytes)")]
    TooLong,
    /// Another user's socket.
    #[error("it is another user's: permission denied")]
    Denied,
    /// It does not answer.
    #[error("it does not answer")]
    Silent,
    /// The connection failed.
    #[error("{0}")]
    Io(io::Error),
    /// What came is no answer.
    #[error("what it answers is not understood: {0}")]
    NoAnswer(String),
    /// It will not.
    #[error("{0}")]
    Refused(Fault),
}

impl From<io::Error> for AskError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Self::Gone,
            // Nothing else of a path is wrong by itself.
            io::ErrorKind::InvalidInput => Self::TooLong,
            io::ErrorKind::PermissionDenied => Self::Denied,
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Silent,
            _ => Self::Io(error),
        }
    }
}

/// Asks the proxy at `path`. Blocks for some seconds at most.
///
/// # Errors
/// When there is no proxy, when it does not answer in time, and when it refuses.
pub fn ask(path: &Path, request: &Request) -> Result<Answer, AskError> {
    let is_other = |found: Metadata| !found.file_type().is_socket();
    if path.metadata().is_ok_and(is_other) {
        return Err(AskError::NoSocket);
    }
    let mut stream = connect_blocking(path, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // Who has no place for us may have closed already, and said why.
    let sent = stream.write_all(request.line().as_bytes());
    let mut line = Vec::new();
    let read = BufReader::new((&stream).take(MAX_ANSWER)).read_until(b'\n', &mut line);
    if line.is_empty() {
        sent?;
        read?;
        return Err(AskError::NoAnswer("it closed the connection".to_owned()));
    }
    let reply: Reply =
        serde_json::from_slice(&line).map_err(|error| AskError::NoAnswer(error.to_string()))?;
    match reply.answer {
        Answer::Error(fault) => Err(AskError::Refused(fault)),
        answer => Ok(answer),
    }
}
