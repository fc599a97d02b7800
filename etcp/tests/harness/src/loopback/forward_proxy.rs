//! An HTTP or SOCKS5 proxy on loopback whose connections are counted and can be cut.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// The treatment of a connection.
#[derive(Clone, Copy)]
pub enum Manner {
    /// HTTP CONNECT; with this value of `Proxy-Authorization`, if required.
    Http(Option<&'static str>),
    /// SOCKS5 without a login.
    Socks5,
    /// Sends this answer to every request.
    Answers(&'static [u8]),
}

/// A proxy that listens. It ends with the test's process.
pub struct ForwardProxy {
    pub address: SocketAddr,
    state: Arc<ForwardProxyState>,
}

#[derive(Default)]
struct ForwardProxyState {
    /// The requested destinations, in order.
    asked: Mutex<Vec<String>>,
    open: Mutex<Vec<TcpStream>>,
}

impl ForwardProxy {
    pub fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        let address = listener.local_addr().expect("it listens");
        let state = Arc::new(ForwardProxyState::default());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || serve(stream, manner, &state));
            }
        });
        Self { address, state }
    }

    /// Returns the requested destinations so far.
    pub fn asked(&self) -> Vec<String> {
        self.state.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends all connections through it.
    pub fn cut(&self) {
        let open = &mut *self.state.open.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn serve(mut stream: TcpStream, manner: Manner, state: &ForwardProxyState) -> io::Result<()> {
    let (target, granted): (_, &[u8]) = match manner {
        Manner::Answers(answer) => {
            let mut some = [0; 1];
            stream.read_exact(&mut some)?;
            stream.write_all(answer)?;
            // The request is read, so that no reset overtakes the answer.
            stream.shutdown(Shutdown::Write)?;
            return io::copy(&mut stream, &mut io::sink()).map(|_| ());
        }
        Manner::Http(login) => {
            let head = read_head(&mut stream)?;
            if login.is_some_and(|login| !head.contains(login)) {
                stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")?;
                return Ok(());
            }
            let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
            (target, b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
        }
        Manner::Socks5 => (read_socks5(&mut stream)?, b"\x05\0\0\x01\0\0\0\0\0\0"),
    };
    state.asked.lock().unwrap_or_else(PoisonError::into_inner).push(target.clone());
    let server = TcpStream::connect(target)?;
    stream.write_all(granted)?;
    let (from, to) = (stream.try_clone()?, server.try_clone()?);
    let open = &mut *state.open.lock().unwrap_or_else(PoisonError::into_inner);
    open.extend([stream.try_clone()?, server.try_clone()?]);
    for (mut from, mut to) in [(from, to), (server, stream)] {
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
    Ok(())
}

fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn read_socks5(stream: &mut TcpStream) -> io::Result<String> {
    let mut greeting = [0; 2];
    stream.read_exact(&mut greeting)?;
    stream.read_exact(&mut vec![0; greeting[1].into()])?;
    stream.write_all(&[5, 0])?;
    let mut request = [0; 4];
    stream.read_exact(&mut request)?;
    let host = match request[3] {
        1 => IpAddr::from(Ipv4Addr::from(read::<4>(stream)?)).to_string(),
        4 => format!("[{}]", Ipv6Addr::from(read::<16>(stream)?)),
        _ => {
            let mut name = vec![0; read::<1>(stream)?[0].into()];
            stream.read_exact(&mut name)?;
            String::from_utf8_lossy(&name).into_owned()
        }
    };
    Ok(format!("{host}:{}", u16::from_be_bytes(read::<2>(stream)?)))
}

fn read<const N: usize>(stream: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}
