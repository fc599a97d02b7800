//! A server that is not the one it should be learns nothing of a client, whichever carrier leads
//! there.

use etcp_testkit::loopback::{Cproxy, Echo, LoopbackRelay, LoopbackSite, LoopbackSproxy, Steady};

/// The log line of a server whose key a client does not trust.
const NOT_TRUSTED: &str = "the peer does not trust this side's key";

/// A server, and another one with another key that would admit the same user.
struct Both {
    site: LoopbackSite,
    own: LoopbackSproxy,
    impostor: LoopbackSproxy,
    /// The files of the second server.
    _other: LoopbackSite,
}

impl Both {
    fn start() -> Self {
        let (site, other) = (LoopbackSite::new(), LoopbackSite::new());
        other.admit(&[&site.client.line]);
        let own = LoopbackSproxy::start(&site, Echo::start().address);
        let args = ["--listen", "127.0.0.1:0", "-v"];
        let impostor = LoopbackSproxy::with(&other, Echo::start().address, &args, None);
        Self { site, own, impostor, _other: other }
    }

    /// Checks that it was reached `count` times, and has seen no key but its own.
    #[track_caller]
    fn assert_nothing_shown(&mut self, count: usize) {
        let impostor = &mut self.impostor.program;
        impostor.wait_for_count(NOT_TRUSTED, count);
        assert_eq!(impostor.count("SHA256:"), 1, "{}", impostor.log());
        assert_eq!(impostor.count("tunnel "), 0, "{}", impostor.log());
    }
}

#[test]
fn a_later_carrier_shows_no_key_to_another_server_and_the_sessions_wait() {
    let mut both = Both::start();
    let relay = LoopbackRelay::start([127, 0, 0, 7], both.own.address);
    let mut cproxy = Cproxy::start(&both.site, relay.address, "cproxy").attached();
    let steady = Steady::start(cproxy.listen);
    relay.lead_to(both.impostor.address);
    cproxy.program.wait_for("HAS CHANGED");
    both.assert_nothing_shown(2);
    relay.lead_to(both.own.address);
    cproxy.program.wait_for("attached again");
    steady.goes_on();
    steady.finish();
}

#[test]
fn a_carrier_that_is_to_join_shows_no_key_to_another_server_and_the_first_goes_on() {
    let mut both = Both::start();
    let relay = LoopbackRelay::start([127, 0, 0, 7], both.own.address);
    relay.lead_after_next_to(both.impostor.address);
    let (client, args) = (both.site.client.clone(), ["--carriers", "3"]);
    let cproxy = Cproxy::with(&both.site, relay.address, "cproxy", &client, &args);
    let mut cproxy = cproxy.attached();
    let steady = Steady::start(cproxy.listen);
    both.assert_nothing_shown(2);
    steady.goes_on();
    assert_eq!(cproxy.carriers_taken(), 0, "{}", cproxy.program.log());
    relay.lead_to(both.own.address);
    cproxy.program.wait_for("carrier 3 of 3");
    both.assert_nothing_shown(2);
    steady.goes_on();
    steady.finish();
}
