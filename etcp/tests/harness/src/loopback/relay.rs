//! A relay on loopback: to the server, its connections come from another address; and they can be
//! cut and kept out.

use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::socket::{connect_from, listener};

/// Forwards connections from an address of its own.
pub struct LoopbackRelay {
    /// The address to which clients connect.
    pub address: SocketAddr,
    server: Arc<Mutex<SocketAddr>>,
    source: Arc<Mutex<IpAddr>>,
    /// The destination of all connections after the next one.
    after_next: Arc<Mutex<Option<SocketAddr>>>,
    passing: Arc<Mutex<Vec<TcpStream>>>,
    is_closed: Arc<AtomicBool>,
}

impl LoopbackRelay {
    /// Passes everything on to `server`, from the loopback address `source`.
    pub fn start(source: [u8; 4], server: SocketAddr) -> Self {
        let listener = listener();
        let address = listener.local_addr().expect("it listens");
        let passing = Arc::new(Mutex::new(Vec::new()));
        let is_closed = Arc::new(AtomicBool::new(false));
        let (all, closed) = (Arc::clone(&passing), Arc::clone(&is_closed));
        let server = Arc::new(Mutex::new(server));
        let source = Arc::new(Mutex::new(IpAddr::from(source)));
        let (leads_to, comes_from) = (Arc::clone(&server), Arc::clone(&source));
        let after_next = Arc::new(Mutex::new(None));
        let then = Arc::clone(&after_next);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // What passes by the settings of a moment is cut by whoever changes them.
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                if closed.load(Ordering::SeqCst) {
                    continue;
                }
                let mut leads_to = leads_to.lock().unwrap_or_else(PoisonError::into_inner);
                let then = then.lock().unwrap_or_else(PoisonError::into_inner).take();
                let server = *leads_to;
                *leads_to = then.unwrap_or(server);
                drop(leads_to);
                let source = *comes_from.lock().unwrap_or_else(PoisonError::into_inner);
                if let Ok(server) = connect_from(source, server) {
                    all.extend(pass(client, server).unwrap_or_default());
                }
            }
        });
        Self { address, server, source, after_next, passing, is_closed }
    }

    /// Forwards new connections to another server, and cuts existing ones.
    pub fn lead_to(&self, server: SocketAddr) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = server;
        self.cut();
    }

    /// Forwards new connections from another address, and cuts existing ones: the clients have moved.
    pub fn come_from(&self, source: [u8; 4]) {
        *self.source.lock().unwrap_or_else(PoisonError::into_inner) = source.into();
        self.cut();
    }

    /// Forwards one more connection to the current server, and all later ones to another.
    pub fn lead_after_next_to(&self, server: SocketAddr) {
        *self.after_next.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
    }

    /// Lets no new connection pass, and cuts existing ones.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.cut();
    }

    /// Lets new connections pass again.
    pub fn open(&self) {
        self.is_closed.store(false, Ordering::SeqCst);
    }

    /// Cuts every existing connection.
    pub fn cut(&self) {
        let mut all = self.passing.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in all.drain(..) {
            // A connection that has ended already is as good as cut.
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
