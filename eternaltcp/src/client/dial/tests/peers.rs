//! The kinds of peers at the other end of an address.

use std::net::SocketAddr;
use std::os::fd::AsFd;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};

use eternaltcp_sys::carrier_info;
use eternaltcp_tls::{Connection, Identity, NodeName, ServerTls, handshake};

/// A carrier that a server accepted.
pub(super) struct AcceptedCarrier {
    pub(super) peer: SocketAddr,
    pub(super) is_mptcp: bool,
}

/// Runs a server with this key. Reports every carrier whose handshake is done.
pub(super) fn serve(
    listener: TcpListener,
    identity: &Identity,
) -> (SocketAddr, mpsc::UnboundedReceiver<AcceptedCarrier>) {
    serve_node(listener, identity, None)
}

/// Does the same for a node of this name.
pub(super) fn serve_node(
    listener: TcpListener,
    identity: &Identity,
    node: Option<NodeName>,
) -> (SocketAddr, mpsc::UnboundedReceiver<AcceptedCarrier>) {
    let address = listener.local_addr().unwrap();
    let tls = ServerTls::new(identity).unwrap();
    let tls = node.map_or(Ok(tls.clone()), |node| tls.of_node(identity, node)).unwrap();
    let (sender, taken) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            let (tls, sender) = (tls.clone(), sender.clone());
            tokio::spawn(async move {
                if let Some(stream) = shake(stream, &tls).await {
                    let is_mptcp = carrier_info(stream.as_fd()).unwrap().is_none();
                    // The test may not read it.
                    let _ = sender.send(AcceptedCarrier { peer, is_mptcp });
                    std::future::pending().await
                }
            });
        }
    });
    (address, taken)
}

async fn shake(stream: TcpStream, tls: &ServerTls) -> Option<TcpStream> {
    let mut connection = Connection::server(tls).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    // Most attempts that lose the race disappear in the middle of it.
    handshake(&stream, &mut connection, &mut BytesMut::new(), deadline).await.ok()?;
    Some(stream)
}

/// Runs a server with this key on loopback.
pub(super) async fn server(identity: &Identity) -> SocketAddr {
    serve(TcpListener::bind("127.0.0.1:0").await.unwrap(), identity).0
}

/// Accepts, and sends nothing.
pub(super) async fn silent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let _listener = listener;
        std::future::pending::<()>().await;
    });
    address
}

/// Runs a captive portal, which answers every connection with the address of a web page.
pub(super) async fn portal() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = b"HTTP/1.1 302 Found\r\nLocation: http://portal.example/\r\n\r\n";
            let _ = stream.write_all(answer).await;
        }
    });
    address
}
