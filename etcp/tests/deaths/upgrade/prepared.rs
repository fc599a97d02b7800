//! A client makes the carrier of the next program before it is replaced.

use std::fs;

use etcp_testkit::loopback::program::wait;
use etcp_testkit::wait::{PATIENCE, comes_true};

use super::super::{kill_worker, next_worker};
use super::StreamingProxies;

/// The server's log line about a carrier that was left to the next process.
const LEFT: &str = "a carrier stands by";

/// The log line of the process that attaches it. Lines of the process before it may be lost with
/// that process.
const TAKEN: &str = "that the process before this one has left takes over";

/// The number of upgrades among which three have a carrier that was prepared.
const ROUNDS: usize = 6;

impl StreamingProxies {
    /// Checks how many carriers were left to a next process, and that each was taken.
    #[track_caller]
    fn prepared(&self, count: usize) {
        let (cproxy, sproxy) = (self.program("cproxy"), self.program("sproxy"));
        wait("the carriers to be logged", || {
            sproxy.count(LEFT) >= count && cproxy.count(TAKEN) >= count
        });
        assert_eq!((sproxy.count(LEFT), cproxy.count(TAKEN)), (count, count), "{}", cproxy.log());
    }
}

#[test]
fn the_next_program_of_a_client_attaches_the_carrier_that_was_left_to_it_and_no_other_does() {
    let setting = StreamingProxies::new();
    let mut count = 0;
    for _ in 0..ROUNDS {
        setting.upgraded("cproxy", &[]);
        setting.go_on("an upgrade");
        // A carrier that is not there within seconds is left out.
        let server = setting.program("sproxy");
        count += usize::from(comes_true(PATIENCE / 6, || server.count(LEFT) > count));
        setting.prepared(count);
        if count == 3 {
            break;
        }
    }
    // The next worker must not send on that carrier.
    let worker = setting.program("cproxy").worker();
    kill_worker(setting.program("cproxy"));
    next_worker(setting.program("cproxy"), worker);
    setting.go_on("the death of the worker that took it");
    setting.prepared(3);
    setting.finish();
}

#[test]
fn the_old_program_attaches_the_carrier_if_the_new_one_fails() {
    let setting = StreamingProxies::new();
    for (round, (name, then)) in [("exits", "exit 3"), ("dies", "kill -SEGV $$")].iter().enumerate()
    {
        let reason = setting.not_upgraded("cproxy", &setting.script(name, then));
        assert!(reason.contains("it ended before it could serve"), "{reason}");
        setting.prepared(round + 1);
    }
    // No carrier stands by any more.
    assert_eq!(setting.program("sproxy").count("a carrier no longer stands by"), 0);
    setting.upgraded("cproxy", &[]);
    setting.go_on("a good program after bad ones");
    setting.finish();
}

#[test]
fn a_check_and_a_program_that_fails_it_make_no_carrier() {
    let setting = StreamingProxies::new();
    assert_eq!(setting.upgrade("cproxy", &["--check"]).code, Some(0));
    let bad = setting.site.path().join("text");
    fs::write(&bad, "hello\n").expect("the folder is ours");
    setting.not_upgraded("cproxy", &bad);
    setting.prepared(0);
    setting.finish();
}

#[test]
fn a_server_that_lets_none_stand_by_costs_round_trips_and_nothing_else() {
    let setting = StreamingProxies::with(&["--max-standbys", "0"]);
    setting.upgraded("cproxy", &[]);
    setting.go_on("an upgrade");
    setting.prepared(0);
    setting.finish();
}
