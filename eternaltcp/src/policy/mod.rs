//! The keys that are admitted, the targets that they may reach, and the servers that a client
//! trusts: OpenSSH's own files and formats, evaluated by pure functions.
//!
//! Only `files` reads and writes, and `strict_modes` reads owners of files; nothing here resolves a
//! name or reads a clock. A fault in a file becomes a [`LineWarning`] for the log and never widens
//! what is allowed.

mod account;
mod admission;
mod authorized_keys;
mod expiry;
mod files;
mod group;
mod group_limits;
mod host_ports;
mod key_options;
mod known_hosts;
mod listens;
mod network;
mod pattern;
mod permit;
mod revoked_keys;
mod strict_modes;
mod targets;
#[cfg(test)]
mod targets_of_keys;

pub(crate) use account::Account;
pub use account::user_name;
pub(crate) use admission::{Admission, Denial, judge};
pub use authorized_keys::AuthorizedKeys;
pub(crate) use files::{
    FileError, append_known_host, find_authority, missing_or_unreadable, open_authorized_keys,
};
pub use files::{check_known_hosts, load_authorized_keys};
pub use group::GroupPermits;
pub use group_limits::GroupLimits;
pub(crate) use known_hosts::hashed_known_hosts_line;
pub use known_hosts::{HostKey, HostSearch, known_hosts_line};
pub use listens::ListenPermit;
pub(crate) use listens::{ListenPolicy, ListenRefusal};
pub use network::Network;
pub use permit::Permit;
pub(crate) use revoked_keys::is_revoked;
pub use strict_modes::StrictModes;
pub(crate) use targets::{TargetDecision, TargetPolicy};

use eternaltcp_tls::{KeyError, PublicKey};

/// A line of a file that has no effect, or not the effect that it requests.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LineWarning {
    /// Counted from 1.
    pub line: usize,
    /// The fault, in words for the log.
    pub reason: String,
}

/// Parses `TYPE BASE64 [COMMENT]`, separated by any number of spaces.
fn parse_key(text: &str) -> Result<PublicKey, KeyError> {
    let mut words = text.split_ascii_whitespace();
    let algorithm = words.next().unwrap_or_default();
    if words.next().is_some() && is_key_type(algorithm) && !PublicKey::is_supported(algorithm) {
        return Err(KeyError::Unsupported(algorithm.to_owned()));
    }
    PublicKey::from_openssh(text)
}

/// Returns whether a word is a key type of OpenSSH, supported or not.
fn is_key_type(word: &str) -> bool {
    ["ssh-", "ecdsa-sha2-", "sk-"].iter().any(|prefix| word.starts_with(prefix))
}

/// Splits a line after its first word; spaces between the parts are dropped.
fn split_word(line: &str) -> (&str, &str) {
    let end = line.find([' ', '\t']).unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    (word, rest.trim_start_matches([' ', '\t']))
}

/// Returns the relevant lines with their numbers from 1: without blank lines, comments and
/// surrounding spaces.
fn meaningful_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// Keys for tests, made with `ssh-keygen`.
#[cfg(test)]
mod test_keys {
    pub(super) const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDJI+fNTS8Op9glNAAIWDRJ98X2R6P2eM1fi3TEfnVuN";
    pub(super) const OTHER_ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJP35QLxOwxozBzdm3QlD7+8phw2pSopGTPStJhusy4t";
    pub(super) const P256: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBJI0xZEuIvr/jF3sM7n1aVdz6b8sar/ZWLpqNTmPj/w6W4sZo1uwvG0r83vPnC8jpoeSa3mN/WC9e8HPAaRCJFY=";
    pub(super) const P384: &str = "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBM/oMc8rUOtrMGTAffH6dU8PTWjS5tZVk3BnXZn+Gd/jDow4tXrz6aglQMwM9bVUaDwrwq9qXDFPCUXE96LEhBgTC4f7+gjHn7BcMWmstQjWGEUyL85wUv64AyQXs9unhA==";
    pub(super) const RSA: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDA";
}
