//! Asks a proxy for a connection, in bounded time and bytes.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::{Proxy, ProxyProtocol, http, socks};
use crate::address::ServerAddress;

/// Time for a proxy to reach the server and to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest answer of a proxy, with its headers.
const MAX_ANSWER: usize = 16 * 1024;

/// The reason why a proxy makes no connection, in words that follow its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProxyRefusal {
    why: String,
    /// It is an answer of the proxy.
    is_answer: bool,
}

impl ProxyRefusal {
    /// Creates the refusal of a proxy that has answered: asking again at once is useless.
    pub(super) fn answered(why: String) -> Self {
        Self { why, is_answer: true }
    }

    fn lost(error: &io::Error) -> Self {
        let why = match error.kind() {
            io::ErrorKind::UnexpectedEof => "it closed the connection without an answer".to_owned(),
            _ => format!("the connection to it was lost: {error}"),
        };
        Self { why, is_answer: false }
    }

    /// Returns whether the proxy has answered.
    pub(crate) fn is_answer(&self) -> bool {
        self.is_answer
    }
}

impl fmt::Display for ProxyRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// Makes the proxy at the other end of `stream` connect to `server`; the following bytes are the
/// server's.
pub(super) async fn connect<S>(
    stream: &mut S,
    proxy: &Proxy,
    server: &ServerAddress,
) -> Result<(), ProxyRefusal>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let talk = async {
        match proxy.kind {
            ProxyProtocol::Http => connect_http(stream, proxy, server).await,
            ProxyProtocol::Socks5 | ProxyProtocol::Socks5h => {
                connect_socks5(stream, proxy, server).await
            }
            ProxyProtocol::Socks4 | ProxyProtocol::Socks4a => {
                connect_socks4(stream, proxy, server).await
            }
        }
    };
    let late = || {
        let why = format!("it gives no answer in {} s", PATIENCE.as_secs());
        ProxyRefusal { why, is_answer: false }
    };
    timeout(PATIENCE, talk).await.unwrap_or_else(|_| Err(late()))
}

async fn connect_http<S>(
    stream: &mut S,
    proxy: &Proxy,
    server: &ServerAddress,
) -> Result<(), ProxyRefusal>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let authority = server.to_string();
    let login = proxy.login.as_ref();
    say(stream, &http::request(&authority, login)).await?;
    let mut answer = Vec::with_capacity(1024);
    loop {
        match http::parse(&answer, &authority, login.is_some()) {
            http::ProxyResponse::Partial if answer.len() >= MAX_ANSWER => {
                return Err(ProxyRefusal::answered("its answer does not end".to_owned()));
            }
            http::ProxyResponse::Partial => {
                let room = MAX_ANSWER - answer.len();
                let read = stream.take(room as u64).read_buf(&mut answer).await;
                match read {
                    Ok(0) => return Err(ProxyRefusal::lost(&io::ErrorKind::UnexpectedEof.into())),
                    Ok(_) => {}
                    Err(error) => return Err(ProxyRefusal::lost(&error)),
                }
            }
            http::ProxyResponse::Interim(length) => {
                answer.drain(..length);
            }
            // The server speaks second, so none of its bytes can have arrived.
            http::ProxyResponse::Connected(length) if length < answer.len() => {
                return Err(ProxyRefusal::answered("it sends more than its answer".to_owned()));
            }
            http::ProxyResponse::Connected(_) => return Ok(()),
            http::ProxyResponse::Refused(refusal) => return Err(refusal),
        }
    }
}

async fn connect_socks5<S>(
    stream: &mut S,
    proxy: &Proxy,
    server: &ServerAddress,
) -> Result<(), ProxyRefusal>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let login = proxy.login.as_ref();
    say(stream, &socks::greeting(login.is_some())).await?;
    let method = socks::method(hear(stream).await?, login.is_some())?;
    if let (socks::Method::Password, Some(login)) = (method, login) {
        say(stream, &socks::login(login)).await?;
        socks::logged_in(hear(stream).await?)?;
    }
    say(stream, &socks::request(&server.host, server.port)).await?;
    let rest = socks::reply(hear(stream).await?, &server.to_string())?;
    let mut bound = [0; 512];
    let bound = bound.get_mut(..rest).unwrap_or_default();
    stream.read_exact(bound).await.map_err(|error| ProxyRefusal::lost(&error))?;
    Ok(())
}

