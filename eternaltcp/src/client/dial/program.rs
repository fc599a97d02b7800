//! A carrier through the stdio of a program: it is started, reports when it is connected, and from
//! then on relays it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use eternaltcp_proto::CleanText;
use rustix::process::{Pid, Signal, kill_process_group};
use socket2::SockRef;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader, copy,
    copy_buf,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout};
use tracing::{Instrument, debug};

use super::attempt::Attempts;
use super::{DialAddress, DialError, Dialed};
use crate::client::Via;
use crate::net::socket::prepare_carrier;
use crate::process::as_started;

/// Time for a program to be connected: a login over a very slow path.
const THROUGH: Duration = Duration::from_secs(60);

/// The maximum amount of output before that, in bytes.
const MAX_NOISE: u64 = 1 << 20;

/// The longest line on its stderr, in bytes; a longer one is split.
const MAX_LINE: u64 = 4096;

/// Time for the second direction to end after the first.
const HALF: Duration = Duration::from_secs(2);

/// Time for a program to exit after it was asked to.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Time for reading the remaining output of a program that has exited.
const COMPLAINT: Duration = Duration::from_millis(200);

/// The maximum number of bytes that the kernel may hold of a carrier between here and the program:
/// a keystroke waits behind them.
const HELD: usize = 32 * 1024;

/// The maximum number of attempts to make a pair of sockets. An attempt fails if another user of
/// this machine connects to it.
const INTRUDERS: usize = 8;

impl Attempts {
    /// Makes a carrier through a program.
    pub(super) async fn run_program(self, via: &Via) -> Result<Dialed, DialError> {
        let failed = |error: io::Error| DialError::Program(via.name.clone(), error.to_string());
        let user = self.user_key().await?;
        let started = Instant::now();
        let mut program = CarrierProgram::start(via).map_err(failed)?;
        // Nothing reports when its machine has answered: until it is connected, no other program is
        // started beside it, unless it takes long.
        (self.connected)();
        let through = timeout(THROUGH, program.get_through(via)).await;
        let why = match through {
            Ok(Ok(())) => None,
            Ok(Err(error)) => {
                Some(program.complaint().await.map_or_else(|| error.to_string(), String::from))
            }
            Err(_) => Some("it did not connect in time".to_owned()),
        };
        if let Some(why) = why {
            return Err(DialError::Program(via.name.clone(), why));
        }
        let (near, far) = pair().await.map_err(failed)?;
        let held = Arc::clone(&self.common.wires).read_owned().await;
        let words = Arc::clone(&program.last_words);
        let wire = tokio::spawn(async move {
            program.carry(far).await;
            drop(held);
        });
        let nowhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let candidate = DialAddress { server: 0, address: via.route_to.unwrap_or(nowhere) };
        let done = self.authenticate(near, user, candidate, started.elapsed(), failed).await;
        let mut dialed = match done {
            // Only its output shows whether it was connected.
            Err(DialError::Handshake(_, error)) if via.marker.is_empty() => {
                let _ = timeout(HALF + LAST_WORDS, wire).await;
                let words = words.lock().unwrap_or_else(PoisonError::into_inner).take();
                let why = words.map_or_else(|| error.to_string(), String::from);
                return Err(DialError::Program(via.name.clone(), why));
            }
            done => done?,
        };
        dialed.carrier.set_relayed();
        Ok(dialed)
    }
}

/// A running program; dropping this asks it to exit.
struct CarrierProgram {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: Option<ChildStderr>,
    last_words: LastWords,
}

/// The last complaint of a program.
type LastWords = Arc<Mutex<Option<CleanText>>>;

impl CarrierProgram {
    fn start(via: &Via) -> io::Result<Self> {
        let mut command = Command::new(&via.program);
        command.args(&via.args).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        as_started(command.as_std_mut());
        let mut child = command.spawn()?;
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let stdout = child.stdout.take().map(BufReader::new);
        Ok(Self { child, stdin, stdout, stderr, last_words: LastWords::default() })
    }

    /// Sends the greeting, and reads until its output is the server's.
    async fn get_through(&mut self, via: &Via) -> io::Result<()> {
        let (Some(stdin), Some(stdout)) = (&mut self.stdin, &mut self.stdout) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        stdin.write_all(&via.greeting).await?;
        stdin.flush().await?;
        if via.marker.is_empty() {
            return Ok(());
        }
        skip_noise(stdout, &via.marker).await
    }

    /// Returns the last line on its stderr, once it has exited.
    async fn complaint(&mut self) -> Option<CleanText> {
        drop(self.stdin.take());
        let mut text = Vec::new();
        let stderr = self.stderr.take()?;
        // The output read by then has to be enough.
        let _ = timeout(HALF, stderr.take(MAX_NOISE).read_to_end(&mut text)).await;
        let mut lines = text.split(|byte| matches!(byte, b'\n' | b'\r')).map(<[u8]>::trim_ascii);
        lines.rfind(|line| !line.is_empty()).map(CleanText::from_bytes)
    }

