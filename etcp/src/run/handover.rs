//! Messages between this process and its helper: sockets one way, stdin the other, as descriptors
//! over a Unix socket (unix(7), `SCM_RIGHTS`).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// The maximum number of descriptors in one message: TCP and UDP of two families, and the log.
const MAX_DESCRIPTORS: usize = 5;

/// The sockets that listen inside. Everything that the program sends arrives at one of them.
#[derive(Debug, Default)]
pub(super) struct InnerSockets {
    /// TCP of each family, to which all connections are redirected.
    pub(super) tcp: Vec<TcpListener>,
    /// DNS queries of each family.
    pub(super) dns: Vec<UdpSocket>,
    /// The log of refused packets, if the kernel has one.
    pub(super) log: Option<OwnedFd>,
}

impl InnerSockets {
    /// Returns each socket with the letter that identifies it.
    fn listed(&self) -> Vec<(u8, BorrowedFd<'_>)> {
        let tcp = self.tcp.iter().map(|socket| (b't', socket.as_fd()));
        let dns = self.dns.iter().map(|socket| (b'd', socket.as_fd()));
        tcp.chain(dns).chain(self.log.iter().map(|socket| (b'l', socket.as_fd()))).collect()
    }

    fn add(&mut self, letter: u8, socket: OwnedFd) -> io::Result<()> {
        match letter {
            b't' => self.tcp.push(socket.into()),
            b'd' => self.dns.push(socket.into()),
            b'l' => self.log = Some(socket),
            _ => return Err(io::Error::other("the helper is of another version")),
        }
        Ok(())
    }
}

/// Sends the sockets; called by the helper.
pub(super) fn give_sockets(line: &UnixStream, sockets: &InnerSockets) -> io::Result<()> {
    let (letters, descriptors): (Vec<u8>, Vec<BorrowedFd<'_>>) =
        sockets.listed().into_iter().unzip();
    send(line, &letters, &descriptors)
}

/// Receives the sockets; `None` if the helper has failed.
pub(super) fn take_sockets(line: &UnixStream) -> io::Result<Option<InnerSockets>> {
    let (letters, descriptors) = receive(line)?;
    let mut sockets = InnerSockets::default();
    for (letter, descriptor) in letters.iter().zip(descriptors) {
        sockets.add(*letter, descriptor)?;
    }
    Ok((!letters.is_empty()).then_some(sockets))
}

/// Makes the helper become the program, with the stdin of this process.
pub(super) fn give_stdin(line: &UnixStream) -> io::Result<()> {
    send(line, b"i", &[rustix::stdio::stdin()])
}

/// Waits for stdin; called by the helper. Returns `None` if the program must not run.
pub(super) fn take_stdin(line: &UnixStream) -> io::Result<Option<OwnedFd>> {
    Ok(receive(line)?.1.pop())
}

fn send(line: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    sendmsg(line, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one message, or nothing if the other end is gone.
fn receive(line: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = [0; MAX_DESCRIPTORS];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        match recvmsg(line, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            result => break result?,
        }
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok((bytes[..received.bytes].to_vec(), descriptors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_and_stdin_arrive_and_an_end_is_none() {
        let (here, there) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let dns = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sockets = InnerSockets { tcp: vec![listener], dns: vec![dns], log: None };
        give_sockets(&there, &sockets).unwrap();
        let taken = take_sockets(&here).unwrap().unwrap();
        assert_eq!(taken.tcp[0].local_addr().unwrap(), address);
        assert_eq!((taken.tcp.len(), taken.dns.len(), taken.log.is_some()), (1, 1, false));
        give_stdin(&here).unwrap();
        assert!(take_stdin(&there).unwrap().is_some());
        drop(here);
        assert!(take_stdin(&there).unwrap().is_none());
    }
}