async fn connect_socks4<S>(
    stream: &mut S,
    proxy: &Proxy,
    server: &ServerAddress,
) -> Result<(), ProxyRefusal>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = socks::request_4(&server.host, server.port, proxy.login.as_ref())?;
    say(stream, &request).await?;
    socks::reply_4(hear(stream).await?, &server.to_string())
}

async fn say(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), ProxyRefusal> {
    let said = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    said.await.map_err(|error: io::Error| ProxyRefusal::lost(&error))
}

async fn hear<const N: usize>(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<[u8; N], ProxyRefusal> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await.map_err(|error| ProxyRefusal::lost(&error))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the result of a connection through a proxy that sends only `answer`, and the request
    /// that the proxy received.
    async fn through(url: &str, answer: &[u8]) -> (Result<(), String>, Vec<u8>) {
        let (mut near, mut far) = tokio::io::duplex(64 * 1024);
        let proxy: Proxy = url.parse().unwrap();
        let server = "server.test:6200".parse().unwrap();
        let _ = far.write_all(answer).await;
        let _ = far.shutdown().await;
        let result = connect(&mut near, &proxy, &server).await.map_err(|why| why.to_string());
        drop(near);
        let mut received = Vec::new();
        far.read_to_end(&mut received).await.unwrap();
        (result, received)
    }

    #[tokio::test]
    async fn each_kind_of_proxy_is_asked_in_its_own_way() {
        let (result, received) = through("http://a:1", b"HTTP/1.0 200 OK\r\n\r\n").await;
        assert_eq!(result, Ok(()));
        assert!(received.starts_with(b"CONNECT server.test:6200 HTTP/1.1\r\n"));
        let interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 x\r\nA: b\r\n\r\n";
        assert_eq!(through("http://a:1", interim).await.0, Ok(()));
        let granted = b"\x05\0\x05\0\0\x01\x7f\0\0\x01\0\x01";
        let (result, received) = through("socks5h://a:1", granted).await;
        assert_eq!(result, Ok(()));
        assert_eq!(received, b"\x05\x01\0\x05\x01\0\x03\x0bserver.test\x18\x38");
        let granted = b"\x05\x02\x01\0\x05\0\0\x03\x01x\0\x01";
        let (result, received) = through("socks5h://me:pw@a:1", granted).await;
        assert_eq!(result, Ok(()));
        assert!(received.starts_with(b"\x05\x02\0\x02\x01\x02me\x02pw\x05\x01"));
        assert_eq!(through("socks4a://a:1", b"\0\x5a\0\0\0\0\0\0").await.0, Ok(()));
    }

    #[tokio::test]
    async fn a_truncated_answer_never_counts_as_a_connection() {
        for (url, answer) in [
            ("http://a:1", &b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\n"[..]),
            ("socks5h://me:pw@a:1", b"\x05\x02\x01\0\x05\0\0\x03\x01x\0\x01"),
            ("socks5h://a:1", b"\x05\0\x05\0\0\x04________________\0\x01"),
            ("socks4a://a:1", b"\0\x5a\0\0\0\0\0\0"),
        ] {
            for length in 0..answer.len() {
                let why = through(url, &answer[..length]).await.0.unwrap_err();
                assert!(why.contains("without an answer"), "{url} {length}: {why}");
            }
            assert_eq!(through(url, answer).await.0, Ok(()), "{url}");
        }
    }

    #[tokio::test]
    async fn an_answer_without_an_end_and_one_with_more_behind_it_are_refused() {
        let endless = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'x'; 40_000]].concat();
        assert!(through("http://a:1", &endless).await.0.unwrap_err().contains("does not end"));
        let more = through("http://a:1", b"HTTP/1.1 200 OK\r\n\r\nSSH-2.0").await.0;
        assert!(more.unwrap_err().contains("more than its answer"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_proxy_that_says_nothing_is_given_up() {
        for url in ["http://a:1", "socks5h://a:1", "socks4a://a:1"] {
            let (mut near, _far) = tokio::io::duplex(1024);
            let server = "server.test:6200".parse().unwrap();
            let result = connect(&mut near, &url.parse().unwrap(), &server).await;
            assert!(result.unwrap_err().to_string().contains("no answer in 30 s"));
        }
    }
}
