//! A carrier through ssh, at the server's end: stdio is the wire to the sproxy
//! that listens on this machine.

use std::fs::File;
use std::io::{self, Write, stdout};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::thread;

use crate::exit::Failure;
use crate::talk::Message;

pub(crate) fn run(wish: &Message) -> Result<(), Failure> {
    let port: u16 = wish.get("port").map_err(Failure::failed)?;
    let failed = |error| {
        Failure::Failed(format!("the sproxy on port {port} of the server is gone: {error}"))
    };
    let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(failed)?;
    carry(socket).map_err(Failure::failed)
}

/// Copies until the sproxy has ended its direction, or nobody takes what it
/// says. The end of stdin is told to it.
fn carry(mut socket: TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut input = File::from(rustix::stdio::stdin().as_fd().try_clone_to_owned()?);
    let mut output = File::from(rustix::stdio::stdout().as_fd().try_clone_to_owned()?);
    let mut said = stdout().lock();
    writeln!(said, "\n{}", Message::new("through"))?;
    said.flush()?;
    let mut to = socket.try_clone()?;
    thread::spawn(move || {
        // An input that fails has ended, whatever the reason.
        let _ = io::copy(&mut input, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    io::copy(&mut socket, &mut output).map(drop)
}