    /// Forwards between the program and `far` until either has ended.
    async fn carry(mut self, mut far: TcpStream) {
        let (Some(mut stdin), Some(mut stdout)) = (self.stdin.take(), self.stdout.take()) else {
            return;
        };
        let words = Arc::clone(&self.last_words);
        let complaints =
            self.stderr.take().map(|stderr| tokio::spawn(log(stderr, words).in_current_span()));
        let (mut from, mut to) = far.split();
        // An end is an end, whatever the reason.
        let up = async {
            let _ = copy(&mut from, &mut stdin).await;
            let _ = stdin.shutdown().await;
            drop(stdin);
        };
        let down = async {
            let _ = copy_buf(&mut stdout, &mut to).await;
            let _ = to.shutdown().await;
        };
        tokio::pin!(up, down);
        tokio::select! {
            () = &mut up => { let _ = timeout(HALF, down).await; }
            () = &mut down => {}
        }
        if let Some(mut complaints) = complaints {
            // It may have exited by itself, and have reported why.
            let _ = timeout(COMPLAINT, &mut complaints).await;
            complaints.abort();
        }
        self.end();
        if timeout(LAST_WORDS, self.child.wait()).await.is_err() {
            self.signal(Signal::KILL);
        }
    }

    /// Asks the program, and its child processes, to exit.
    fn end(&self) {
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        // Until the program is waited for, its id is not reused.
        let id = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(id) = id {
            let _ = kill_process_group(id, signal);
        }
    }
}

impl Drop for CarrierProgram {
    fn drop(&mut self) {
        self.end();
    }
}

/// Reads until a line has ended that ends with `marker`.
async fn skip_noise(output: &mut (impl AsyncBufRead + Unpin), marker: &str) -> io::Result<()> {
    let mut line = Vec::new();
    let mut output = output.take(MAX_NOISE);
    loop {
        line.clear();
        if output.read_until(b'\n', &mut line).await? == 0 {
            return Err(io::Error::other("it ended before it had connected"));
        }
        if line.trim_ascii_end().ends_with(marker.as_bytes()) {
            return Ok(());
        }
    }
}

/// Logs the program's stderr. Part of it may come from the server. All of it is read, because a
/// program with a full stderr blocks.
async fn log(stderr: impl AsyncRead + Unpin, last_words: LastWords) {
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    while matches!((&mut stderr).take(MAX_LINE).read_until(b'\n', &mut line).await, Ok(1..)) {
        let words = CleanText::from_bytes(line.trim_ascii());
        debug!("{words}");
        if !words.is_empty() {
            *last_words.lock().unwrap_or_else(PoisonError::into_inner) = Some(words);
        }
        line.clear();
    }
}

/// Returns the two ends of a TCP connection within this process.
async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let near = TcpStream::connect(listener.local_addr()?).await?;
    let own = near.local_addr()?;
    for _ in 0..INTRUDERS {
        let (far, peer) = listener.accept().await?;
        if peer == own {
            for stream in [&near, &far] {
                prepare_carrier(stream)?;
                let socket = SockRef::from(stream);
                socket.set_send_buffer_size(HELD)?;
                socket.set_recv_buffer_size(HELD)?;
            }
            return Ok((near, far));
        }
    }
    Err(io::Error::other("other programs of this machine connect in between"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_of_a_program_before_its_marker_is_skipped() {
        for (output, is_through) in [
            ("MARK 1\nrest", true),
            ("Welcome!\nno newline MARK 1\r\nrest", true),
            ("Welcome to MARK 1 of many\n", false),
            ("MARK 12\n", false),
            ("", false),
        ] {
            let mut output = output.as_bytes();
            assert_eq!(skip_noise(&mut output, "MARK 1").await.is_ok(), is_through);
            assert_eq!(output, if is_through { b"rest".as_slice() } else { b"" });
        }
        let endless = b"\n".repeat((MAX_NOISE + 10) as usize);
        assert!(skip_noise(&mut endless.as_slice(), "MARK 1").await.is_err());
    }

    #[tokio::test]
    async fn a_failed_program_is_reported_with_its_last_output() {
        let via = Via {
            name: "a test".to_owned(),
            program: "sh".into(),
            args: vec!["-c".into(), "echo first >&2; echo Permission denied. >&2; exit 255".into()],
            greeting: bytes::Bytes::new(),
            marker: "MARK 1".to_owned(),
            route_to: None,
        };
        let mut program = CarrierProgram::start(&via).unwrap();
        assert!(program.get_through(&via).await.is_err());
        assert_eq!(program.complaint().await.as_deref(), Some("Permission denied."));
    }

    #[tokio::test]
    async fn all_of_what_a_program_complains_is_read_whatever_it_is() {
        let (mut program, stderr) = tokio::io::duplex(4096);
        let logging = tokio::spawn(log(stderr, LastWords::default()));
        program.write_all(b"not UTF-8: \xff\n").await.unwrap();
        // It has no line end, and is not stored.
        for _ in 0..64 {
            program.write_all(&[b'x'; 64 * 1024]).await.unwrap();
        }
        drop(program);
        logging.await.unwrap();
    }

    #[tokio::test]
    async fn a_program_is_a_wire_and_ends_with_it() {
        let via = Via {
            name: "a test".to_owned(),
            program: "sh".into(),
            args: vec!["-c".into(), "read x; echo $x MARK 1; exec cat".into()],
            greeting: bytes::Bytes::from_static(b"hello\n"),
            marker: "hello MARK 1".to_owned(),
            route_to: None,
        };
        let mut program = CarrierProgram::start(&via).unwrap();
        program.get_through(&via).await.unwrap();
        let id = program.child.id().unwrap();
        let (mut near, far) = pair().await.unwrap();
        let wire = tokio::spawn(program.carry(far));
        near.write_all(b"there and back").await.unwrap();
        near.shutdown().await.unwrap();
        let mut back = String::new();
        near.read_to_string(&mut back).await.unwrap();
        assert_eq!(back, "there and back");
        wire.await.unwrap();
        assert!(!std::path::Path::new(&format!("/proc/{id}")).exists(), "it was waited for");
    }
}
