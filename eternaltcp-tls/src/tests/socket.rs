//! The handshake over real sockets.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::{Connection, client_tls, server_tls};
use crate::{HandshakeError, Handshaken, TlsError, answers_hello, handshake, identify};

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap());
    let (client, server) = tokio::join!(client, listener.accept());
    (client.unwrap(), server.unwrap().0)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

async fn serve(stream: &TcpStream, deadline: Instant) -> Result<Handshaken, HandshakeError> {
    let mut connection = Connection::server(&server_tls()).unwrap();
    handshake(stream, &mut connection, &mut BytesMut::new(), deadline).await
}

#[tokio::test]
async fn both_sides_learn_the_other_key_and_early_data_are_kept() {
    let (client, server) = sockets().await;
    let client_side = async {
        let mut connection = Connection::client(&client_tls()).unwrap();
        let mut incoming = BytesMut::new();
        let done = handshake(&client, &mut connection, &mut incoming, soon()).await.unwrap();
        assert_eq!(Some(done.peer), connection.peer_key());
        let mut outgoing = Vec::new();
        connection.encrypt(b"at once", &mut outgoing).unwrap();
        client.try_write(&outgoing).unwrap();
        connection
    };
    let server_side = async {
        let mut connection = Connection::server(&server_tls()).unwrap();
        let mut incoming = BytesMut::new();
        let mut early =
            handshake(&server, &mut connection, &mut incoming, soon()).await.unwrap().early;
        // With the handshake or right after it, depending on the network.
        while early.concat() != b"at once" {
            server.readable().await.unwrap();
            let _ = server.try_read_buf(&mut incoming);
            connection.process(&mut incoming, &mut Vec::new(), &mut early).unwrap();
        }
    };
    let (connection, ()) = tokio::join!(client_side, server_side);
    assert!(!connection.is_handshaking());
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_given_up_at_the_deadline() {
    let (_client, server) = sockets().await;
    let result = serve(&server, Instant::now() + Duration::from_secs(10)).await;
    assert!(matches!(result, Err(HandshakeError::TimedOut)), "{result:?}");
}

#[tokio::test]
async fn a_peer_that_hangs_up_is_noticed() {
    let (client, server) = sockets().await;
    drop(client);
    let result = serve(&server, soon()).await;
    assert!(matches!(result, Err(HandshakeError::Ended)), "{result:?}");
}

#[tokio::test]
async fn a_peer_of_another_protocol_is_noticed() {
    let (mut client, server) = sockets().await;
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let result = serve(&server, soon()).await;
    assert!(matches!(result, Err(HandshakeError::Tls(TlsError::NotTls(_)))), "{result:?}");
}

#[tokio::test]
async fn a_server_tells_its_key_to_a_client_that_shows_none() {
    let (client, server) = sockets().await;
    let patience = Duration::from_secs(30);
    let (key, served) = tokio::join!(identify(&client, patience), serve(&server, soon()));
    assert!(key.unwrap().fingerprint().starts_with("SHA256:"));
    let refused = matches!(served, Err(HandshakeError::Tls(TlsError::Distrusted)));
    assert!(refused, "the client has ended it: {served:?}");
}

#[tokio::test]
async fn a_padded_first_message_is_answered_like_any_other() {
    for size in [0, 1500, 4000, 1 << 20] {
        let (client, server) = sockets().await;
        let asked = answers_hello(&client, size, Duration::from_secs(30));
        let read = async {
            let mut connection = Connection::server(&server_tls()).unwrap();
            let (mut incoming, mut outgoing) = (BytesMut::new(), Vec::new());
            let mut count = 0;
            while outgoing.is_empty() {
                server.readable().await.unwrap();
                count += server.try_read_buf(&mut incoming).unwrap_or(0);
                connection.process(&mut incoming, &mut outgoing, &mut Vec::new()).unwrap();
            }
            server.try_write(&outgoing).unwrap();
            count
        };
        let (answered, count) = tokio::join!(asked, read);
        assert!(answered.unwrap());
        assert!(count >= size.min(16 * 1024), "{count} bytes of {size}");
    }
}
