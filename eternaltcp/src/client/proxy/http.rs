//! The client's part of HTTP CONNECT (RFC 9110, section 9.3.6).

use base64ct::{Base64, Encoding as _};
use eternaltcp_proto::CleanText;
use httparse::{EMPTY_HEADER, Status};
use zeroize::Zeroizing;

use super::{ProxyCredentials, ProxyRefusal};

/// More headers than a proxy sends.
const MAX_HEADERS: usize = 128;

/// The meaning of an answer.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum ProxyResponse {
    /// Incomplete.
    Partial,
    /// An interim response (1xx), with its length in bytes.
    Interim(usize),
    /// The connection is made; the bytes after this length are the server's.
    Connected(usize),
    Refused(ProxyRefusal),
}

/// Returns the request for a connection to `authority`.
pub(super) fn request(authority: &str, login: Option<&ProxyCredentials>) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(format!(
        "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: etcp/{}\r\n",
        env!("CARGO_PKG_VERSION")
    ));
    if let Some(ProxyCredentials { user, password }) = login {
        let plain = Zeroizing::new(format!("{user}:{}", password.as_str()));
        let encoded = Zeroizing::new(Base64::encode_string(plain.as_bytes()));
        text.push_str("Proxy-Authorization: Basic ");
        text.push_str(&encoded);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    Zeroizing::new(text.as_bytes().to_vec())
}

/// Parses the answer of a proxy that was asked for a connection to `authority`.
pub(super) fn parse(bytes: &[u8], authority: &str, has_login: bool) -> ProxyResponse {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return ProxyResponse::Partial,
        Err(error) => {
            return ProxyResponse::Refused(ProxyRefusal::answered(format!(
                "its answer is not HTTP ({error}): if it is a SOCKS proxy, write socks5h://"
            )));
        }
    };
    let code = response.code.unwrap_or_default();
    let what_to_do = match code {
        // Switching protocols was not requested.
        100 | 102..=199 => return ProxyResponse::Interim(length),
        200..=299 => return ProxyResponse::Connected(length),
        407 if has_login => "it rejects the user or the password".to_owned(),
        407 => "it wants a login: write USER:PASSWORD@ before its name".to_owned(),
        403 | 405 => format!(
            "it does not permit connections to {authority}: ask its operator to permit that, or have sproxy listen \
             on a port that it permits, as 443"
        ),
        502..=504 => {
            format!("it cannot reach {authority}: is sproxy running there, and is the name right?")
        }
        _ => "it does not forward connections to this target".to_owned(),
    };
    let reason = CleanText::from_bytes(response.reason.unwrap_or_default().as_bytes());
    let reason = if reason.is_empty() { String::new() } else { format!(" {}", &*reason) };
    ProxyResponse::Refused(ProxyRefusal::answered(format!("{what_to_do} ({code}{reason})")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(text: &str) -> ProxyResponse {
        parse(text.as_bytes(), "a.test:6200", false)
    }

    #[test]
    fn a_login_is_a_header_of_its_own() {
        let login = ProxyCredentials {
            user: "Aladdin".into(),
            password: Zeroizing::new("open sesame".into()),
        };
        let asked = String::from_utf8(request("a.test:6200", Some(&login)).to_vec()).unwrap();
        assert!(
            asked.starts_with("CONNECT a.test:6200 HTTP/1.1\r\nHost: a.test:6200\r\n"),
            "{asked}"
        );
        assert!(asked.contains("\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"));
        assert!(asked.ends_with("\r\n\r\n"));
        let asked = String::from_utf8(request("a.test:6200", None).to_vec()).unwrap();
        assert!(!asked.contains("Authorization"));
    }

    #[test]
    fn each_answer_says_what_to_do() {
        let head = "HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n";
        assert_eq!(answer(head), ProxyResponse::Connected(head.len()));
        assert_eq!(answer(&head[..head.len() - 1]), ProxyResponse::Partial);
        assert_eq!(answer("HTTP/1.1 100 Continue\r\n\r\n"), ProxyResponse::Interim(25));
        for (status, part) in [
            ("407 Proxy Authentication Required", "it wants a login"),
            ("403 Forbidden", "does not permit connections to a.test:6200"),
            ("502 Bad Gateway", "cannot reach a.test:6200"),
            ("504 Gateway Timeout", "cannot reach a.test:6200"),
            ("400 Bad Request", "does not forward"),
            ("101 Switching Protocols", "does not forward"),
            ("302 Found", "does not forward"),
        ] {
            let ProxyResponse::Refused(refusal) = answer(&format!("HTTP/1.1 {status}\r\n\r\n"))
            else {
                panic!("{status}")
            };
            let why = refusal.to_string();
            assert!(why.contains(part) && why.contains(status), "{why}");
        }
        let text = b"HTTP/1.1 407 x\r\n\r\n";
        let ProxyResponse::Refused(refusal) = parse(text, "a:1", true) else { panic!("accepted") };
        assert!(refusal.to_string().contains("rejects the user or the password"));
        for odd in ["SSH-2.0-x\r\n", "\x05\x01", "HTTP/9 200\r\n\r\n"] {
            assert!(matches!(answer(odd), ProxyResponse::Refused(_)), "{odd}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), tail in "\\PC{0,80}") {
            let _ = parse(&bytes, "a:1", true);
            let _ = answer(&format!("HTTP/1.1 {tail}\r\n\r\n"));
        }
    }
}
