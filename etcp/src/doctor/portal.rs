//! Signs of a network whose login page is in between (a captive portal).

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use eternaltcp::client::Pins;
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::answer::{WebReply, ask_web};
use super::report::DoctorReport;

/// Time for the resolver to deny a name.
const LOOKUP: Duration = Duration::from_secs(3);

/// The status of a network that wants a login (RFC 6585).
const LOGIN_REQUIRED: u16 = 511;

const ADVICE: &str = "open any web page in a browser, log in to the network, and try again";

/// Looks for a login page after a server was not found at its port, and reports it.
pub(super) async fn look(
    report: &mut DoctorReport,
    host: &str,
    addresses: &[SocketAddr],
    pins: &Pins,
) {
    if let Some(address) = made_up_name().await {
        let text = format!(
            "the resolver answers a name that does not exist with {address}: the login page of a \
             network seems to be in between"
        );
        return report.fail("portal", text, ADVICE);
    }
    let Some(address) = addresses.first() else { return };
    let web = SocketAddr::new(address.ip(), 80);
    let Some(reply) = ask_web(host, web, pins).await else { return };
    report.hide("HOST", reply.host().unwrap_or_default());
    let location = reply.location.as_deref().unwrap_or("a login");
    if reply.status == LOGIN_REQUIRED {
        let text = format!("port 80 asks for a login to the network ({LOGIN_REQUIRED})");
        report.fail("portal", text, ADVICE);
    } else if leads_elsewhere(&reply, host) {
        let text = format!(
            "port 80 redirects to {location}: unless that is the server's own, the login page of a \
             network is in between"
        );
        report.note("portal", text, ADVICE);
    }
}

/// Looks a name up that nobody has (RFC 6761), and returns what the resolver makes of it.
async fn made_up_name() -> Option<IpAddr> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let name = format!("etcp-{}-{}.invalid", std::process::id(), now.subsec_nanos());
    let found = timeout(LOOKUP, lookup_host((name, 80))).await.ok()?.ok()?;
    found.map(|address| address.ip()).next()
}

/// Returns whether a reply redirects to a host of another domain.
fn leads_elsewhere(reply: &WebReply, host: &str) -> bool {
    let domain = |host: &str| {
        let labels: Vec<_> = host.trim_end_matches('.').rsplit('.').take(2).collect();
        labels.join(".").to_ascii_lowercase()
    };
    let is_redirection = (300..400).contains(&reply.status);
    is_redirection && reply.host().is_some_and(|other| domain(other) != domain(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirection_within_a_domain_is_no_login_page() {
        let to = |location: &str| WebReply { status: 302, location: Some(location.to_owned()) };
        assert!(!leads_elsewhere(&to("https://www.example.org/"), "example.org"));
        assert!(!leads_elsewhere(&to("/welcome"), "example.org"));
        assert!(leads_elsewhere(&to("http://login.hotel.test/"), "example.org"));
        let ok = WebReply { status: 200, ..to("http://login.hotel.test/") };
        assert!(!leads_elsewhere(&ok, "example.org"));
    }
}
