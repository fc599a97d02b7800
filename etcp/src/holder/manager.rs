//! The notification of service managers about readiness (sd_notify(3)).

use std::env;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketType, sendto, socket};

/// The service manager's socket.
#[derive(Debug)]
pub(super) struct ServiceManager {
    socket: OwnedFd,
    address: SocketAddrUnix,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// Returns the service manager of the process `main`, if there is one that expects
    /// notifications.
    pub(super) fn of_environment(main: u32) -> Option<Self> {
        let manager = Self::at(&env::var_os("NOTIFY_SOCKET")?)?;
        Some(Self { watchdog: watchdog_of(main), ..manager })
    }

    /// Returns the interval in which the manager wants to hear that the program serves.
    pub(super) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
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
        Some(Self { socket, address, watchdog: None })
    }

    /// Reports that the program serves.
    pub(super) fn ready(&self) {
        self.say(b"READY=1");
    }

    /// Reports that the program still serves.
    pub(super) fn serves(&self) {
        self.say(b"WATCHDOG=1");
    }

    fn say(&self, text: &[u8]) {
        // A service manager that does not listen is ignored, and one that is slow is not waited for.
        let _ = sendto(&self.socket, text, SendFlags::DONTWAIT, &self.address);
    }
}

/// Returns the interval of the watchdog of the process `main` (sd_watchdog_enabled(3)).
pub(super) fn watchdog_of(main: u32) -> Option<Duration> {
    let number = |name: &str| env::var(name).ok()?.parse::<u64>().ok();
    if env::var_os("WATCHDOG_PID").is_some() && number("WATCHDOG_PID") != Some(u64::from(main)) {
        return None;
    }
    number("WATCHDOG_USEC").filter(|interval| *interval > 0).map(Duration::from_micros)
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
        let manager = ServiceManager::at(path.as_os_str()).unwrap();
        manager.ready();
        let mut text = [0; 100];
        let length = heard.recv(&mut text).unwrap();
        assert_eq!(&text[..length], b"READY=1");
        manager.serves();
        let length = heard.recv(&mut text).unwrap();
        assert_eq!(&text[..length], b"WATCHDOG=1");
        assert!(ServiceManager::at(OsStr::new("vsock:2:1234")).is_none());
    }
}
