//! The congestion control of carriers: the system's default, or another one of the kernel.

use std::fmt;
use std::io;
use std::str::FromStr;

use eternaltcp_sys::set_congestion;
use socket2::{Domain, Socket, Type};

/// The longest name that Linux gives one, without its NUL (`TCP_CA_NAME_MAX`).
const MAX_NAME: usize = 15;

/// A congestion control of the kernel, by its name: `bbr`, `cubic`. It decides how fast a carrier
/// sends, and how it reacts to losses.
///
/// ```
/// let congestion: eternaltcp::Congestion = "bbr".parse()?;
/// # Ok::<_, eternaltcp::CongestionError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Congestion(String);

/// The reason why a congestion control cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CongestionError {
    /// No kernel accepts this name.
    #[error("a congestion control is named like bbr or cubic")]
    NoName,
    /// This system has none of this name.
    #[error(
        "this system has no congestion control {0}: see sysctl net.ipv4.tcp_available_congestion_control, \
         and load its module (modprobe tcp_{0})"
    )]
    Unknown(String),
    /// It exists, but this user may not choose it.
    #[error(
        "this user may not choose congestion control {0}: add it to sysctl \
         net.ipv4.tcp_allowed_congestion_control, or make it the system's \
         (net.ipv4.tcp_congestion_control)"
    )]
    NotAllowed(String),
    /// The system did not answer.
    #[error("cannot choose congestion control {0}: {1}")]
    Failed(String, String),
}

impl Congestion {
    /// Checks on a separate socket whether this process may use it.
    ///
    /// # Errors
    /// The reason why not.
    pub fn check(&self) -> Result<(), CongestionError> {
        let tried = Socket::new(Domain::IPV4, Type::STREAM, None)
            .and_then(|socket| self.set(&socket))
            .map_err(|error| (error.kind(), error.to_string()));
        let name = || self.0.clone();
        match tried {
            Ok(()) => Ok(()),
            Err((io::ErrorKind::NotFound, _)) => Err(CongestionError::Unknown(name())),
            Err((io::ErrorKind::PermissionDenied, _)) => Err(CongestionError::NotAllowed(name())),
            Err((_, error)) => Err(CongestionError::Failed(name(), error)),
        }
    }

    /// Makes a socket use it, and also the connections that a listener accepts.
    ///
    /// # Errors
    /// `NotFound` if the system has none of this name, `PermissionDenied` if
    /// this user may not choose it.
    pub(crate) fn set(&self, socket: &Socket) -> io::Result<()> {
        set_congestion(socket, &self.0)
    }
}

impl FromStr for Congestion {
    type Err = CongestionError;

    fn from_str(text: &str) -> Result<Self, CongestionError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let is_name = (1..=MAX_NAME).contains(&text.len()) && text.chars().all(fits);
        if is_name { Ok(Self(text.to_owned())) } else { Err(CongestionError::NoName) }
    }
}

impl fmt::Display for Congestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_a_kernel() {
        for name in ["bbr", "cubic", "dctcp", "tcp_x-2"] {
            assert_eq!(name.parse::<Congestion>().unwrap().to_string(), name);
        }
        for name in ["", "a b", "../x", "bbr\0", "a-name-of-16-bytes"] {
            assert_eq!(name.parse::<Congestion>(), Err(CongestionError::NoName), "{name:?}");
        }
    }

    /// Every Linux has reno, and lets every user choose it.
    #[test]
    fn a_socket_has_the_one_that_was_chosen() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let reno: Congestion = "reno".parse().unwrap();
        reno.set(&socket).unwrap();
        assert!(socket.tcp_congestion().unwrap().starts_with(b"reno\0"));
        assert_eq!(reno.check(), Ok(()));
        let none: Congestion = "nosuch".parse().unwrap();
        assert_eq!(none.check(), Err(CongestionError::Unknown("nosuch".to_owned())));
    }
}
