//! The server's end of a carrier through ssh: stdio is connected to the sproxy that listens on this
//! machine.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::thread;

use crate::exit::ExitError;
use crate::stdio;
use crate::talk::Message;

/// The maximum number of bytes that are copied at once.
const BUFFER: usize = 32 * 1024;

pub(crate) fn run(request: &Message) -> Result<(), ExitError> {
    let port: u16 = request.get("port").map_err(ExitError::failed)?;
    let failed = |error| {
        ExitError::Failed(format!("the sproxy on port {port} of the server is gone: {error}"))
    };
    let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(failed)?;
    carry(socket).map_err(ExitError::failed)
}

/// Copies until the sproxy has ended its direction, or nobody reads its data. The end of stdin is
/// passed on to it.
fn carry(mut socket: TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    stdio::write_stdout(format!("\n{}\n", Message::new("through")).as_bytes())?;
    let mut to = socket.try_clone()?;
    thread::Builder::new().spawn(move || {
        // An input that fails has ended, whatever the reason.
        let _ = copy(&mut stdio::Stdin, |bytes| to.write_all(bytes));
        let _ = to.shutdown(Shutdown::Write);
    })?;
    copy(&mut socket, stdio::write_stdout)
}

/// Copies until `from` ends. [`io::copy`] would use splice, and the kernel holds a pipe's lock
/// while a splice waits for the socket. sshd, which reads the other end of the pipe, would block
/// for that time.
fn copy(from: &mut impl Read, mut write: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        write(buffer.get(..length).unwrap_or_default())?;
    }
}
