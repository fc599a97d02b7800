//! A blocking client of ssh-agent: lists its keys, and asks it for signatures
//! (draft-ietf-sshm-ssh-agent, sections 3.5 and 3.6).

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use eternaltcp_proto::CleanText;
use ssh_key::public::KeyData;

use super::PublicKey;
use eternaltcp_sys::unix::connect_blocking;

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// The longest answer that is read, as in OpenSSH.
const ANSWER_LIMIT: usize = 256 * 1024;
/// Time allowed for an agent to list its keys.
const LIST: Duration = Duration::from_secs(5);
/// Time allowed for an agent to sign: it may ask its user.
const SIGN: Duration = Duration::from_secs(60);

/// An agent that listens on a Unix socket. No connection is made before the first request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Agent {
    socket: PathBuf,
}

/// A key that an agent holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AgentKey {
    /// The key, or, for a key that a carrier cannot use, its type as OpenSSH names it.
    pub key: Result<PublicKey, CleanText>,
    /// The comment that its user gave it.
    pub comment: CleanText,
}

/// The reason why an agent did not carry out a request. Each is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// No agent listens on the socket.
    #[error("no ssh-agent answers at {}: {error}", .socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// The error of the system.
        error: io::Error,
    },
    /// It did not answer in time.
    #[error("the ssh-agent at {} gave no answer in {} s", .socket.display(), .limit.as_secs())]
    TimedOut {
        /// The socket.
        socket: PathBuf,
        /// The time that it was allowed.
        limit: Duration,
    },
    /// It refused: the key is gone, or its user declined.
    #[error("the ssh-agent refused to sign: was the question declined, or the key removed?")]
    Refused,
    /// Its answer breaks the protocol.
    #[error("the ssh-agent gave a malformed answer")]
    Malformed,
}

impl Agent {
    /// Returns the agent at this socket, which is usually `$SSH_AUTH_SOCK`.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Returns the path of its socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Returns the keys that it holds, in its order. Blocks for at most 5 s.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub fn keys(&self) -> Result<Vec<AgentKey>, AgentError> {
        let answer = self.ask(&[REQUEST_IDENTITIES], LIST)?;
        match answer.split_first() {
            Some((&IDENTITIES_ANSWER, list)) => parse_keys(list).ok_or(AgentError::Malformed),
            _ => Err(AgentError::Malformed),
        }
    }

    /// Asks for a signature of `key` over `message`, in the form that TLS uses. Blocks for at most
    /// 60 s.
    pub(super) fn sign(&self, key: &PublicKey, message: &[u8]) -> Result<Vec<u8>, AgentError> {
        let blob = ssh_key::PublicKey::from(key.data().clone()).to_bytes();
        let mut request = vec![SIGN_REQUEST];
        for field in [&blob.map_err(|_| AgentError::Malformed)?, message] {
            put_string(&mut request, field);
        }
        request.extend([0; 4]);
        let answer = self.ask(&request, SIGN)?;
        match answer.split_first() {
            Some((&SIGN_RESPONSE, body)) => parse_signature(key, body).ok_or(AgentError::Malformed),
            Some((&FAILURE, _)) => Err(AgentError::Refused),
            _ => Err(AgentError::Malformed),
        }
    }

    fn ask(&self, request: &[u8], limit: Duration) -> Result<Vec<u8>, AgentError> {
        let unreachable = |error| AgentError::Unreachable { socket: self.socket.clone(), error };
        let until = Instant::now() + limit;
        let answer = connect_blocking(&self.socket, limit)
            .and_then(|mut stream| exchange(&mut stream, request, until));
        answer.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                AgentError::TimedOut { socket: self.socket.clone(), limit }
            }
            io::ErrorKind::InvalidData => AgentError::Malformed,
            _ => unreachable(error),
        })
    }
}

