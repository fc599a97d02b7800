//! The application and the target: both send a pattern and check the other's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval};

use super::pattern::DemoPattern;

/// The streams of the application and of the target.
const UP: DemoPattern = DemoPattern(0x6574_6370);
const DOWN: DemoPattern = DemoPattern(0x7063_7465);

/// The maximum number of bytes that are moved at once.
const CHUNK: usize = 64 * 1024;

/// Pause between two writes: about 15 MB/s, so that faults hit data in flight and the machine has
/// time for other work.
const PACE: Duration = Duration::from_millis(2);

/// Bytes that each end still sends after it was told to stop. The application's end of stream tells
/// the target, so this many bytes pass through a half-closed session.
pub(super) const TAIL: u64 = 1 << 20;

/// The bytes that one end sent and received.
#[derive(Clone, Debug)]
pub(super) struct ByteCounts {
    pub(super) sent: Sum,
    pub(super) received: Sum,
    /// The longest time without a byte since the first.
    pub(super) longest_pause: Duration,
}

/// A stream from its first to its last byte.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Sum {
    pub(super) bytes: u64,
    /// SHA-256, in hexadecimal.
    pub(super) digest: String,
}

/// Plays the application, which ends its stream some time after `stop`. `received` counts the
/// correct bytes.
pub(super) async fn application(
    stream: TcpStream,
    received: Arc<AtomicU64>,
    stop: oneshot::Receiver<()>,
) -> Result<ByteCounts, String> {
    let (reader, writer) = split(stream)?;
    let (sent, (received, longest_pause)) =
        tokio::try_join!(send(writer, UP, stop), receive(reader, DOWN, &received))
            .map_err(|why| format!("the application's stream is wrong: {why}"))?;
    Ok(ByteCounts { sent, received, longest_pause })
}

/// Plays the target, which continues for a while after the application's stream has ended, and then
/// ends its own.
pub(super) async fn target(
    stream: TcpStream,
    received: Arc<AtomicU64>,
) -> Result<ByteCounts, String> {
    let (reader, writer) = split(stream)?;
    let (end, stop) = oneshot::channel();
    let receiving = async {
        let all = receive(reader, UP, &received).await?;
        // If nobody sends any more, sending has failed and reports that itself.
        let _ = end.send(());
        Ok(all)
    };
    let (sent, (received, longest_pause)) =
        tokio::try_join!(send(writer, DOWN, stop), receiving)
            .map_err(|why| format!("the target's stream is wrong: {why}"))?;
    Ok(ByteCounts { sent, received, longest_pause })
}

fn split(stream: TcpStream) -> Result<(OwnedReadHalf, OwnedWriteHalf), String> {
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    Ok(stream.into_split())
}

async fn send(
    mut writer: OwnedWriteHalf,
    pattern: DemoPattern,
    mut stop: oneshot::Receiver<()>,
) -> Result<Sum, String> {
    let (mut bytes, mut digest) = (0, Sha256::new());
    let mut buffer = vec![0; CHUNK];
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rest = None;
    while rest != Some(0) {
        pace.tick().await;
        if rest.is_none() && stop.try_recv() != Err(oneshot::error::TryRecvError::Empty) {
            rest = Some(TAIL);
        }
        // Varying lengths, so that nothing stays aligned.
        let length = (1 + bytes * 31 % CHUNK as u64).min(rest.unwrap_or(u64::MAX));
        let chunk = &mut buffer[..length as usize];
        pattern.fill(bytes, chunk);
        digest.update(&*chunk);
        writer.write_all(chunk).await.map_err(|e| format!("after {bytes} bytes sent: {e}"))?;
        bytes += length;
        rest = rest.map(|rest| rest - length);
    }
    writer.shutdown().await.map_err(|error| format!("at the end of what is sent: {error}"))?;
    Ok(sum(bytes, digest))
}

/// Receives to the end of the stream. Also returns the longest pause.
async fn receive(
    mut reader: OwnedReadHalf,
    pattern: DemoPattern,
    progress: &AtomicU64,
) -> Result<(Sum, Duration), String> {
    let (mut bytes, mut digest) = (0, Sha256::new());
    let (mut buffer, mut scratch) = (vec![0; CHUNK], vec![0; CHUNK]);
    let (mut last, mut longest_pause) = (None::<Instant>, Duration::ZERO);
    loop {
        let length = reader.read(&mut buffer).await;
        let length = length.map_err(|e| format!("after {bytes} bytes received: {e}"))?;
        if length == 0 {
            return Ok((sum(bytes, digest), longest_pause));
        }
        let now = Instant::now();
        let pause = last.replace(now).map_or(Duration::ZERO, |last| now - last);
        longest_pause = longest_pause.max(pause);
        let chunk = &buffer[..length];
        if let Some(position) = pattern.first_wrong(bytes, chunk, &mut scratch) {
            return Err(format!("byte {position} is not what was sent"));
        }
        digest.update(chunk);
        bytes += length as u64;
        progress.store(bytes, Ordering::Relaxed);
    }
}

fn sum(bytes: u64, digest: Sha256) -> Sum {
    let digest = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Sum { bytes, digest }
}
