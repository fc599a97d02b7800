//! A relay that damages its session, to show that the checks find it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

/// A change that the relay makes to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TamperKind {
    None,
    /// Flips one bit of a byte in the middle.
    Flip,
    /// Passes no more bytes from the middle on.
    Hang,
    /// Passes a reset on as an end of stream.
    ResetToEnd,
}

/// Bytes of each direction that pass before the damage starts.
const UNHARMED: u64 = 50_000;

/// The relay of one session, on a port of its own.
pub(crate) struct TamperingRelay {
    address: SocketAddr,
}

impl TamperingRelay {
    /// Accepts one connection, and forwards it to `target` with this damage.
    pub(crate) fn start(target: SocketAddr, damage: TamperKind) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        let address = listener.local_addr().expect("it listens");
        std::thread::spawn(move || {
            let Ok((near, _)) = listener.accept() else { return };
            let far = TcpStream::connect(target).expect("the target listens");
            let [near_shut, far_shut] = [false, false].map(AtomicBool::new);
            let [near, far] = [(&near, &near_shut), (&far, &far_shut)];
            std::thread::scope(|scope| {
                scope.spawn(|| pass(near, far, damage));
                pass(far, near, damage);
            });
            // Both ends have given up by then, or are ended now.
            if damage == TamperKind::Hang {
                std::thread::sleep(Duration::from_secs(10));
            }
        });
        Self { address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A connection, and whether an end of stream was sent on it.
type TamperedEnd<'a> = (&'a TcpStream, &'a AtomicBool);

/// Forwards one direction up to its end.
fn pass((mut from, is_shut): TamperedEnd, (mut to, shuts): TamperedEnd, damage: TamperKind) {
    let (mut buffer, mut passed) = ([0; 4096], 0);
    loop {
        let count = match from.read(&mut buffer) {
            // A write may have consumed the error of a reset. Then the socket has no peer any more;
            // the same is true after both ends have sent an end of stream.
            Ok(0) if from.peer_addr().is_ok() || is_shut.load(Ordering::SeqCst) => {
                shuts.store(true, Ordering::SeqCst);
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            Ok(count) if count > 0 => count,
            _ if damage == TamperKind::ResetToEnd => {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            _ => {
                // With this option, closing the socket sends a reset. Until then its reader must
                // end, and nothing may be sent.
                let _ = set_socket_linger(to, Some(Duration::ZERO));
                let _ = to.shutdown(Shutdown::Read);
                return;
            }
        };
        let is_due = passed <= UNHARMED && passed + count as u64 > UNHARMED;
        if is_due && damage == TamperKind::Flip {
            buffer[0] ^= 1;
        }
        passed += count as u64;
        if damage == TamperKind::Hang && passed > UNHARMED {
            return;
        }
        // Data that nobody takes are still read, because unread bytes would turn the end of this
        // connection into a reset.
        let _ = to.write_all(&buffer[..count]);
    }
}
