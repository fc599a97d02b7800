//! The decision where clients may make the server listen.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use super::{Admission, permit::Permit};
use crate::address::{AddressError, Listen, ListenHost};

/// One value of `--permit-listen`: a pattern like those of `--permit`, over the address to listen
/// on, or `none`.
///
/// `localhost` means every loopback address. `*` means every address, including the wildcards
/// `0.0.0.0` and `[::]`. Port 0, with which the system chooses, requires every port from 1024 on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenPermit(Option<Permit>);

impl FromStr for ListenPermit {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text == "none" { Ok(Self(None)) } else { text.parse().map(Some).map(Self) }
    }
}

impl ListenPermit {
    /// Returns whether it is `none`, which permits no address.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the pattern; `None` for `none`.
    pub(super) fn into_permit(self) -> Option<Permit> {
        self.0
    }
}

impl fmt::Display for ListenPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(permit) => permit.fmt(f),
            None => f.write_str("none"),
        }
    }
}

/// The addresses on which the server listens for clients.
///
/// An address must be allowed by the server's permits and by the key's own `permitlisten=`. Without
/// permits, the server allows loopback addresses and unprivileged ports, as a careful sshd does
/// with `GatewayPorts no`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListenPolicy(Vec<Permit>);

/// The reason why the server does not listen there. The client is told which rule to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ListenRefusal {
    /// No permit of the server includes the address.
    #[error(
        "the server does not permit listening there (its operator can add it with --permit-listen)"
    )]
    NotPermitted,
    /// The key's own options do not include it.
    #[error(
        "the key may not listen there (its line in authorized_keys has permitlisten= without it)"
    )]
    NotForThisKey,
    /// The request has a name instead of an address.
    #[error("a server does not look up names to listen on: write an address, localhost or *")]
    Name,
}

impl ListenPolicy {
    /// Creates the policy for `permits`; if there are none, it allows loopback addresses on ports
    /// from 1024 on.
    #[must_use]
    pub(crate) fn new(permits: Vec<ListenPermit>) -> Self {
        if permits.is_empty() {
            return Self(vec![Permit::unprivileged_loopback()]);
        }
        Self(permits.into_iter().filter_map(|permit| permit.0).collect())
    }

    /// Decides about an address as the client requested it, and returns at which of its
    /// [parts](Listen::parts) the server may listen.
    ///
    /// # Errors
    /// The server or the key permits none of them.
    pub(crate) fn decide(
        &self,
        admission: &Admission,
        listen: &Listen,
    ) -> Result<Vec<Listen>, ListenRefusal> {
        if matches!(listen, Listen::Host(ListenHost::Name(_), _)) {
            return Err(ListenRefusal::Name);
        }
        let allows = |part: &Listen| admission.listen.allow_listen(part);
        let of_groups = || admission.groups.iter().flat_map(|group| group.listens());
        let permits =
            |part: &Listen| self.0.iter().chain(of_groups()).any(|it| it.has_listener(part));
        let of_key: Vec<_> = listen.parts().into_iter().filter(|it| covers(it, allows)).collect();
        if of_key.is_empty() {
            return Err(ListenRefusal::NotForThisKey);
        }
        let permitted: Vec<_> = of_key.into_iter().filter(|it| covers(it, permits)).collect();
        if permitted.is_empty() { Err(ListenRefusal::NotPermitted) } else { Ok(permitted) }
    }
}

