//! The paths, and what each answers.

use std::net::IpAddr;
use std::sync::Arc;

use eternaltcp::control::ProxyKind;
use hyper::body::Bytes;
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Response, StatusCode};
use tokio::task::spawn_blocking;

use super::FigureSource;
use super::text::MetricsForm;

const PLAIN: &str = "text/plain; charset=utf-8";

/// An answer before it is sent.
struct Answer {
    status: StatusCode,
    kind: &'static str,
    text: String,
}

impl Answer {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, kind: PLAIN, text: text.into() }
    }
}

/// Answers one request. `is_loopback` says that it came to a loopback address.
pub(super) async fn answer(
    request: &Parts,
    is_loopback: bool,
    source: &Arc<FigureSource>,
) -> Response<Bytes> {
    let is_head = request.method == Method::HEAD;
    let answer = if !is_head && request.method != Method::GET {
        Answer::new(StatusCode::METHOD_NOT_ALLOWED, "this is read only: use GET\n")
    } else if is_loopback && !names_this_machine(&request.headers) {
        let text = "this address serves only those who call it localhost, or by its number\n";
        Answer::new(StatusCode::FORBIDDEN, text)
    } else {
        match request.uri.path() {
            "/" => Answer::new(StatusCode::OK, "/metrics\n/healthz\n/readyz\n"),
            "/metrics" => metrics(&request.headers, source).await,
            "/healthz" => Answer::new(StatusCode::OK, "ok\n"),
            "/readyz" => readiness(source),
            _ => Answer::new(StatusCode::NOT_FOUND, "there is /metrics, /healthz and /readyz\n"),
        }
    };
    let Answer { status, kind, text } = answer;
    let mut response = Response::new(Bytes::from(if is_head { String::new() } else { text }));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

/// Returns whether the client calls this machine localhost, or by an address. A web page can give a
/// name of its own the address of this machine, and would then be allowed to read what is served to
/// the browser.
fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    name.is_empty() || name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// Returns the metrics. They are made by another thread, since that takes a while with thousands of
/// tunnels.
async fn metrics(headers: &HeaderMap, source: &Arc<FigureSource>) -> Answer {
    let accepts: Vec<_> =
        headers.get_all(ACCEPT).iter().filter_map(|it| it.to_str().ok()).collect();
    let form = MetricsForm::for_client(&accepts.join(","));
    let source = Arc::clone(source);
    match spawn_blocking(move || form.render(&source)).await {
        Ok(Ok(text)) => Answer { status: StatusCode::OK, kind: form.content_type(), text },
        _ => Answer::new(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be made\n"),
    }
}

fn readiness(source: &FigureSource) -> Answer {
    let levels = source.subject.levels();
    let text = match source.subject.role() {
        _ if levels.is_draining => "draining\n",
        ProxyKind::Sproxy if !levels.has_keys => "no key is admitted\n",
        ProxyKind::Cproxy if !levels.has_keys => "there is no tunnel yet\n",
        _ => return Answer::new(StatusCode::OK, "ready\n"),
    };
    Answer::new(StatusCode::SERVICE_UNAVAILABLE, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_anybody_may_have_is_not_this_machine() {
        let is_ours = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_str(host).unwrap());
            names_this_machine(&headers)
        };
        for host in ["localhost", "LocalHost:9100", "localhost.", "127.0.0.1:9100", "[::1]:9100"] {
            assert!(is_ours(host), "{host}");
        }
        for host in ["evil.example:9100", "localhost.evil.example", "127.0.0.1.nip.io", "[x]:1"] {
            assert!(!is_ours(host), "{host}");
        }
        assert!(names_this_machine(&HeaderMap::new()));
    }
}
