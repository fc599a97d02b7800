//! The urgent byte, telnet's interrupt, keeps its position in the stream.

#![allow(clippy::unwrap_used, reason = "helpers of a test may panic as the test may")]

mod support;

use socket2::SockRef;
use support::{LibraryPair, TestTarget, read_all, run, session};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

async fn interrupt(mut from: TcpStream, mut to: TcpStream) {
    from.write_all(b"before").await.unwrap();
    SockRef::from(&from).send_out_of_band(b"!").unwrap();
    from.write_all(b"after").await.unwrap();
    from.shutdown().await.unwrap();
    assert_eq!(read_all(&mut to).await, (b"before!after".to_vec(), None));
}

#[test]
fn an_urgent_byte_stays_where_it_was_sent() {
    run(async {
        let target = TestTarget::start().await;
        let pair = LibraryPair::start(target.address()).await;
        let (application, answering) = session(&pair, &target).await;
        interrupt(application, answering).await;
        let (application, answering) = session(&pair, &target).await;
        interrupt(answering, application).await;
    });
}
