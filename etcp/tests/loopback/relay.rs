//! A relay on loopback: to the server, its connections come from another address; and they can be
//! cut.

use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use super::socket::connect_from;

/// Passes connections on from an address of its own.
pub(crate) struct Relay {
    /// Where clients connect to.
    pub(crate) address: SocketAddr,
    passing: Arc<Mutex<Vec<TcpStream>>>,
}

impl Relay {
    /// Passes everything on to `server`, from the loopback address `source`.
    pub(crate) fn start(source: [u8; 4], server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        let address = listener.local_addr().expect("it listens");
        let passing = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&passing);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if let Ok(server) = connect_from(IpAddr::from(source), server) {
                    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                    all.extend(pass(client, server).unwrap_or_default());
                }
            }
        });
        Self { address, passing }
    }

    /// Cuts every connection that passes.
    pub(crate) fn cut(&self) {
        let mut all = self.passing.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in all.drain(..) {
            // One that has ended already is cut well enough.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn pass(client: TcpStream, server: TcpStream) -> io::Result<Vec<TcpStream>> {
    let kept = vec![client.try_clone()?, server.try_clone()?];
    for (from, to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
        std::thread::spawn(move || {
            let _ = io::copy(&mut &from, &mut &to);
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
        });
    }
    Ok(kept)
}
