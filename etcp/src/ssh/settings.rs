//! The settings that ssh would use, as `ssh -G` reports them after reading its configuration.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::process::{Command, Stdio};

use eternaltcp::client::Family;
use eternaltcp::process::as_started;

use crate::exit::Failure;

/// ssh's settings for one host.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct SshSettings(BTreeMap<String, String>);

impl SshSettings {
    /// Queries ssh, with the options of a login.
    pub(crate) fn ask(options: &[OsString], host: &OsStr) -> Result<Self, Failure> {
        let mut command = Command::new("ssh");
        // Without a terminal, which it would miss.
        command.args(["-G", "-T"]).args(options).arg("--").arg(host).stdin(Stdio::null());
        let output = as_started(&mut command)
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| Failure::Failed(format!("cannot start ssh: {error}")))?;
        match output.status.code() {
            Some(0) => Ok(Self::parse(&String::from_utf8_lossy(&output.stdout))),
            // ssh has reported why.
            code => Err(Failure::Ended(code.and_then(|code| code.try_into().ok()).unwrap_or(255))),
        }
    }

    /// Parses lines of a keyword in lower case and its value. The first one counts.
    fn parse(text: &str) -> Self {
        let mut settings = BTreeMap::new();
        for (keyword, value) in text.lines().filter_map(|line| line.split_once(' ')) {
            settings.entry(keyword.to_ascii_lowercase()).or_insert_with(|| value.to_owned());
        }
        Self(settings)
    }

    fn get(&self, keyword: &str) -> Option<&str> {
        self.0.get(keyword).map(String::as_str).filter(|value| *value != "none")
    }

    /// Returns the name or address that ssh connects to.
    pub(crate) fn host_name(&self) -> Option<&str> {
        self.get("hostname")
    }

    /// Returns whether ssh reaches the host through a jump or a command.
    pub(crate) fn is_proxied(&self) -> bool {
        self.get("proxyjump").is_some() || self.get("proxycommand").is_some()
    }

    /// Returns the source address of connections.
    pub(crate) fn bind_address(&self) -> Option<IpAddr> {
        self.get("bindaddress").and_then(|address| address.parse().ok())
    }

    /// Returns the interface of connections.
    pub(crate) fn bind_interface(&self) -> Option<&str> {
        self.get("bindinterface").filter(|name| !name.is_empty())
    }

    /// Returns the address family of connections, in ssh's notation.
    pub(crate) fn address_family(&self) -> Option<&str> {
        self.get("addressfamily")
    }

    /// Returns the address family of connections; `None` for any.
    pub(crate) fn family(&self) -> Option<Family> {
        self.address_family().and_then(family)
    }

    /// Returns options that override settings which keep a login from running a command and talking
    /// to it. ssh before 8.7 has none of these settings, and reports none.
    pub(crate) fn undone(&self) -> Vec<OsString> {
        let usual =
            [("SessionType", "default"), ("ForkAfterAuthentication", "no"), ("StdinNull", "no")];
        let unusual = usual.iter().filter(|(keyword, value)| {
            self.0.get(&keyword.to_ascii_lowercase()).is_some_and(|it| it != value)
        });
        unusual.map(|(keyword, value)| format!("-o{keyword}={value}").into()).collect()
    }
}

/// Parses the address family in ssh's notation; `None` for any.
pub(super) fn family(name: &str) -> Option<Family> {
    match name {
        "inet" => Some(Family::V4),
        "inet6" => Some(Family::V6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_ssh_are_read() {
        let settings = SshSettings::parse(
            "host alias\nuser me\nhostname 192.0.2.1\nproxycommand none\n\
             sessiontype none\nstdinnull no\nforkafterauthentication yes\nbindaddress 10.0.0.1\n\
             addressfamily inet6\n",
        );
        assert_eq!(settings.host_name(), Some("192.0.2.1"));
        assert!(!settings.is_proxied());
        assert_eq!(settings.bind_address(), Some([10, 0, 0, 1].into()));
        assert_eq!(settings.family(), Some(Family::V6));
        assert_eq!(SshSettings::parse("addressfamily any\n").family(), None);
        assert_eq!(settings.undone(), ["-oSessionType=default", "-oForkAfterAuthentication=no"]);
        assert!(SshSettings::parse("proxyjump a,b\n").is_proxied());
        assert!(SshSettings::parse("ProxyCommand nc %h %p\n").is_proxied());
        assert_eq!(SshSettings::parse(""), SshSettings::default());
    }
}
