//! The server at the end of a path: it does what the first bytes of a connection request.
//!
//! One thread serves all connections, so that many cost little and every path ends in the same way.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout_at};

use crate::LoadOutcome;
use crate::bulk::{BUFFER, verdict};
use crate::opening::{BOTH, DOWN, LoadOpener, UP};

const ECHO_BUFFER: usize = 4096;

pub(crate) fn run(opener: &LoadOpener) -> LoadOutcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(opener.listen()?)?;
        println!(r#"{{"listening": "{}"}}"#, listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                // A client that disappears is not the server's fault.
                let _ = answer(stream).await;
            });
        }
    })
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match stream.read_u8().await? {
        mode @ (UP | DOWN | BOTH) => {
            let time = Duration::from_millis(stream.read_u32_le().await?.into());
            // Boxed: an echo must not keep memory that it does not need.
            Box::pin(bulk(stream, mode, time)).await
        }
        _ => echo(stream).await,
    }
}

async fn bulk(mut stream: TcpStream, mode: u8, time: Duration) -> io::Result<()> {
    match mode {
        UP => {
            let (bytes, took) = count(&mut stream, time).await?;
            stream.write_all(&verdict(bytes, took)?).await?;
            // The client ends it; until then its data are not answered by a reset.
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop)
        }
        DOWN => send(&mut stream, None).await,
        _ => {
            let (mut reader, mut writer) = stream.split();
            let until = Instant::now() + time;
            let (counted, sent) =
                tokio::join!(count(&mut reader, time), send(&mut writer, Some(until)));
            sent?;
            let (bytes, took) = counted?;
            writer.write_all(&verdict(bytes, took)?).await?;
            writer.shutdown().await?;
            tokio::io::copy(&mut reader, &mut tokio::io::sink()).await.map(drop)
        }
    }
}

/// Counts what arrives in a time, which starts with the first byte.
async fn count(
    stream: &mut (impl AsyncReadExt + Unpin),
    time: Duration,
) -> io::Result<(u64, Duration)> {
    let mut buffer = vec![0; BUFFER];
    let mut bytes = stream.read(&mut buffer).await? as u64;
    let start = Instant::now();
    while let Ok(length) = timeout_at(start + time, stream.read(&mut buffer)).await {
        match length? {
            0 => break,
            length => bytes += length as u64,
        }
        if start.elapsed() >= time {
            break;
        }
    }
    Ok((bytes, start.elapsed()))
}

async fn send(stream: &mut (impl AsyncWriteExt + Unpin), until: Option<Instant>) -> io::Result<()> {
    let buffer = vec![0x55; BUFFER];
    while until.is_none_or(|until| Instant::now() < until) {
        stream.write_all(&buffer).await?;
    }
    Ok(())
}

/// Waits without a buffer: twenty thousand silent sessions have none.
async fn echo(mut stream: TcpStream) -> io::Result<()> {
    loop {
        stream.readable().await?;
        match take(&stream) {
            Ok(message) if message.is_empty() => return Ok(()),
            Ok(message) => stream.write_all(&message).await?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn take(stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut buffer = [0; ECHO_BUFFER];
    let length = stream.try_read(&mut buffer)?;
    Ok(buffer[..length].to_vec())
}