/// Returns whether a part is permitted. The wildcard of IPv6 also covers the part of IPv4.
fn covers(part: &Listen, permits: impl Fn(&Listen) -> bool) -> bool {
    let wider = |address: &SocketAddr| {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, address.port()));
        address.ip() == Ipv4Addr::UNSPECIFIED && permits(&Listen::Tcp(any))
    };
    permits(part) || matches!(part, Listen::Tcp(address) if wider(address))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::{
        super::{AuthorizedKeys, judge, parse_key, test_keys::ED25519},
        *,
    };

    /// Returns the decision for a key with these options: `ok`, `part`, `server`, `key` or `name`.
    fn decide(permits: &[&str], options: &str, listen: &str) -> &'static str {
        let permits = permits.iter().map(|permit| permit.parse().unwrap()).collect();
        let keys = AuthorizedKeys::parse(&format!("{options} {ED25519}"));
        let key = parse_key(ED25519).unwrap();
        let home = [127, 0, 0, 1].into();
        let admission = judge(&keys, &key, home, SystemTime::UNIX_EPOCH).unwrap();
        let listen: Listen = listen.parse().unwrap();
        match ListenPolicy::new(permits).decide(&admission, &listen) {
            Ok(parts) if parts == listen.parts() => "ok",
            Ok(_) => "part",
            Err(ListenRefusal::Name) => "name",
            Err(ListenRefusal::NotPermitted) => "server",
            Err(ListenRefusal::NotForThisKey) => "key",
        }
    }

    #[test]
    fn without_a_permit_loopback_and_unprivileged_ports_are_permitted() {
        for (listen, decided) in [
            ("127.0.0.1:8080", "ok"),
            ("127.9.0.1:1024", "ok"),
            ("[::1]:65535", "ok"),
            ("localhost:0", "ok"),
            ("127.0.0.1:80", "server"),
            ("0.0.0.0:8080", "server"),
            ("*:8080", "server"),
            ("*:0", "server"),
            ("192.0.2.1:8080", "server"),
            ("unix:/run/x", "server"),
        ] {
            assert_eq!(decide(&[], "", listen), decided, "{listen}");
        }
    }

    #[test]
    fn a_permit_stands_in_place_of_the_default() {
        for (permits, listen, decided) in [
            (&["*:8000-8099"][..], "*:8099", "ok"),
            (&["*:8000-8099"], "*:8100", "server"),
            (&["*:8000-8099"], "127.0.0.1:9000", "server"),
            (&["*:*"], "192.0.2.1:80", "ok"),
            (&["*:*"], "*:0", "ok"),
            (&["*:*"], "unix:/run/x", "server"),
            (&["localhost:*"], "[::1]:80", "ok"),
            (&["localhost:*"], "*:80", "server"),
            (&["localhost:*"], "localhost:80", "ok"),
            (&["127.0.0.1:*"], "localhost:80", "part"),
            (&["[::1]:*"], "localhost:80", "part"),
            (&["192.0.2.1:*"], "localhost:80", "server"),
            (&["0.0.0.0:80"], "*:80", "part"),
            (&["[::]:80"], "*:80", "ok"),
            (&["*:*"], "example.org:80", "name"),
            (&["[fe80::/10]:*"], "[fe80::1%eth0]:80", "ok"),
            (&["[fe80::1%eth0]:*"], "[fe80::1%eth0]:80", "ok"),
            (&["[fe80::1%eth1]:*"], "[fe80::1%eth0]:80", "server"),
            (&["loc*:*"], "127.0.0.1:80", "ok"),
            (&["10.0.0.0/8:*"], "10.1.2.3:80", "ok"),
            (&["10.0.0.0/8:*"], "0.0.0.0:80", "server"),
            (&["0.0.0.0:80"], "0.0.0.0:80", "ok"),
            (&["[::]:80", "[::1]:81"], "[::1]:81", "ok"),
            (&["[::]:80", "[::1]:81"], "[::1]:80", "server"),
            (&["unix:/run/x/*"], "unix:/run/x/a", "ok"),
            (&["unix:/run/x/*"], "unix:/run/y", "server"),
            (&["none"], "127.0.0.1:8080", "server"),
            (&["none", "127.0.0.1:1"], "127.0.0.1:1", "ok"),
        ] {
            assert_eq!(decide(permits, "", listen), decided, "{permits:?} {listen}");
        }
    }

    #[test]
    fn the_key_must_permit_it_too() {
        let all = &["*:*", "unix:/run/x"];
        for (options, listen, decided) in [
            (r#"permitlisten="8080""#, "*:8080", "ok"),
            (r#"permitlisten="8080""#, "*:8081", "key"),
            (r#"permitlisten="localhost:8080""#, "*:8080", "key"),
            (r#"permitlisten="127.0.0.1:8080""#, "localhost:8080", "part"),
            (r#"permitlisten="none""#, "127.0.0.1:8080", "key"),
            (r#"permitopen="none""#, "127.0.0.1:8080", "ok"),
            (r#"restrict,port-forwarding,permitlisten="*:*""#, "unix:/run/x", "ok"),
            (r#"permitlisten="*:80""#, "unix:/run/x", "key"),
        ] {
            assert_eq!(decide(all, options, listen), decided, "{options} {listen}");
        }
        assert_eq!(decide(&[], r#"permitlisten="*:*""#, "*:8080"), "server");
    }

    #[test]
    fn the_written_form_reads_the_same() {
        for text in ["none", "*:8000-8099", "localhost:*", "[::1]:80", "unix:/run/x/*"] {
            assert_eq!(text.parse::<ListenPermit>().unwrap().to_string(), text);
        }
        assert!("8080".parse::<ListenPermit>().is_err());
    }
}
