//! A loop through the server: a session to a listener there that leads back here. It needs no
//! program at the server, only that `localhost` is permitted as a target, which often is so.
//!
//! Every byte crosses the path in both directions, so the slower one limits its speed.

use std::convert::Infallible;
use std::io;
use std::time::{Duration, Instant};

use eternaltcp::Session;
use eternaltcp::address::{Forward, Listen, Target};
use eternaltcp::client::{Client, RemoteForward, RunningRemoteForward};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant as Deadline, sleep, timeout, timeout_at};

/// Time for each answer of the server.
const ANSWER: Duration = Duration::from_secs(5);

/// The length of the token by which the loop recognizes its own connection: others at the server
/// can connect, too.
const TOKEN: usize = 16;

/// The maximum number of bytes that are moved at once.
const CHUNK: usize = 64 * 1024;

/// Pause between two small messages beside the bulk.
const PACE: Duration = Duration::from_millis(50);

/// The time that a message may take.
const ECHO: Duration = Duration::from_secs(20);

/// A listener at the server that leads back here.
pub(crate) struct PathLoop {
    listener: TcpListener,
    target: Target,
    forward: RunningRemoteForward,
}

/// One session through the loop. This process has both of its ends.
pub(crate) struct LoopSession {
    out: Session,
    back: TcpStream,
}

/// The result of a bulk transfer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BulkResult {
    /// The bytes that came back.
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
    /// The median and the longest round trip of small messages meanwhile, if there were any.
    pub(crate) round_trips: Option<(Duration, Duration)>,
}

impl PathLoop {
    /// Makes the server listen.
    ///
    /// # Errors
    /// The server does not listen, for the returned reason.
    pub(crate) async fn open(client: &Client) -> Result<Self, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|e| e.to_string())?;
        let port = listener.local_addr().map_err(|e| e.to_string())?.port();
        let forward = format!("localhost:0:127.0.0.1:{port}").parse::<Forward>();
        let forward = RemoteForward::new(forward.map_err(|error| error.to_string())?);
        let (running, answer) = client.remote_forwarder().start(forward);
        let late = |_| "the server does not answer a request to listen".to_owned();
        let address = timeout(ANSWER, answer.address()).await.map_err(late)??;
        let port = Listen::port(&address).ok_or("the server does not tell its port")?;
        let target = Target::Tcp { host: "localhost".to_owned(), port };
        Ok(Self { listener, target, forward: running })
    }

    /// Returns the listener of this machine, the target at the server that leads to it, and the
    /// forward that serves that target.
    pub(crate) fn into_parts(self) -> (TcpListener, Target, RunningRemoteForward) {
        (self.listener, self.target, self.forward)
    }

    /// Opens a session through the loop.
    ///
    /// # Errors
    /// The server does not permit it, or it fails.
    pub(crate) async fn session(&self, client: &Client) -> Result<LoopSession, String> {
        let opened = client.open(self.target.clone()).await;
        let mut out = opened.map_err(|error| error.to_string())?;
        let late = |_| "the server does not connect its own listener".to_owned();
        timeout(ANSWER, out.connected()).await.map_err(late)?.map_err(|e| e.to_string())?;
        let token = token();
        out.write_all(&token).await.map_err(|error| error.to_string())?;
        let accepted = timeout(ANSWER, self.accept(&token)).await;
        let back = accepted.map_err(|_| "the loop does not close".to_owned())?;
        Ok(LoopSession { out, back })
    }

    /// Accepts the connection that begins with this token.
    async fn accept(&self, token: &[u8; TOKEN]) -> TcpStream {
        loop {
            let Ok((mut stream, _)) = self.listener.accept().await else { continue };
            let mut first = [0; TOKEN];
            let read = timeout(ANSWER, stream.read_exact(&mut first)).await;
            if matches!(read, Ok(Ok(_))) && first == *token {
                // Without it, small messages only take longer.
                let _ = stream.set_nodelay(true);
                return stream;
            }
        }
    }
}

/// Returns bytes that no other program can guess during the measurement.
fn token() -> [u8; TOKEN] {
    use std::hash::{BuildHasher, RandomState};
    let mut token = [0; TOKEN];
    for half in token.chunks_mut(8) {
        half.copy_from_slice(&RandomState::new().hash_one(std::process::id()).to_le_bytes());
    }
    token
}

impl LoopSession {
    /// Sends a small message through the loop, and returns how long it took.
    pub(crate) async fn echo(&mut self) -> io::Result<Duration> {
        let start = Instant::now();
        let passes = async {
            self.out.write_all(&[1]).await?;
            self.back.read_exact(&mut [0]).await
        };
        timeout(ECHO, passes).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(start.elapsed())
    }

    /// Sends as much as passes within `length`, at most `most` bytes, with small messages of
    /// another session beside it.
    pub(crate) async fn bulk(
        self,
        beside: &mut LoopSession,
        length: Duration,
        most: u64,
    ) -> io::Result<BulkResult> {
        let Self { mut out, mut back } = self;
        let (start, deadline) = (Instant::now(), Deadline::now() + length);
        let sending = async move {
            let (chunk, mut left) = (vec![0x5a; CHUNK], most);
            while left > 0 && out.write_all(&chunk).await.is_ok() {
                left = left.saturating_sub(CHUNK as u64);
            }
            // The reader counts until its end.
            std::future::pending::<Infallible>().await
        };
        let receiving = async {
            let (mut buffer, mut bytes) = (vec![0; CHUNK], 0);
            while bytes < most {
                let Ok(read) = timeout_at(deadline, back.read(&mut buffer)).await else { break };
                match read? {
                    0 => break,
                    count => bytes += count as u64,
                }
            }
            Ok::<_, io::Error>((bytes, start.elapsed()))
        };
        let mut trips = Vec::new();
        let talking = async {
            loop {
                sleep(PACE).await;
                match beside.echo().await {
                    Ok(trip) => trips.push(trip),
                    Err(_) => break std::future::pending::<Infallible>().await,
                }
            }
        };
        let (bytes, took) = tokio::select! {
            result = receiving => result?,
            never = sending => match never {},
            never = talking => match never {},
        };
        trips.sort_unstable();
        let median = trips.get(trips.len() / 2).copied();
        Ok(BulkResult { bytes, took, round_trips: median.zip(trips.last().copied()) })
    }
}
