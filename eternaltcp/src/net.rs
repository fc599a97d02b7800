//! Options of the sockets that carriers use.

use std::io;

use socket2::SockRef;
use tokio::net::TcpStream;

/// Unsent bytes that the kernel may hold for a carrier: little, so that a
/// keystroke does not wait behind them.
const NOTSENT_LOWAT: u32 = 16 * 1024;

/// Prepares a carrier's socket.
pub(crate) fn prepare_carrier(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_notsent_lowat(NOTSENT_LOWAT)
}
