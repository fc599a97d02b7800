//! The path between client and server.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

/// A relay that can refuse connections, and end existing ones.
pub(crate) struct CuttablePath {
    address: SocketAddr,
    state: watch::Sender<PathState>,
}

struct PathState {
    is_open: bool,
    cuts: u64,
    refused: u64,
    /// The receiver of the next carrier, if a test wants it.
    taker: Option<oneshot::Sender<PathCarrier>>,
}

/// A carrier whose bytes the test moves itself.
pub(crate) struct PathCarrier {
    pub(crate) client: TcpStream,
    pub(crate) server: TcpStream,
}

impl PathCarrier {
    /// Passes everything while the returned sender holds `true`.
    pub(crate) fn gated(self) -> watch::Sender<bool> {
        let (gate, is_open) = watch::channel(true);
        let (client_reads, client_writes) = self.client.into_split();
        let (server_reads, server_writes) = self.server.into_split();
        tokio::spawn(pass(client_reads, server_writes, is_open.clone()));
        tokio::spawn(pass(server_reads, client_writes, is_open));
        gate
    }

    /// Passes the handshake and the client's attach; holds the server's answer back.
    pub(crate) async fn hold_answer(&mut self) -> Vec<u8> {
        let (mut up, mut down) = ([0; 4096], [0; 4096]);
        let mut count = 0;
        loop {
            tokio::select! {
                sent = self.client.read(&mut up) => {
                    self.server.write_all(&up[..sent.unwrap()]).await.unwrap();
                    count += 1;
                }
                sent = self.server.read(&mut down) => {
                    let bytes = &down[..sent.unwrap()];
                    // TLS answers the client's first flight, and the tunnel the rest.
                    if count > 1 {
                        return bytes.to_vec();
                    }
                    self.client.write_all(bytes).await.unwrap();
                }
            }
        }
    }
}

impl CuttablePath {
    /// Creates an open path to `server`.
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, watched) =
            watch::channel(PathState { is_open: true, cuts: 0, refused: 0, taker: None });
        tokio::spawn(accept(listener, server, state.clone(), watched));
        Self { address, state }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resets the existing carriers.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Resets the existing carriers, and all later ones.
    pub(crate) fn close(&self) {
        self.state.send_modify(|state| (state.is_open, state.cuts) = (false, state.cuts + 1));
    }

    /// Resets all later carriers, and keeps the existing ones.
    pub(crate) fn refuse(&self) {
        self.state.send_modify(|state| state.is_open = false);
    }

    pub(crate) fn open(&self) {
        self.state.send_modify(|state| state.is_open = true);
    }

    /// Returns how many carriers arrived while it was closed.
    pub(crate) fn refused(&self) -> u64 {
        self.state.borrow().refused
    }

    /// Ends the existing carriers, and takes the next one out of the path.
    pub(crate) async fn cut_and_take(&self) -> PathCarrier {
        let (taker, carrier) = oneshot::channel();
        self.state.send_modify(|state| (state.cuts, state.taker) = (state.cuts + 1, Some(taker)));
        carrier.await.unwrap()
    }
}

async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    state: watch::Sender<PathState>,
    watched: watch::Receiver<PathState>,
) {
    while let Ok((mut client, _)) = listener.accept().await {
        abort_when_dropped(&client);
        if !state.borrow().is_open {
            state.send_modify(|state| state.refused += 1);
            continue;
        }
        let mut server = TcpStream::connect(server).await.unwrap();
        abort_when_dropped(&server);
        let mut taker = None;
        state.send_modify(|state| taker = state.taker.take());
        if let Some(taker) = taker {
            // The receiver is gone with the test.
            let _ = taker.send(PathCarrier { client, server });
            continue;
        }
        let mut watched = watched.clone();
        let before = watched.borrow_and_update().cuts;
        tokio::spawn(async move {
            tokio::select! {
                // An error of either end ends the carrier, as it should.
                _ = copy_bidirectional(&mut client, &mut server) => {}
                // The path is gone with the test.
                _ = watched.wait_for(|state| state.cuts != before) => {}
            }
        });
    }
}

/// Passes bytes on while the gate is open; the end of a carrier ends it.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut gate: watch::Receiver<bool>) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let is_there = gate.wait_for(|is_open| *is_open).await.is_ok();
        match from.read(&mut buffer).await {
            Ok(count @ 1..) if is_there && to.write_all(&buffer[..count]).await.is_ok() => {}
            _ => return,
        }
    }
}

fn abort_when_dropped(stream: &TcpStream) {
    stream.set_nodelay(true).unwrap();
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}