/// Sends one message and reads its answer.
fn exchange(stream: &mut UnixStream, request: &[u8], until: Instant) -> io::Result<Vec<u8>> {
    stream.set_write_timeout(Some(remaining(until)?))?;
    let mut message = Vec::with_capacity(request.len() + 4);
    put_string(&mut message, request);
    stream.write_all(&message)?;
    let mut length = [0; 4];
    read_exact(stream, &mut length, until)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > ANSWER_LIMIT {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut answer = vec![0; length];
    read_exact(stream, &mut answer, until)?;
    Ok(answer)
}

/// Fills `buffer` before the deadline, however slowly the bytes arrive.
fn read_exact(stream: &mut UnixStream, mut buffer: &mut [u8], until: Instant) -> io::Result<()> {
    while !buffer.is_empty() {
        stream.set_read_timeout(Some(remaining(until)?))?;
        match stream.read(buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => buffer = &mut buffer[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn remaining(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Appends `string` of the SSH protocol (RFC 4251, section 5).
fn put_string(message: &mut Vec<u8>, content: &[u8]) {
    // A key and the data to sign are far below 4 GiB.
    message.extend(u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes());
    message.extend(content);
}

fn take_number(rest: &mut &[u8]) -> Option<usize> {
    let (number, tail) = rest.split_first_chunk()?;
    *rest = tail;
    usize::try_from(u32::from_be_bytes(*number)).ok()
}

fn take_string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_number(rest)?;
    let (content, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(content)
}

/// Parses bytes as the body of each answer; for fuzzing.
pub fn read_answers(key: &PublicKey, body: &[u8]) -> bool {
    parse_keys(body).is_some() | parse_signature(key, body).is_some()
}

/// Parses the body of an `IDENTITIES_ANSWER`.
fn parse_keys(mut list: &[u8]) -> Option<Vec<AgentKey>> {
    let rest = &mut list;
    let count = take_number(rest)?;
    let mut keys = Vec::new();
    for _ in 0..count {
        let (blob, comment) = (take_string(rest)?, take_string(rest)?);
        let key = match ssh_key::PublicKey::from_bytes(blob) {
            Ok(key) => usable(key.key_data().clone()),
            Err(_) => Err(None),
        };
        let named = || take_string(&mut &*blob).map(CleanText::from_bytes);
        let key = key.map_err(|kind| kind.or_else(named).unwrap_or_default());
        keys.push(AgentKey { key, comment: CleanText::from_bytes(comment) });
    }
    rest.is_empty().then_some(keys)
}

fn usable(data: KeyData) -> Result<PublicKey, Option<CleanText>> {
    let kind = CleanText::from(data.algorithm().to_string());
    PublicKey::from_data(data).map_err(|_| Some(kind))
}

/// Parses the body of a `SIGN_RESPONSE`: a signature of that key's type.
fn parse_signature(key: &PublicKey, mut body: &[u8]) -> Option<Vec<u8>> {
    let mut blob = take_string(&mut body)?;
    let rest = &mut blob;
    let (kind, content) = (take_string(rest)?, take_string(rest)?);
    match (key.data(), kind) {
        (KeyData::Ed25519(_), b"ssh-ed25519") if content.len() == 64 => Some(content.to_vec()),
        (KeyData::Ecdsa(_), b"ecdsa-sha2-nistp256") => to_der(content),
        _ => None,
    }
}

/// Converts `mpint r, mpint s` (RFC 5656, section 3.1.2) to `SEQUENCE { r, s }` in DER (RFC 5480,
/// appendix A). Both write a number in the same way.
fn to_der(mut content: &[u8]) -> Option<Vec<u8>> {
    let rest = &mut content;
    let numbers = [take_string(rest)?, take_string(rest)?];
    let mut body = Vec::new();
    for number in numbers {
        let is_positive = number.first().is_some_and(|first| *first < 0x80);
        if !is_positive || number.len() > 33 {
            return None;
        }
        body.extend([2, u8::try_from(number.len()).ok()?]);
        body.extend(number);
    }
    let mut der = vec![0x30, u8::try_from(body.len()).ok()?];
    der.extend(body);
    rest.is_empty().then_some(der)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDJI+fNTS8Op9glNAAIWDRJ98X2R6P2eM1fi3TEfnVuN";

    fn strings(parts: &[&[u8]]) -> Vec<u8> {
        let mut all = Vec::new();
        parts.iter().for_each(|part| put_string(&mut all, part));
        all
    }

    #[test]
    fn keys_of_any_type_are_listed_and_the_unusable_ones_by_their_type() {
        let key = PublicKey::from_openssh(KEY).unwrap();
        let good = ssh_key::PublicKey::from(key.data().clone()).to_bytes().unwrap();
        let odd = strings(&[b"ssh-odd", b"x"]);
        let mut list = 2_u32.to_be_bytes().to_vec();
        list.extend(strings(&[&good, b"mine", &odd, b"yours"]));
        let keys = parse_keys(&list).unwrap();
        assert_eq!(keys[0], AgentKey { key: Ok(key), comment: "mine".into() });
        assert_eq!(keys[1], AgentKey { key: Err("ssh-odd".into()), comment: "yours".into() });
        for cut in 0..list.len() {
            assert!(parse_keys(&list[..cut]).is_none(), "cut at {cut}");
        }
        assert!(parse_keys(&[&list[..], &[0]].concat()).is_none(), "too long");
        assert!(parse_keys(&[0xff; 4]).is_none(), "four thousand million keys, and none there");
    }

    #[test]
    fn ecdsa_numbers_are_rewritten_and_wrong_ones_refused() {
        let der = to_der(&strings(&[&[1, 2], &[0, 0x80]]));
        assert_eq!(der.unwrap(), [0x30, 8, 2, 2, 1, 2, 2, 2, 0, 0x80]);
        for bad in [&strings(&[&[0x80], &[1]]), &strings(&[&[], &[1]]), &strings(&[&[1; 34], &[1]])]
        {
            assert_eq!(to_der(bad), None);
        }
        assert_eq!(to_der(&strings(&[&[1], &[1], &[1]])), None);
    }

    #[test]
    fn a_socket_without_an_agent_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let error = Agent::new(folder.path().join("none")).keys().unwrap_err();
        assert!(error.to_string().starts_with("no ssh-agent answers at /"), "{error}");
    }

    proptest! {
        #[test]
        fn no_answer_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let key = PublicKey::from_openssh(KEY).unwrap();
            let _ = parse_keys(&bytes);
            let _ = parse_signature(&key, &bytes);
            let _ = to_der(&bytes);
        }
    }
}
