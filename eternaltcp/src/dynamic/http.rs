//! HTTP CONNECT (RFC 9110, section 9.3.6), in HTTP/1; its head is read by httparse.

use eternaltcp_proto::clean;
use httparse::{EMPTY_HEADER, Error, Status};

use super::{Parsed, RefusedRequest, target};

/// More headers than a browser sends.
const MAX_HEADERS: usize = 64;

/// The target is connected; its stream follows.
pub(super) const CONNECTED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// The purpose of this port.
const PURPOSE: &str = "this port takes SOCKS and HTTP CONNECT: set it as a SOCKS proxy, or have the \
                       application use CONNECT for all connections (curl: --proxytunnel)";

/// Parses a request.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Parsed::Partial,
        Err(Error::TooManyHeaders) => return Parsed::Refused(too_long()),
        Err(error) => {
            return refused(
                "400 Bad Request",
                "",
                format!("no request of HTTP/1 ({error}); {PURPOSE}"),
            );
        }
    };
    // A complete request has both.
    let (method, path) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    if method != "CONNECT" {
        let why = format!("{method} is not supported; {PURPOSE}");
        return refused("405 Method Not Allowed", "Allow: CONNECT\r\n", why);
    }
    match authority(path) {
        Ok(target) => Parsed::Request(target, length),
        Err(why) => refused("400 Bad Request", "", why),
    }
}

/// Parses the target of a CONNECT: `host:port`, with the port even if it is the usual one.
fn authority(text: &str) -> Result<crate::address::Target, String> {
    let port = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = port.ok_or_else(|| format!("CONNECT needs host:port, and not {text:?}"))?;
    target(host, port)
}

/// Returns the refusal of a request whose head is too long.
pub(super) fn too_long() -> RefusedRequest {
    let why = "the request is longer than 8192 bytes, or has more than 64 headers";
    RefusedRequest {
        say: response("431 Request Header Fields Too Large", "", why),
        why: format!("HTTP: {why}"),
    }
}

/// Returns a response with one line of text, after which the connection is closed.
pub(super) fn response(status: &str, headers: &str, text: &str) -> Vec<u8> {
    let length = text.len() + 1;
    format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{text}\n"
    )
    .into_bytes()
}

fn refused(status: &str, headers: &str, why: String) -> Parsed {
    let why = clean(&why);
    Parsed::refused(response(status, headers, &why), format!("HTTP: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> String {
        match parse(text.as_bytes()) {
            Parsed::Refused(refused) => String::from_utf8(refused.say).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_other_method_is_told_what_the_port_is_for() {
        for method in ["GET", "POST", "OPTIONS", "get"] {
            let answer = answer(&format!("{method} http://web.test/ HTTP/1.1\r\nHost: x\r\n\r\n"));
            assert!(answer.starts_with("HTTP/1.1 405 Method Not Allowed\r\nAllow: CONNECT\r\n"));
            assert!(answer.contains("this port takes SOCKS and HTTP CONNECT"), "{answer}");
        }
    }

    #[test]
    fn a_body_is_as_long_as_it_says_and_is_one_line() {
        let answer = answer("GET / HTTP/1.1\r\n\r\n");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
        assert_eq!(body.lines().count(), 1);
    }

    #[test]
    fn targets_are_host_and_port_and_nothing_else() {
        for path in
            ["web.test", "web.test:", "web.test:0", "/", "http://web.test:80/", "unix:/x", ":80"]
        {
            let answer = answer(&format!("CONNECT {path} HTTP/1.1\r\n\r\n"));
            assert!(answer.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
        }
        for (path, target) in [("web.test:80", "web.test:80"), ("[::1]:443", "[::1]:443")] {
            let text = format!("CONNECT {path} HTTP/1.0\r\n\r\n");
            let parsed = parse(text.as_bytes());
            assert_eq!(parsed, Parsed::Request(target.parse().unwrap(), text.len()));
        }
    }

    #[test]
    fn invalid_and_oversized_http_requests_get_an_answer() {
        assert!(answer("SSH-2.0-OpenSSH_9.2\r\n").starts_with("HTTP/1.1 400 "));
        assert!(answer("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").starts_with("HTTP/1.1 400 "));
        let many = "X: y\r\n".repeat(MAX_HEADERS + 1);
        assert!(
            answer(&format!("CONNECT a:1 HTTP/1.1\r\n{many}\r\n")).starts_with("HTTP/1.1 431 ")
        );
    }
}
