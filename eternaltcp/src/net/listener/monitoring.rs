//! Listeners whose connections this process answers itself, for monitoring.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Listener;
use crate::address::Listen;
#[cfg(not(target_os = "linux"))]
use crate::address::ListenHost;
use crate::net::slots::Slots;
use crate::net::stream::LocalIo;
use crate::recovery::Recovery;
#[cfg(target_os = "linux")]
use crate::store::ListenerPurpose;

/// The text under which sockets that the process was given are kept, in place of an address.
#[cfg(target_os = "linux")]
const GIVEN: &str = "the service manager's";

/// A listener with a limited number of connections, whose descriptors are not those of sessions.
/// Further connections wait in the kernel.
///
/// Its sockets are kept for the next process. Its open connections are not: they end with the
/// process.
#[derive(Debug)]
pub struct MonitoringListener {
    listener: Listener,
    places: Arc<Semaphore>,
}

impl MonitoringListener {
    /// Listens with the sockets of an earlier process, or binds them.
    ///
    /// # Errors
    /// The address is in use or does not belong to this machine.
    ///
    /// # Panics
    /// There is no tokio runtime with I/O and time.
    pub fn recover_or_bind(
        recovery: &mut Recovery,
        listen: &Listen,
        connections: usize,
    ) -> io::Result<Self> {
        // One more than there are permits, so that none is ever waited for.
        let slots = Slots::new(connections + 1, 0);
        #[cfg(target_os = "linux")]
        let listener = {
            let purpose = ListenerPurpose::Metrics;
            Listener::recover_or(recovery, purpose, listen, slots, |slots| {
                Listener::bind_parts(listen, &listen.parts(), slots)
            })
        };
        #[cfg(not(target_os = "linux"))]
        let listener = {
            let _ = recovery;
            Listener::bind_parts(listen, &listen.parts(), slots)
        };
        listener.map(|listener| Self::new(listener, connections))
    }

    /// Listens with the sockets that this process was given, or those that an earlier process was.
    /// Returns `None` if there are none.
    ///
    /// # Errors
    /// The system refuses an option of a socket.
    ///
    /// # Panics
    /// There is no tokio runtime with I/O and time.
    pub fn recover_or_take(
        recovery: &mut Recovery,
        given: Vec<std::net::TcpListener>,
        connections: usize,
    ) -> io::Result<Option<Self>> {
        let slots = Slots::new(connections + 1, 0);
        #[cfg(target_os = "linux")]
        let listener = {
            let purpose = ListenerPurpose::Metrics;
            Listener::recover_or_take(recovery, purpose, GIVEN, given, slots)
        };
        #[cfg(not(target_os = "linux"))]
        let listener = {
            let _ = recovery;
            Listener::take(&Listen::Host(ListenHost::Any, 0), given, slots)
        };
        Ok(listener?.map(|listener| Self::new(listener, connections)))
    }

    fn new(mut listener: Listener, connections: usize) -> Self {
        // Requests on them may have been read.
        listener.accepted.clear();
        Self { listener, places: Arc::new(Semaphore::new(connections)) }
    }

    /// Returns each of its addresses, with the port that the system chose.
    #[must_use]
    pub fn parts(&self) -> Vec<Listen> {
        self.listener.parts()
    }

    /// Returns the next connection, once there is a place for it. Cancel-safe.
    pub async fn accept(&mut self) -> MonitoringStream {
        loop {
            // The semaphore is never closed.
            let place = Arc::clone(&self.places).acquire_owned().await.ok();
            let stream = self.listener.accept().await;
            let origin = stream.origin();
            let is_unix = stream.is_unix();
            let is_loopback = origin.is_some_and(|it| it.destination().ip().is_loopback());
            if let Some(io) = stream.into_io() {
                return MonitoringStream { io, is_loopback, is_unix, _place: place };
            }
        }
    }
}

/// A connection for monitoring.
#[derive(Debug)]
pub struct MonitoringStream {
    io: Box<dyn LocalIo>,
    is_loopback: bool,
    is_unix: bool,
    _place: Option<OwnedSemaphorePermit>,
}

impl MonitoringStream {
    /// Returns whether it came to a loopback address of this machine. A web page of anybody may make
    /// a browser here do so.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.is_loopback
    }

    /// Returns whether its client is on this machine, as far as its address says: it came to a
    /// loopback address or to a Unix socket.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.is_loopback || self.is_unix
    }
}

impl AsyncRead for MonitoringStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for MonitoringStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
