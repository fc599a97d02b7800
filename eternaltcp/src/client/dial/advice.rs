//! Advice about a failed dial, for a user whose client was never attached.

use std::io::ErrorKind;

use super::DialError;
use eternaltcp_tls::HandshakeError;

impl DialError {
    /// Returns the reason, and what to do about it unless the reason makes that clear.
    pub(crate) fn explain(&self) -> String {
        match self.advice() {
            Some(advice) => format!("{self}: {advice}"),
            None => self.to_string(),
        }
    }

    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Resolve(..) => Some("check the name, and the network of this machine"),
            Self::Connect(_, error) => of_connect(error.kind()),
            Self::TimedOut(_) => {
                Some("check the address, and that no firewall drops packets to that port")
            }
            Self::Handshake(_, HandshakeError::Ended | HandshakeError::Io(_)) => Some(
                "check host and port; sproxy itself also does this to an address from which too \
                 many attempts have failed",
            ),
            _ => None,
        }
    }
}

fn of_connect(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::ConnectionRefused => Some(
            "is sproxy running there, on that port? Start it with: etcp sproxy; where only an ssh \
             server runs, use: etcp ssh",
        ),
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => {
            Some("check the address, and the network of this machine")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::client::{Rejection, RejectionReason};

    #[test]
    fn a_first_contact_that_fails_says_what_to_do() {
        let connect = |kind: ErrorKind| DialError::Connect("a:6200".to_owned(), kind.into());
        let address = "192.0.2.1:6200".parse().unwrap();
        for (error, contains) in [
            (connect(ErrorKind::ConnectionRefused), "is sproxy running there"),
            (connect(ErrorKind::ConnectionRefused), "etcp ssh"),
            (connect(ErrorKind::NetworkUnreachable), "the network of this machine"),
            (connect(ErrorKind::HostUnreachable), "check the address"),
            (DialError::TimedOut("a:6200".to_owned()), "firewall"),
            (DialError::Resolve("a".to_owned(), io::Error::other("none")), "check the name"),
            (DialError::Handshake(address, HandshakeError::Ended), "check host and port"),
        ] {
            let text = error.explain();
            assert!(text.starts_with(&error.to_string()) && text.contains(contains), "{text}");
        }
        let proxy = DialError::ConnectProxy("p".to_owned(), ErrorKind::ConnectionRefused.into());
        assert_eq!(proxy.explain(), proxy.to_string(), "sproxy is not to be started there");
        let whole = Rejection::new(RejectionReason::HostKeyUnknown, "the whole of it");
        assert_eq!(DialError::Trust(whole).explain(), "the whole of it");
    }
}
