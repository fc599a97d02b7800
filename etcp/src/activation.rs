//! Sockets that the service manager has opened for this process (sd_listen_fds(3)).

use std::net::TcpListener;

use crate::exit::ExitError;

/// The sockets of a process. They are never closed, because its workers share them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ActivatedSockets(&'static [NamedSocket]);

/// A socket, and its name from `FileDescriptorName=`, or else that of its unit.
#[derive(Debug)]
struct NamedSocket {
    name: String,
    socket: TcpListener,
}

/// The name of sockets for metrics. All others are for carriers.
const METRICS: &str = "metrics";

impl ActivatedSockets {
    pub(crate) fn none() -> Self {
        Self(&[])
    }

    /// Takes the sockets that were opened for this process, if there are any. Call this before the
    /// program opens anything, and only once.
    ///
    /// # Errors
    /// One of them does not accept TCP connections.
    pub(crate) fn take() -> Result<Self, ExitError> {
        #[cfg(target_os = "linux")]
        let sockets = linux::take()?;
        #[cfg(not(target_os = "linux"))]
        let sockets = Vec::new();
        Ok(Self(sockets.leak()))
    }

    /// Returns copies of the sockets for carriers, which their owner may close.
    pub(crate) fn for_carriers(self) -> Result<Vec<TcpListener>, ExitError> {
        self.copies(|name| name != METRICS)
    }

    /// Returns copies of the sockets for metrics, which their owner may close.
    pub(crate) fn for_metrics(self) -> Result<Vec<TcpListener>, ExitError> {
        self.copies(|name| name == METRICS)
    }

    fn copies(self, is_meant: impl Fn(&str) -> bool) -> Result<Vec<TcpListener>, ExitError> {
        let meant = self.0.iter().filter(|it| is_meant(&it.name));
        let copies: Result<_, _> = meant.map(|it| it.socket.try_clone()).collect();
        copies.map_err(ExitError::failed)
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::os::fd::{AsFd, OwnedFd, RawFd};
    use std::{env, iter};

    use eternaltcp_sys::Inherited;
    use rustix::net::{AddressFamily, SocketType, getsockname, sockopt};

    use super::{ExitError, NamedSocket};

    /// The number of the first descriptor (`SD_LISTEN_FDS_START`).
    const FIRST: RawFd = 3;

    /// The maximum number of sockets.
    const MAX: RawFd = 64;

    pub(super) fn take() -> Result<Vec<NamedSocket>, ExitError> {
        let variable = |name| env::var(name).unwrap_or_default();
        let pid = std::process::id();
        let count = count(&variable("LISTEN_PID"), &variable("LISTEN_FDS"), pid)?;
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut inherited = Inherited::at_start().map_err(ExitError::failed)?;
        // A program that this one starts gets no copy of them.
        inherited.close_at_exec();
        let names = variable("LISTEN_FDNAMES");
        // Without names, all are for carriers.
        let names = names.split(':').map(str::to_owned).chain(iter::repeat(String::new()));
        (FIRST..FIRST + count)
            .zip(names)
            .map(|(number, name)| {
                let socket = inherited.take(number).filter(accepts_tcp).ok_or_else(|| {
                    ExitError::Failed(format!(
                        "LISTEN_FDS: descriptor {number} of the service manager does not accept TCP \
                         connections: give ListenStream= an address and a port"
                    ))
                })?;
                Ok(NamedSocket { name, socket: socket.into() })
            })
            .collect()
    }

    /// Returns the number of sockets for the process `pid`. The variables may be for its parent.
    fn count(for_process: &str, number: &str, pid: u32) -> Result<RawFd, ExitError> {
        if for_process.parse() != Ok(pid) {
            return Ok(0);
        }
        number.parse().ok().filter(|count| (0..=MAX).contains(count)).ok_or_else(|| {
            ExitError::Failed(format!("LISTEN_FDS={number:?} is not a number from 0 to {MAX}"))
        })
    }

    fn accepts_tcp(socket: &OwnedFd) -> bool {
        let socket = socket.as_fd();
        let family = getsockname(socket).map(|address| address.address_family());
        matches!(family, Ok(AddressFamily::INET | AddressFamily::INET6))
            && sockopt::socket_type(socket) == Ok(SocketType::STREAM)
            && sockopt::socket_acceptconn(socket) == Ok(true)
    }

    #[cfg(test)]
    mod tests {
        use std::net::TcpListener;

        use super::*;

        #[test]
        fn only_sockets_that_are_for_this_process_count() {
            let count = |pid, number| count(pid, number, 7).ok();
            assert_eq!(count("7", "2"), Some(2));
            for (pid, number) in [("8", "2"), ("", "2"), ("", ""), ("8", "x")] {
                assert_eq!(count(pid, number), Some(0), "{pid:?} {number:?}");
            }
            for number in ["", "x", "-1", "65", "99999999999"] {
                assert_eq!(count("7", number), None, "{number:?}");
            }
        }

        #[test]
        fn only_a_listening_tcp_socket_is_taken() {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let (unix, _other) = std::os::unix::net::UnixStream::pair().unwrap();
            assert!(accepts_tcp(&listener.into()));
            for other in [stream.into(), datagrams.into(), unix.into()] {
                assert!(!accepts_tcp(&other));
            }
            assert!(!accepts_tcp(&std::fs::File::open("/dev/null").unwrap().into()));
        }
    }
}
