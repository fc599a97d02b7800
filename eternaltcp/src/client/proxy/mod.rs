//! HTTP and SOCKS proxies that carriers go through.
//!
//! - `conversation`: asks a proxy for a connection;
//! - `http`, `socks`: requests, and the meaning of answers;
//! - `bypass`: the servers that are reached without it.

mod bypass;
mod conversation;
mod http;
mod socks;

use std::env;
use std::fmt;
use std::str::FromStr;

use tokio::io::{AsyncRead, AsyncWrite};
use zeroize::Zeroizing;

use crate::address::ServerAddress;
pub use bypass::NoProxy;
pub use conversation::ProxyRefusal;

/// The default port in a URL, as for curl.
const DEFAULT_PORT: u16 = 1080;

/// The environment variables of the proxy; the first that is set counts.
const VARIABLES: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

/// A proxy that carriers go through, parsed from a URL as for curl:
/// `http://[USER:PASSWORD@]HOST[:PORT]`, or with `socks5h`, `socks5`, `socks4a` or `socks4` in
/// place of `http`. `socks5` and `socks4` proxies get addresses, all others the server's name.
///
/// Neither `Display` nor `Debug` shows the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    kind: ProxyProtocol,
    address: ServerAddress,
    login: Option<ProxyCredentials>,
    bypass: NoProxy,
}

/// The protocol of a proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ProxyProtocol {
    Http,
    /// SOCKS5 with the name of the server.
    Socks5h,
    /// SOCKS5 with an address.
    Socks5,
    Socks4a,
    Socks4,
}

/// The credentials of a client at its proxy.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct ProxyCredentials {
    pub(super) user: String,
    pub(super) password: Zeroizing<String>,
}

/// The reason why a text is not a proxy. It does not show the text, which may contain a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a proxy (http://[USER:PASSWORD@]HOST:PORT, socks5h://…, socks5://…, socks4a://… or none): {0}"
)]
pub struct ProxyError(&'static str);

impl Proxy {
    /// Returns the proxy that the environment names for a TLS connection, as for curl: the first of
    /// `https_proxy`, `HTTPS_PROXY`, `all_proxy` and `ALL_PROXY` that is set, without the hosts in
    /// `no_proxy` or `NO_PROXY`.
    ///
    /// # Errors
    /// The variable whose text is not a usable proxy, and the reason.
    pub fn from_env() -> Result<Option<Self>, (&'static str, ProxyError)> {
        let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let Some((name, text)) = VARIABLES.iter().find_map(|name| Some((*name, set(name)?))) else {
            return Ok(None);
        };
        let proxy: Self = text.parse().map_err(|error| (name, error))?;
        let bypass = set("no_proxy").or_else(|| set("NO_PROXY")).unwrap_or_default();
        Ok(Some(proxy.bypassed(NoProxy::parse(&bypass))))
    }

    /// Returns the same proxy, bypassed for these hosts.
    #[must_use]
    pub fn bypassed(mut self, bypass: NoProxy) -> Self {
        self.bypass = bypass;
        self
    }

    /// Returns whether this server is reached through the proxy.
    #[must_use]
    pub fn is_for(&self, server: &ServerAddress) -> bool {
        !self.bypass.has(&server.host)
    }

    /// Returns whether the URL has a password.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.login.as_ref().is_some_and(|login| !login.password.is_empty())
    }

    /// Returns the URL with its password, which nobody else should see.
    #[must_use]
    pub fn to_secret_url(&self) -> Zeroizing<String> {
        let login = match &self.login {
            Some(ProxyCredentials { user, password }) => {
                format!("{}:{}@", encode(user), encode(password))
            }
            None => String::new(),
        };
        Zeroizing::new(format!("{}://{login}{}", self.kind.scheme(), self.address))
    }

    /// Makes the proxy at the other end of `stream` connect to `server`, within 30 s and 16 KiB;
    /// the following bytes are the server's.
    ///
    /// If the future is dropped before its end, drop the stream with it.
    ///
    /// # Errors
    /// The reason why it does not, in words that follow its name.
    pub async fn connect<S>(
        &self,
        stream: &mut S,
        server: &ServerAddress,
    ) -> Result<(), ProxyRefusal>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        conversation::connect(stream, self, server).await
    }

    /// Returns the address of the proxy.
    #[must_use]
    pub fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// Returns whether the proxy gets an address of the server instead of its name.
    pub(super) fn needs_address(&self) -> bool {
        matches!(self.kind, ProxyProtocol::Socks5 | ProxyProtocol::Socks4)
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.trim().split_once("://").unwrap_or(("http", text.trim()));
        let kind = match scheme.to_ascii_lowercase().as_str() {
            "http" => ProxyProtocol::Http,
            "socks5h" => ProxyProtocol::Socks5h,
            "socks5" => ProxyProtocol::Socks5,
            "socks4a" => ProxyProtocol::Socks4a,
            "socks4" | "socks" => ProxyProtocol::Socks4,
            "https" => {
                return Err(
                    "TLS to the proxy itself (https://) is not supported: write http:// if it takes \
                     that too, or use a ProxyCommand of ssh's configuration that speaks TLS to it",
                );
            }
            _ => return Err("the scheme is not known"),
        };
        // The last @ ends the login: a password may contain one that is not encoded.
        let (login, rest) = match rest.rsplit_once('@') {
            Some((login, rest)) => (Some(ProxyCredentials::parse(login)?), rest),
            None => (None, rest),
        };
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let mut address: ServerAddress =
            host.parse().map_err(|_| "the host or the port is missing or wrong")?;
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if !has_port || host.parse::<std::net::Ipv6Addr>().is_ok() {
            address.port = DEFAULT_PORT;
        }
        Ok(Self { kind, address, login, bypass: NoProxy::default() })
    }
}

