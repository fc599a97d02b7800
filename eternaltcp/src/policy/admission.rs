//! The admission of a key, and its permissions.

use std::{net::IpAddr, sync::Arc, time::SystemTime};

use super::{AuthorizedKeys, GroupPermits, authorized_keys::KeyEntry, host_ports::HostPorts};
use eternaltcp_tls::PublicKey;

/// An admission, with the restrictions that remain.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) struct Admission {
    /// The line that admitted the key, counted from 1.
    pub line: usize,
    /// The last moment of the admission.
    pub expires: Option<SystemTime>,
    /// The targets that the key may name.
    pub open: HostPorts,
    /// The addresses on which the key may ask the server to listen.
    pub listen: HostPorts,
    /// The groups that have the key.
    pub groups: Vec<Arc<GroupPermits>>,
    /// The name of the key: the comment of its line.
    pub name: Option<Arc<str>>,
}

/// The reason why a key is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Denial {
    /// No line has the key.
    #[error("the key is not in the server's authorized_keys")]
    KeyUnknown,
    /// Every line that has the key is past its `expiry-time=`.
    #[error("the key has expired (line {line} of the server's authorized_keys)")]
    KeyExpired {
        /// The line with the option, counted from 1.
        line: usize,
    },
    /// `from=` does not include the carrier's address.
    #[error(
        "the key may not come from {peer} (from= on line {line} of the server's authorized_keys)"
    )]
    AddressNotAllowed {
        /// The line with the option, counted from 1.
        line: usize,
        /// The carrier's address.
        peer: IpAddr,
    },
    /// `restrict` or `no-port-forwarding`, without `port-forwarding`.
    #[error(
        "the key may not forward (add port-forwarding to line {line} of the server's authorized_keys)"
    )]
    ForwardingForbidden {
        /// The line with the option, counted from 1.
        line: usize,
    },
    /// The line has an option that cannot be obeyed.
    #[error("line {line} of the server's authorized_keys admits nobody: {reason}")]
    LineUnusable {
        /// The line, counted from 1.
        line: usize,
        /// The option and the fault.
        reason: String,
    },
}

impl Denial {
    /// Returns whether the search ends here. As in sshd, a line whose `from=` or `expiry-time=`
    /// does not hold is skipped. A line that cannot be obeyed ends the search: no later line may
    /// grant what it may have forbidden.
    pub(crate) fn ends_search(&self) -> bool {
        matches!(self, Self::ForwardingForbidden { .. } | Self::LineUnusable { .. })
    }

    /// Returns the line that denies the key, counted from 1.
    pub(crate) fn line(&self) -> Option<usize> {
        match self {
            Self::KeyUnknown => None,
            Self::KeyExpired { line }
            | Self::AddressNotAllowed { line, .. }
            | Self::ForwardingForbidden { line }
            | Self::LineUnusable { line, .. } => Some(*line),
        }
    }

    /// Returns a rank: of several denials, the one with the highest rank is reported, because the
    /// user can do most about it.
    pub(crate) fn weight(&self) -> u8 {
        match self {
            Self::KeyUnknown => 0,
            Self::KeyExpired { .. } => 1,
            Self::ForwardingForbidden { .. } | Self::LineUnusable { .. } => 2,
            Self::AddressNotAllowed { .. } => 3,
        }
    }
}

/// Decides about a key that a peer at `peer` has proved to own: the first line of the key whose
/// conditions hold decides, as in sshd.
///
/// # Errors
/// No line admits the key.
pub(crate) fn judge(
    keys: &AuthorizedKeys,
    key: &PublicKey,
    peer: IpAddr,
    now: SystemTime,
) -> Result<Admission, Denial> {
    let peer = peer.to_canonical();
    let mut strongest = Denial::KeyUnknown;
    for entry in keys.entries_of(key) {
        let denial = match judge_entry(entry, peer, now) {
            Ok(admission) => return Ok(admission),
            Err(denial) => denial,
        };
        let ends_search = denial.ends_search();
        if denial.weight() > strongest.weight() {
            strongest = denial;
        }
        if ends_search {
            break;
        }
    }
    Err(strongest)
}

