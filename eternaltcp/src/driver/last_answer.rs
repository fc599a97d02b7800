//! The end of a local connection that gets an answer first.

use std::time::Duration;

use bytes::BytesMut;
use tokio::time::timeout;

use crate::net::stream::Stream;

/// The time for which an application may take to read its answer and to close the connection.
const PATIENCE: Duration = Duration::from_secs(2);

/// The number of bytes that are read and discarded at once.
const CHUNK: usize = 4096;

/// Sends an answer to an application, and closes the connection in order. Further input is
/// discarded: to close with unread bytes would reset the connection, and lose the answer.
pub(crate) async fn send_last(stream: Stream, say: Vec<u8>) {
    let end = async {
        stream.write_all(&say).await?;
        stream.shut_sending()?;
        let mut sink = BytesMut::with_capacity(CHUNK);
        while stream.read(&mut sink, CHUNK).await? > 0 {
            sink.clear();
        }
        std::io::Result::Ok(())
    };
    // An application that is gone, or that reads nothing, gets no answer.
    let _ = timeout(PATIENCE, end).await;
    stream.end();
}
