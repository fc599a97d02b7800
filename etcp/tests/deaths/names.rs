//! Clients of the same name, of which one is between two workers.

use etcp_testkit::loopback::{Cproxy, Echo, LoopbackSite, LoopbackSproxy, Steady};

use super::{kill_worker, next_worker};

#[test]
fn a_second_client_of_the_same_name_takes_no_tunnel_whose_worker_restarts() {
    let site = LoopbackSite::new();
    let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    let start =
        |log: &str| Cproxy::with(&site, sproxy.address, log, &site.client, &["--name", "same"]);
    let first = start("first").attached();
    let steady = Steady::start(first.listen);
    for round in 0..4 {
        let mut second = start(&format!("second{round}"));
        // The server answers the second client once it has heard from the first client again.
        let before = kill_worker(&first.program);
        next_worker(&first.program, before);
        let (code, line) = second.program.end();
        assert_eq!(code, Some(3), "{line}");
        assert!(line.contains("give this one another --name"), "{line}");
        steady.goes_on();
    }
    assert_eq!(sproxy.program.count("replaced by a newer one"), 0, "{}", sproxy.program.log());
    steady.finish();
}
