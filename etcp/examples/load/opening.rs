//! The ways to make connections, with the first bytes that the server expects.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{
    AddressFamily, Protocol, SocketType, bind, connect, ipproto, listen, socket, sockopt,
};

/// Nothing on these paths takes this long, unless it is lost.
const PATIENCE: Duration = Duration::from_secs(10);
const WAITING_CONNECTIONS: i32 = 4096;

/// The purpose of a connection: its first byte.
pub(crate) const UP: u8 = b'u';
pub(crate) const DOWN: u8 = b'd';
pub(crate) const BOTH: u8 = b'b';
pub(crate) const ECHO: u8 = b'e';

/// Makes connections to one address.
#[derive(Clone, Copy)]
pub(crate) struct LoadOpener {
    pub(crate) address: SocketAddr,
    pub(crate) is_mptcp: bool,
}

impl LoadOpener {
    /// Opens a session that is echoed.
    pub(crate) fn echo(&self) -> io::Result<TcpStream> {
        self.open(&[ECHO])
    }

    /// Opens a bulk session; the server counts what arrives for `time`.
    pub(crate) fn bulk(&self, mode: u8, time: Duration) -> io::Result<TcpStream> {
        let milliseconds = u32::try_from(time.as_millis()).map_err(io::Error::other)?;
        let mut first = vec![mode];
        first.extend(milliseconds.to_le_bytes());
        self.open(&first)
    }

    fn open(&self, first: &[u8]) -> io::Result<TcpStream> {
        let mut stream = if self.is_mptcp {
            let socket = self.socket()?;
            connect(&socket, &self.address)?;
            TcpStream::from(socket)
        } else {
            TcpStream::connect(self.address)?
        };
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(first)?;
        Ok(stream)
    }

    /// Listens on the address.
    pub(crate) fn listen(&self) -> io::Result<TcpListener> {
        let socket = self.socket()?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &self.address)?;
        listen(&socket, WAITING_CONNECTIONS)?;
        let listener = TcpListener::from(socket);
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    fn socket(&self) -> io::Result<OwnedFd> {
        let family =
            if self.address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let protocol: Option<Protocol> = self.is_mptcp.then_some(ipproto::MPTCP);
        Ok(socket(family, SocketType::STREAM, protocol)?)
    }
}

/// Ends a connection with a reset: unsent data are not waited for.
pub(crate) fn reset(stream: TcpStream) -> io::Result<()> {
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    drop(stream);
    Ok(())
}
