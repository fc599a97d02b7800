//! The notification of service managers about readiness (sd_notify(3)).

use std::env;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketType, sendto, socket};

/// The service manager's socket.
#[derive(Debug)]
pub(super) struct ServiceManager {
    socket: OwnedFd,
    address: SocketAddrUnix,
}

impl ServiceManager {
    /// Returns the service manager, if there is one that expects a notification.
    pub(super) fn of_environment() -> Option<Self> {
        Self::at(&env::var_os("NOTIFY_SOCKET")?)
    }

    fn at(place: &OsStr) -> Option<Self> {
        let address = match place.as_bytes() {
            #[cfg(target_os = "linux")]
            [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name).ok()?,
            [b'/', ..] => SocketAddrUnix::new(place).ok()?,
            _ => return None,
        };
        let socket = socket(AddressFamily::UNIX, SocketType::DGRAM, None).ok()?;
        // A program that is started gets no copy of the socket.
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC).ok()?;
        Some(Self { socket, address })
    }

    /// Reports that the program serves.
    pub(super) fn ready(&self) {
        // A service manager that does not listen is ignored.
        let _ = sendto(&self.socket, b"READY=1", SendFlags::empty(), &self.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn the_manager_hears_that_the_program_is_ready() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let heard = UnixDatagram::bind(&path).unwrap();
        ServiceManager::at(path.as_os_str()).unwrap().ready();
        let mut text = [0; 100];
        let length = heard.recv(&mut text).unwrap();
        assert_eq!(&text[..length], b"READY=1");
        assert!(ServiceManager::at(OsStr::new("vsock:2:1234")).is_none());
    }
}