fn judge_entry(entry: &KeyEntry, peer: IpAddr, now: SystemTime) -> Result<Admission, Denial> {
    let line = entry.line;
    let terms = match &entry.terms {
        Ok(terms) => terms,
        Err(reason) => return Err(Denial::LineUnusable { line, reason: reason.clone() }),
    };
    if terms.expires.is_some_and(|last| last < now) {
        return Err(Denial::KeyExpired { line });
    }
    if terms.from.as_ref().is_some_and(|from| !from.contains(peer)) {
        return Err(Denial::AddressNotAllowed { line, peer });
    }
    if !terms.forwarding {
        return Err(Denial::ForwardingForbidden { line });
    }
    Ok(Admission {
        line,
        expires: terms.expires,
        open: terms.open.clone(),
        listen: terms.listen.clone(),
        groups: Vec::new(),
        name: entry.name.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::{parse_key, test_keys::*},
        *,
    };
    use std::time::Duration;

    const HOME: &str = "192.0.2.1";

    /// Decides about the first key of the tests on 2025-01-01, with each entry of `options` before
    /// that key.
    fn judge_lines(options: &[&str], peer: &str) -> Result<usize, Denial> {
        let text: String = options.iter().map(|options| format!("{options} {ED25519}\n")).collect();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_735_689_600);
        let key = parse_key(ED25519).unwrap();
        judge(&AuthorizedKeys::parse(&text), &key, peer.parse().unwrap(), now).map(|a| a.line)
    }

    #[test]
    fn a_key_without_options_is_let_in_and_another_is_not() {
        let keys = AuthorizedKeys::parse(ED25519);
        let judged = |key| {
            judge(&keys, &parse_key(key).unwrap(), HOME.parse().unwrap(), SystemTime::UNIX_EPOCH)
        };
        let all = Admission {
            line: 1,
            expires: None,
            open: HostPorts::Any,
            listen: HostPorts::Any,
            groups: Vec::new(),
            name: None,
        };
        assert_eq!(judged(ED25519), Ok(all));
        assert_eq!(judged(OTHER_ED25519), Err(Denial::KeyUnknown));
        assert_eq!(judged(P256), Err(Denial::KeyUnknown));
    }

    #[test]
    fn the_first_line_whose_conditions_hold_decides() {
        let lines = ["expiry-time=\"20241231Z\"", "from=\"10.0.0.0/8\"", "pty", "restrict"];
        assert_eq!(judge_lines(&lines, HOME), Ok(3));
        assert_eq!(judge_lines(&lines, "::ffff:10.1.2.3"), Ok(2));
        assert_eq!(
            judge_lines(&["restrict", "pty"], HOME),
            Err(Denial::ForwardingForbidden { line: 1 })
        );
    }

    #[test]
    fn a_line_that_cannot_be_obeyed_ends_the_search() {
        for option in
            ["command=\"ls\"", "from=\"a.example.org\"", "future-option", "cert-authority"]
        {
            let denial = judge_lines(&[option, "pty"], HOME).unwrap_err();
            assert!(matches!(denial, Denial::LineUnusable { line: 1, .. }), "{option}: {denial}");
            assert_eq!(judge_lines(&["pty", option], HOME), Ok(1));
        }
    }

    #[test]
    fn a_key_is_valid_up_to_its_last_second() {
        assert_eq!(judge_lines(&["expiry-time=\"20250101Z\""], HOME), Ok(1));
        assert_eq!(
            judge_lines(&["expiry-time=\"20241231235959Z\""], HOME),
            Err(Denial::KeyExpired { line: 1 })
        );
    }

    #[test]
    fn an_address_that_is_not_allowed_is_told_first() {
        for lines in [
            ["from=\"10.0.0.0/8\"", "restrict"],
            ["from=\"10.0.0.0/8\"", "expiry-time=\"20200101Z\""],
            ["expiry-time=\"20200101Z\"", "from=\"10.0.0.0/8\""],
        ] {
            let denial = judge_lines(&lines, HOME).unwrap_err();
            assert!(matches!(denial, Denial::AddressNotAllowed { .. }), "{denial}");
        }
    }
}
