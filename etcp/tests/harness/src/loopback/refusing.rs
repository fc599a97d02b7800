//! A server that proves a key, and refuses every client.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use bytes::BytesMut;
use eternaltcp::tls::{Connection, Identity, ServerTls};
use eternaltcp_proto::{Refusal, encode_refusal};

use super::socket::patient;

/// Starts one on a port of the kernel's choice; it ends with the test's process.
pub fn refusing(key: &Identity, refusal: &Refusal) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let address = listener.local_addr().expect("it listens");
    let tls = Arc::new(ServerTls::new(key).expect("a key"));
    let refusal = encode_refusal(refusal);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (tls, refusal) = (Arc::clone(&tls), refusal.clone());
            std::thread::spawn(move || refuse(patient(stream), &tls, &refusal));
        }
    });
    address
}

/// Refuses the client's first request; `None` if the client has gone before that.
fn refuse(mut stream: TcpStream, tls: &ServerTls, refusal: &[u8]) -> Option<()> {
    let mut tls = Connection::server(tls).ok()?;
    let (mut incoming, mut plaintext) = (BytesMut::new(), Vec::new());
    let mut buffer = [0; 16 * 1024];
    while plaintext.is_empty() {
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        incoming.extend_from_slice(&buffer[..count]);
        let mut outgoing = Vec::new();
        tls.process(&mut incoming, &mut outgoing, &mut plaintext).ok()?;
        stream.write_all(&outgoing).ok()?;
    }
    let mut outgoing = Vec::new();
    tls.encrypt(refusal, &mut outgoing).ok()?;
    stream.write_all(&outgoing).ok()?;
    // The client ends the connection when it has read that.
    while let Ok(1..) = stream.read(&mut buffer) {}
    Some(())
}
