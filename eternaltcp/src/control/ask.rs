//! The client of a control socket, for `etcp status` and similar commands.

use std::fs::Metadata;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::message::{Fault, Reply, Request, Response};
use eternaltcp_sys::unix::connect_blocking;

/// A proxy that sends nothing for this long hangs, or is not a proxy.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest time for a whole answer. A program that sends a byte now and then is not a proxy.
const WHOLE: Duration = Duration::from_secs(20);

/// Time after which the process that was asked is gone, if it died as it answered.
const RESTART: Duration = Duration::from_millis(100);

/// The longest answer that is read, in bytes: a hundred thousand sessions fit.
const MAX_ANSWER: u64 = 64 << 20;

/// The reason why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// Nothing listens there.
    #[error("nothing is running there")]
    Gone,
    /// The file is not a socket.
    #[error("it is not a socket: name a proxy's control socket, which its log names")]
    NoSocket,
    /// No socket can have a path of this length (unix(7)).
    #[error("the path is longer than a socket's may be (107 bytes)")]
    TooLong,
    /// The socket belongs to another user.
    #[error("it is another user's: permission denied")]
    Denied,
    /// The proxy does not answer.
    #[error("it does not answer")]
    Silent,
    /// The connection failed.
    #[error("{0}")]
    Io(io::Error),
    /// The received data are not an answer.
    #[error("its answer is not understood: {0}")]
    NoAnswer(String),
    /// The proxy refuses.
    #[error("{0}")]
    Refused(Fault),
}

impl From<io::Error> for AskError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Self::Gone,
            // A path has no other fault by itself.
            io::ErrorKind::InvalidInput => Self::TooLong,
            io::ErrorKind::PermissionDenied => Self::Denied,
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Silent,
            _ => Self::Io(error),
        }
    }
}

/// Sends a request to the proxy at `path`. Blocks for at most some seconds.
///
/// A proxy may die as it answers. Its next process answers at the same socket, so a request that may
/// be repeated is sent once more.
///
/// # Errors
/// There is no proxy, it does not answer in time, or it refuses.
pub fn ask(path: &Path, request: &Request) -> Result<Response, AskError> {
    let is_repeatable = matches!(request, Request::Status {} | Request::Drain { .. });
    match ask_once(path, request) {
        Err(AskError::NoAnswer(_) | AskError::Io(_)) if is_repeatable => {
            sleep(RESTART);
            ask_once(path, request)
        }
        result => result,
    }
}

fn ask_once(path: &Path, request: &Request) -> Result<Response, AskError> {
    let is_other = |found: Metadata| !found.file_type().is_socket();
    if path.metadata().is_ok_and(is_other) {
        return Err(AskError::NoSocket);
    }
    let mut stream = connect_blocking(path, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // A proxy without a free place may have sent its reason and closed already.
    let sent = stream.write_all(request.line().as_bytes());
    let mut line = Vec::new();
    let limited = LimitedReader { stream: &stream, until: Instant::now() + WHOLE };
    let read = BufReader::new(limited.take(MAX_ANSWER)).read_until(b'\n', &mut line);
    // An answer that takes too long is none.
    if read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::TimedOut) {
        return Err(AskError::Silent);
    }
    if line.is_empty() {
        sent?;
        read?;
        return Err(AskError::NoAnswer("it closed the connection".to_owned()));
    }
    let reply: Reply =
        serde_json::from_slice(&line).map_err(|error| AskError::NoAnswer(error.to_string()))?;
    match reply.answer {
        Response::Error(fault) => Err(AskError::Refused(fault)),
        answer => Ok(answer),
    }
}

/// A connection that is read for a limited time in all.
struct LimitedReader<'a> {
    stream: &'a UnixStream,
    until: Instant,
}

impl Read for LimitedReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left.min(PATIENCE)))?;
        self.stream.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Serves connections, of which each gets one of these texts, and asks there.
    fn ask_of(texts: &[&str], request: &Request) -> Result<Response, AskError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::scope(|scope| {
            let serves = scope.spawn(|| {
                for text in texts {
                    let (mut stream, _) = listener.accept().unwrap();
                    BufReader::new(&stream).read_until(b'\n', &mut Vec::new()).unwrap();
                    stream.write_all(text.as_bytes()).unwrap();
                }
            });
            let answer = ask(&path, request);
            serves.join().unwrap();
            answer
        })
    }

    #[test]
    fn an_answer_that_never_ends_is_read_for_a_limited_time() {
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(b"{").unwrap();
        let mut expired = LimitedReader { stream: &near, until: Instant::now() };
        let error = expired.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let mut reader = LimitedReader { stream: &near, until: Instant::now() + WHOLE };
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 1);
    }

    #[test]
    fn a_request_whose_answer_is_cut_by_a_death_is_sent_once_more_if_it_may_be() {
        const STOPPING: &str = "{\"version\":1,\"answer\":\"stopping\"}\n";
        for cut in ["", "{\"version\":1,\"ans"] {
            assert!(matches!(
                ask_of(&[cut, STOPPING], &Request::Status {}),
                Ok(Response::Stopping {})
            ));
            let drain = Request::Drain { timeout_ms: None, moves: false };
            assert!(matches!(ask_of(&[cut, cut], &drain), Err(AskError::NoAnswer(_))));
            assert!(matches!(ask_of(&[cut], &Request::Stop {}), Err(AskError::NoAnswer(_))));
        }
    }
}
