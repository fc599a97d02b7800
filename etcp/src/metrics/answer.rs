//! The paths, and what each answers.

use std::net::IpAddr;
use std::sync::Arc;

use eternaltcp::control::ProxyKind;
use hyper::body::Bytes;
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName,
    HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Response, StatusCode};
use tokio::task::spawn_blocking;

use super::FigureSource;
use super::body::{AnswerBody, ConnectionEnd};
use super::feed::PageFeed;
use super::page::{PAGE, POLICY};
use super::text::MetricsForm;

const PLAIN: &str = "text/plain; charset=utf-8";

const PATHS: &str = "there is /, /metrics, /healthz and /readyz\n";

/// An answer before it is sent.
struct Answer {
    status: StatusCode,
    kind: &'static str,
    body: AnswerBody,
}

impl Answer {
    fn new(status: StatusCode, text: impl Into<Bytes>) -> Self {
        Self { status, kind: PLAIN, body: AnswerBody::whole(text) }
    }

    fn of_kind(kind: &'static str, body: AnswerBody) -> Self {
        Self { status: StatusCode::OK, kind, body }
    }
}

/// The facts on which the answers on one connection depend.
#[derive(Debug)]
pub(super) struct Answerer {
    /// Whether it came to a loopback address.
    pub(super) is_loopback: bool,
    /// Whether the client is on this machine: then the page has names.
    pub(super) is_local: bool,
    pub(super) feed: Arc<PageFeed>,
    pub(super) end: ConnectionEnd,
}

/// Answers one request.
pub(super) async fn answer(request: &Parts, answerer: &Answerer) -> Response<AnswerBody> {
    let is_head = request.method == Method::HEAD;
    let answer = if !is_head && request.method != Method::GET {
        Answer::new(StatusCode::METHOD_NOT_ALLOWED, "this is read only: use GET\n")
    } else if answerer.is_loopback && !names_this_machine(&request.headers) {
        let text = "this address serves only those who call it localhost, or by its number\n";
        Answer::new(StatusCode::FORBIDDEN, text)
    } else {
        let source = answerer.feed.source();
        match request.uri.path() {
            "/" => Answer::of_kind("text/html; charset=utf-8", AnswerBody::whole(PAGE)),
            "/events" if is_foreign(&request.headers) => {
                Answer::new(StatusCode::FORBIDDEN, "only the page itself may listen\n")
            }
            "/events" => Answer::of_kind("text/event-stream", events(answerer, is_head)),
            "/metrics" => metrics(&request.headers, source).await,
            "/healthz" => Answer::new(StatusCode::OK, "ok\n"),
            "/readyz" => readiness(source),
            _ => Answer::new(StatusCode::NOT_FOUND, PATHS),
        }
    };
    let Answer { status, kind, body } = answer;
    let mut response = Response::new(if is_head { AnswerBody::Whole(None) } else { body });
    *response.status_mut() = status;
    add_headers(response.headers_mut(), status, kind);
    response
}

fn add_headers(headers: &mut HeaderMap, status: StatusCode, kind: &'static str) {
    let mut add = |name, value| drop(headers.insert(name, HeaderValue::from_static(value)));
    add(CONTENT_TYPE, kind);
    add(CACHE_CONTROL, "no-store");
    add(X_CONTENT_TYPE_OPTIONS, "nosniff");
    add(REFERRER_POLICY, "no-referrer");
    add(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    // A reverse proxy passes events on as they come.
    add(HeaderName::from_static("x-accel-buffering"), "no");
    if status == StatusCode::METHOD_NOT_ALLOWED {
        add(ALLOW, "GET, HEAD");
    }
    if let Ok(policy) = HeaderValue::from_str(&POLICY) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
}

/// Returns the events for a page, or one that says that too many are open. A request for the headers
/// alone needs no place.
fn events(answerer: &Answerer, is_head: bool) -> AnswerBody {
    if is_head {
        return AnswerBody::Whole(None);
    }
    match answerer.feed.join(answerer.is_local) {
        Some(events) => AnswerBody::Events(events, answerer.end.clone()),
        None => AnswerBody::whole(PageFeed::full()),
    }
}

/// Returns whether a browser says that a page from elsewhere asks. That page could read nothing, but
/// would use up a place.
fn is_foreign(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    site.is_some_and(|site| site != b"same-origin" && site != b"none")
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
        Ok(Ok(text)) => Answer::of_kind(form.content_type(), AnswerBody::whole(text)),
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
