//! Plain sockets: from a chosen loopback address, and with time limits.

use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, bind, connect, listen, socket};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::PATIENCE;

/// The maximum number of connections that wait in a queue until a busy machine accepts them. The queue
/// of the standard library holds 128, and the kernel drops the rest of a crowd for seconds.
const MAX_WAITING: i32 = 4096;

/// Listens on a loopback port, for a crowd of connections.
pub fn listener() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    listen(&listener, MAX_WAITING).expect("it listens already");
    listener
}

/// Connects from `source`, another loopback address: to the server another client.
pub fn connect_from(source: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family, SocketType::STREAM, None)?;
    bind(&socket, &SocketAddr::new(source, 0))?;
    connect(&socket, &to)?;
    Ok(TcpStream::from(socket))
}

/// Connects, or panics.
#[track_caller]
pub fn dial(to: SocketAddr) -> TcpStream {
    patient(TcpStream::connect(to).expect("it listens"))
}

/// Makes reads and writes of a stream fail rather than hang for ever.
pub fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out is set");
    stream.set_write_timeout(Some(PATIENCE)).expect("a time-out is set");
    stream
}

/// Returns whether the other end has closed or reset the connection. Its data are discarded.
pub fn is_over(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("it is a socket");
    loop {
        match (&*stream).read(&mut [0; 4096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

/// Raises this process's limit of descriptors to the maximum.
pub fn raise_own_limit() {
    let hard = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard });
}

/// Sets a flag when it is dropped, even by a panic: threads that check it end with the test.
pub struct SetAtEnd<'a>(pub &'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Pauses between two attempts of a hostile peer. This is its pace, not a wait for an event.
pub fn pace() {
    std::thread::sleep(Duration::from_millis(5));
}

/// Returns whether the program at the other end of a loopback connection has read all that was
/// sent.
pub fn is_read(stream: &TcpStream) -> bool {
    // A busy kernel may deliver later what was sent: then the queue at the other end is still empty.
    let is_sent = own_end(stream).is_some_and(|[_, queues]| queues.starts_with("00000000:"));
    is_sent && other_end(stream).is_some_and(|[_, queues]| queues.ends_with(":00000000"))
}

/// Returns whether the program at the other end of a loopback connection has closed it. This end
/// does not learn of it while its own queue is full.
pub fn is_closed(stream: &TcpStream) -> bool {
    other_end(stream).is_none_or(|[state, _]| state != "01")
}

/// Returns what the system says about the other end of a loopback connection.
fn other_end(stream: &TcpStream) -> Option<[String; 2]> {
    end(stream.peer_addr(), stream.local_addr())
}

/// Returns what the system says about this end of a loopback connection.
fn own_end(stream: &TcpStream) -> Option<[String; 2]> {
    end(stream.local_addr(), stream.peer_addr())
}

/// Returns what the system says about an end of a loopback connection, as in proc(5): its state, and
/// the queues to send and to read.
fn end(
    here: std::io::Result<SocketAddr>,
    there: std::io::Result<SocketAddr>,
) -> Option<[String; 2]> {
    let port = |address: std::io::Result<SocketAddr>| address.expect("it is connected").port();
    let ends = [port(here), port(there)].map(|port| format!(":{port:04X}"));
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the table is there");
    table.lines().find_map(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let [_, local, remote, state, queues, ..] = columns[..] else { return None };
        let is_it = local.ends_with(&ends[0]) && remote.ends_with(&ends[1]);
        is_it.then(|| [state, queues].map(str::to_owned))
    })
}
