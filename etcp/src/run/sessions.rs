//! The program's connections, each a session to its original destination.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use eternaltcp::client::Opener;
use eternaltcp::{Listener, peer_name};
use tracing::{debug, warn};

use super::dns::{self, DNS_PORT};
use super::handover::InnerSockets;
use super::names::ResolvedNames;
use super::refused;

/// Starts a task for each of the sockets.
pub(super) fn start(
    sockets: InnerSockets,
    opener: &Opener,
    names: &Arc<Mutex<ResolvedNames>>,
) -> io::Result<()> {
    for listener in sockets.tcp {
        let listener = Listener::from_tcp(listener)?;
        tokio::spawn(accept(listener, opener.clone(), Arc::clone(names)));
    }
    for socket in sockets.dns {
        socket.set_nonblocking(true)?;
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        tokio::spawn(dns::serve(socket, opener.clone(), Arc::clone(names)));
    }
    match sockets.log {
        Some(log) => {
            let thread = std::thread::Builder::new().spawn(move || refused::log_refused(&log));
            if let Err(error) = thread {
                warn!(
                    "traffic other than TCP is refused without a log line: cannot start a thread: {error}"
                );
            }
        }
        None => {
            warn!(
                "this kernel has no nfnetlink_log: traffic other than TCP is refused without a log line"
            )
        }
    }
    Ok(())
}

/// Forwards every connection that was redirected to `listener`, until the client ends.
async fn accept(mut listener: Listener, opener: Opener, names: Arc<Mutex<ResolvedNames>>) {
    loop {
        let stream = listener.accept().await;
        let is_running = match stream.original_destination() {
            Ok(address) if address.port() == DNS_PORT => opener.carry_to_resolver(stream).await,
            Ok(address) => {
                let target = names.lock().unwrap_or_else(PoisonError::into_inner).target(address);
                debug!("a connection to {address} is forwarded to {target}");
                opener.carry(stream, Some(&target)).await
            }
            // A program inside has found this port; nothing is behind it.
            Err(error) => {
                debug!("a connection from {} is dropped: {error}", peer_name(&stream));
                true
            }
        };
        if !is_running {
            return;
        }
    }
}