impl ProxyProtocol {
    fn scheme(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Socks5h => "socks5h",
            Self::Socks5 => "socks5",
            Self::Socks4a => "socks4a",
            Self::Socks4 => "socks4",
        }
    }
}

impl ProxyCredentials {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (user, password) = text.split_once(':').unwrap_or((text, ""));
        let login = Self { user: decode(user)?, password: Zeroizing::new(decode(password)?) };
        match login.user.len() <= 255 && login.password.len() <= 255 {
            true => Ok(login),
            false => Err("the user or the password is longer than 255 bytes"),
        }
    }
}

/// Replaces `%41` by `A`. Control characters would break a proxy's protocol.
fn decode(text: &str) -> Result<String, &'static str> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        let hex =
            after.get(..2).filter(|_| byte == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    let text = String::from_utf8(bytes).map_err(|_| "the user or the password is not UTF-8")?;
    match text.chars().any(char::is_control) {
        true => Err("the user or the password has a control character"),
        false => Ok(text),
    }
}

/// Encodes a text so that [`decode`] restores it.
fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encoded = text.bytes().map(|byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    encoded.collect()
}

impl FromStr for Proxy {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        Self::parse(text).map_err(ProxyError)
    }
}

/// Formats the URL without the login.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.kind.scheme(), self.address)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(text: &str) -> Proxy {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn urls_are_read_as_curl_reads_them() {
        for (text, shown) in [
            ("http://proxy.test:3128", "http://proxy.test:3128"),
            ("HTTP://proxy.test:3128/", "http://proxy.test:3128"),
            ("proxy.test:3128", "http://proxy.test:3128"),
            ("proxy.test", "http://proxy.test:1080"),
            ("socks5h://10.0.0.1", "socks5h://10.0.0.1:1080"),
            ("socks5://[2001:db8::1]:9050", "socks5://[2001:db8::1]:9050"),
            ("socks5://[2001:db8::1]", "socks5://[2001:db8::1]:1080"),
            ("socks4a://a:1", "socks4a://a:1"),
            ("socks://a:1", "socks4://a:1"),
            ("http://me:secret@proxy.test:3128", "http://proxy.test:3128"),
        ] {
            assert_eq!(proxy(text).to_string(), shown, "{text}");
        }
        for text in [
            "",
            "http://",
            "https://a:1",
            "ftp://a:1",
            "http://a:0",
            "http://a:x",
            "http://a b",
            "http://%0a:@a:1",
        ] {
            assert!(text.parse::<Proxy>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_login_is_decoded_and_never_shown() {
        for text in ["http://me:s%40cr%3Aet@a:1", "http://me:s@cr:et@a:1"] {
            let proxy = proxy(text);
            let login = proxy.login.as_ref().unwrap();
            assert_eq!((login.user.as_str(), login.password.as_str()), ("me", "s@cr:et"));
            assert!(proxy.has_password());
            assert!(!format!("{proxy} {proxy:?}").contains("cr"), "{proxy:?}");
            assert_eq!(proxy.to_secret_url().parse(), Ok(proxy));
        }
        assert!(!proxy("http://me@a:1").has_password());
        let long = format!("http://{}@a:1", "x".repeat(300));
        assert!(!long.parse::<Proxy>().unwrap_err().to_string().contains("xxx"));
    }
}
