//! The end of a local connection that gets an answer first.

#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::BytesMut;
#[cfg(target_os = "linux")]
use eternaltcp_proto::Reset;
use tokio::time::timeout;

use super::prologue::PrologueStep;
use super::stream::Stream;
#[cfg(target_os = "linux")]
use crate::store::SocketMark;

/// The time for which an application may take to read its answer and to close the connection.
const PATIENCE: Duration = Duration::from_secs(2);

/// The number of bytes that are read and discarded at once.
const CHUNK: usize = 4096;

/// Sends an answer to an application, unless it is empty, and closes the connection in order. Further input is
/// discarded: to close with unread bytes would reset the connection, and lose the answer.
pub(crate) async fn send_last(stream: Stream, say: Vec<u8>) {
    let end = async {
        if !say.is_empty() {
            stream.say(&say, PrologueStep::Dismiss).await?;
        }
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

/// Completes the refusal of a connection that an earlier process has left: the answer, and the end.
/// Another connection is closed.
#[cfg(target_os = "linux")]
pub(crate) async fn dismiss(socket: OwnedFd) {
    let say = match SocketMark::of(&socket) {
        SocketMark::Refused(dialect, cause) => dialect.refused(&Reset::new(cause)),
        SocketMark::Dismissed => Vec::new(),
        _ => return,
    };
    if let Ok(stream) = Stream::recovered(socket) {
        send_last(stream, say).await;
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};

    use eternaltcp_proto::Cause;
    use socket2::SockRef;

    use super::*;
    use crate::dynamic::Dialect;
    use crate::net::stream::prepare;

    #[tokio::test]
    async fn a_refused_request_gets_from_the_next_process_what_is_still_owed() {
        const REFUSED: SocketMark = SocketMark::Refused(Dialect::Socks5, Cause::Refused);
        let answer = Dialect::Socks5.refused(&Reset::new(Cause::Refused));
        for (mark, expected) in [
            (REFUSED, Ok(answer)),
            (SocketMark::Dismissed, Ok(Vec::new())),
            (SocketMark::Unanswered, Err(ErrorKind::ConnectionReset)),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let far = listener.accept().unwrap().0;
            prepare(&SockRef::from(&far)).unwrap();
            far.set_nonblocking(true).unwrap();
            mark.set(&far);
            // Bytes that are not read would reset the connection as it is closed.
            near.write_all(b"early data").unwrap();
            let hears = std::thread::spawn(move || {
                let mut heard = Vec::new();
                near.read_to_end(&mut heard).map(|_| heard).map_err(|error| error.kind())
            });
            dismiss(far.into()).await;
            assert_eq!(hears.join().unwrap(), expected, "{mark:?}");
        }
    }
}
