//! The end of a local connection that is told something first.

use std::time::Duration;

use bytes::BytesMut;
use tokio::time::timeout;

use crate::net::stream::Stream;

/// So long an application may take to read its answer and to hang up.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes that are read and thrown away at once.
const CHUNK: usize = 4096;

/// Says this to an application, and closes the connection in order. What it
/// still sends is thrown away: to close with unread bytes would be a reset, and
/// take the answer along.
pub(crate) async fn farewell(stream: Stream, say: Vec<u8>) {
    let end = async {
        stream.write_all(&say).await?;
        stream.shut_sending()?;
        let mut sink = BytesMut::with_capacity(CHUNK);
        while stream.read(&mut sink, CHUNK).await? > 0 {
            sink.clear();
        }
        std::io::Result::Ok(())
    };
    // An application that is gone, or that reads nothing, is told nothing.
    let _ = timeout(PATIENCE, end).await;
    stream.end();
}
