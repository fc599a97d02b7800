//! Datagrams there and back, each with a number, so that a late answer is not mistaken for another.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::link::EmulatedLink;

const PORT: u16 = 7;

/// A pair of sockets at the two ends of a link.
pub(crate) struct Pinger {
    left: UdpSocket,
    right: UdpSocket,
    left_address: SocketAddr,
    right_address: SocketAddr,
}

impl Pinger {
    pub(crate) fn v4(link: &EmulatedLink) -> Self {
        Self::new(link, [10, 73, 0, 1].into(), [10, 73, 0, 2].into())
    }

    pub(crate) fn v6(link: &EmulatedLink) -> Self {
        let address = |last| IpAddr::from([0xfd73, 0, 0, 0, 0, 0, 0, last]);
        Self::new(link, address(1), address(2))
    }

    fn new(link: &EmulatedLink, left: IpAddr, right: IpAddr) -> Self {
        let (left_address, right_address) = ((left, PORT).into(), (right, PORT).into());
        let bind = |address: SocketAddr| {
            let socket = UdpSocket::bind(address).expect("the device has the address");
            socket.set_read_timeout(Some(PATIENCE)).expect("a time-out is set");
            socket
        };
        let left = link.left.run(|| bind(left_address));
        let right = link.right.run(|| bind(right_address));
        Self { left, right, left_address, right_address }
    }

    /// Sends a datagram of `bytes` to the right.
    pub(crate) fn send_up(&self, number: u32, bytes: usize) {
        self.left.send_to(&datagram(number, bytes), self.right_address).expect("it is sent");
    }

    /// Sends a datagram of `bytes` to the left.
    pub(crate) fn send_down(&self, number: u32, bytes: usize) {
        self.right.send_to(&datagram(number, bytes), self.left_address).expect("it is sent");
    }

    /// Returns the number of the next datagram at the right.
    pub(crate) fn receive_up(&self) -> u32 {
        receive(&self.right)
    }

    /// Returns the number of the next datagram at the left.
    pub(crate) fn receive_down(&self) -> u32 {
        receive(&self.left)
    }

    /// Returns whether nothing waits at the right.
    pub(crate) fn is_right_empty(&self) -> bool {
        self.right.set_nonblocking(true).expect("a flag is set");
        let result = self.right.recv(&mut [0]);
        self.right.set_nonblocking(false).expect("a flag is set");
        matches!(result, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Returns the time of one datagram there and back.
    pub(crate) fn ping(&self, number: u32) -> Duration {
        let start = Instant::now();
        self.send_up(number, 56);
        assert_eq!(self.receive_up(), number);
        self.send_down(number, 56);
        assert_eq!(self.receive_down(), number);
        start.elapsed()
    }
}

fn datagram(number: u32, bytes: usize) -> Vec<u8> {
    let mut datagram = vec![0; bytes];
    datagram[..4].copy_from_slice(&number.to_be_bytes());
    datagram
}

fn receive(socket: &UdpSocket) -> u32 {
    let mut buffer = [0; 2048];
    let count = socket.recv(&mut buffer).expect("a datagram arrives");
    assert!(count >= 4);
    buffer[..4].try_into().map(u32::from_be_bytes).expect("four bytes")
}
