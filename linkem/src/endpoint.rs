//! An end of the link in the form of the command line: `NETNS:DEV=ADDR/PREFIX,...`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// A device to create: its namespace, name and addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The file of the namespace; `None` for the current one.
    pub(crate) netns: Option<PathBuf>,
    pub(crate) device: String,
    pub(crate) addresses: Vec<(IpAddr, u8)>,
}

impl Endpoint {
    pub(crate) fn has_ipv6(&self) -> bool {
        self.addresses.iter().any(|(ip, _)| ip.is_ipv6())
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "write an end as NETNS:DEV=ADDR/PREFIX, as in a:tun0=10.0.0.1/24";
        let (place, addresses) = text.split_once('=').ok_or(form)?;
        let (netns, device) = place.rsplit_once(':').ok_or(form)?;
        check_device(device)?;
        let addresses = addresses.split(',').map(read_address).collect::<Result<_, _>>()?;
        Ok(Self { netns: read_netns(netns)?, device: device.to_owned(), addresses })
    }
}

fn read_netns(text: &str) -> Result<Option<PathBuf>, String> {
    match text {
        "" => Ok(None),
        "." | ".." => Err(format!("{text:?} is not the name of a network namespace")),
        _ if text.contains('/') => Ok(Some(text.into())),
        _ => Ok(Some(PathBuf::from("/run/netns").join(text))),
    }
}

/// Accepts a name that the kernel accepts, and that needs no escaping anywhere.
fn check_device(name: &str) -> Result<(), String> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    let starts = name.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if !starts || name.len() > 15 || !name.bytes().all(plain) {
        return Err(format!(
            "{name:?} is not the name of a device: it has 1 to 15 letters, digits, '-', '_' or '.'"
        ));
    }
    Ok(())
}

fn read_address(text: &str) -> Result<(IpAddr, u8), String> {
    let read = || {
        let (ip, prefix) = text.split_once('/')?;
        let (ip, prefix): (IpAddr, u8) = (ip.parse().ok()?, prefix.parse().ok()?);
        (prefix <= if ip.is_ipv6() { 128 } else { 32 }).then_some((ip, prefix))
    };
    read().ok_or_else(|| {
        format!(
            "{text:?} is not an address: write it with its prefix, as in 10.0.0.1/24 or fd00::1/64"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_has_a_namespace_a_device_and_addresses() {
        let end: Endpoint = "a:tun0=10.0.0.1/24,fd00::1/64".parse().unwrap();
        assert_eq!(end.netns, Some("/run/netns/a".into()));
        assert_eq!(end.device, "tun0");
        assert_eq!(end.addresses.len(), 2);
        assert!(end.has_ipv6());
        let end: Endpoint = "/proc/7/ns/net:t=10.0.0.1/32".parse().unwrap();
        assert_eq!(end.netns, Some("/proc/7/ns/net".into()));
        assert_eq!(":t=10.0.0.1/32".parse::<Endpoint>().unwrap().netns, None);
    }

    #[test]
    fn a_text_that_is_not_an_endpoint_is_refused() {
        for text in [
            "",
            "a:tun0",
            "tun0=10.0.0.1/24",
            "a:=10.0.0.1/24",
            "a:tun0=",
            "a:tun0=10.0.0.1",
            "a:tun0=10.0.0.1/33",
            "a:tun0=fd00::1/129",
            "a:tun0=10.0.0.1/24,",
            "..:t=10.0.0.1/24",
            "a:-d=10.0.0.1/24",
            "a:t un=10.0.0.1/24",
            "a:sixteen-letters-=10.0.0.1/24",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text:?}");
        }
    }
}
