//! Records of tunnels that end with a worker or with the server, and of unwanted ends.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;

use etcp_testkit::loopback::operator::{control, operate};
use etcp_testkit::loopback::program::{RunningProgram, wait};
use etcp_testkit::loopback::{Cproxy, Steady};
use etcp_testkit::process::kill_raw;
use etcp_testkit::worker::is_stopped;
use rustix::process::Signal;

use super::records::RecordFixture;

/// The first bytes of the memory that outlives a worker.
const MAGIC: &[u8; 8] = b"ETCPKEPT";

/// The offset of the header's word for the table of tunnels, and that of the copies in a record, which
/// the rest of it is.
const TABLE: u64 = 64;
const COPIES: u64 = 256;
const REST: usize = 768;

/// Returns the memory of a program that outlives its worker.
fn kept_memory(program: &RunningProgram) -> File {
    let folder = fs::read_dir(format!("/proc/{}/fd", program.id())).expect("it runs");
    let is_memory = |file: &File| {
        let mut magic = [0; 8];
        file.read_exact_at(&mut magic, 0).is_ok() && magic == *MAGIC
    };
    let named = folder.flatten().map(|entry| entry.path()).filter(|path| {
        fs::read_link(path).is_ok_and(|it| it.to_string_lossy().starts_with("/memfd:"))
    });
    let open = |path| OpenOptions::new().read(true).write(true).open(path).ok();
    named.filter_map(open).find(is_memory).expect("the holder has it")
}

#[test]
fn a_tunnel_whose_state_is_damaged_is_recorded_as_lost_and_no_other() {
    let mut all = RecordFixture::new(&[]);
    // The first one has the first record.
    let damaged = all.client(&["--name", "damaged"]);
    let whole = all.client(&["--name", "whole"]);
    let (mut lost, steady) = (Steady::start(damaged.listen), Steady::start(whole.listen));
    let memory = kept_memory(&all.sproxy.program);
    let worker = all.sproxy.program.worker();
    kill_raw(worker, Signal::STOP).expect("it runs");
    wait("it to be stopped", || is_stopped(worker));
    let mut word = [0; 8];
    memory.read_exact_at(&mut word, TABLE).expect("it has a header");
    let at = u64::from_ne_bytes(word) + COPIES;
    memory.write_all_at(&[0xa5; REST], at).expect("it is ours");
    all.sproxy.program.kill_worker();
    let record = all.record("tunnel-lost", 1);
    assert_eq!((&record["reason"], &record["sessions"]), (&"damaged".into(), &1.into()));
    // The note about the tunnel is stored apart from its state.
    assert_eq!(record["key_name"], "ann@laptop", "{record}");
    all.sproxy.program.wait_for("state of a tunnel is damaged: it is ended, with 1 session");
    assert!(lost.ended().is_some(), "its session is reset");
    steady.finish();
    Steady::start(damaged.listen).finish();
    assert_eq!(all.count("tunnel-lost"), 1);
}

#[test]
fn a_tunnel_whose_worker_dies_while_it_is_closed_is_recorded_as_lost() {
    let all = RecordFixture::new(&[]);
    let server = control(&all.site, "sproxy", &all.sproxy.program);
    for attempt in 0..10 {
        let client = all.client(&["--name", &attempt.to_string()]);
        let _steady = Steady::start(client.listen);
        // A client that takes nothing is told for a second, which may be over on a busy machine.
        client.program.freeze();
        let kill = ["tunnels", "kill", "--key", "ann@laptop", "--control", &server];
        let said = operate(&all.site, &kill);
        assert_eq!(said.code, Some(0), "{said:?}");
        all.sproxy.program.kill_worker();
        let ends = || all.count("tunnel-lost") + all.count("tunnel-ended");
        wait("its end", || ends() > attempt);
        if all.count("tunnel-lost") > 0 {
            break;
        }
    }
    let lost = all.record("tunnel-lost", 1);
    assert_eq!((&lost["reason"], &lost["key_name"]), (&"closing".into(), &"ann@laptop".into()));
    assert!(lost["tunnel"].is_string() && lost["sessions"].is_number(), "{lost}");
}

#[test]
fn tunnels_that_a_server_ends_have_the_reason() {
    let mut all = RecordFixture::new(&["--keep-detached", "1s"]);
    let mut away = all.client(&["--name", "away"]);
    away.program.kill();
    let expired = all.record("tunnel-ended", 1);
    assert_eq!((&expired["reason"], &expired["is_by_client"]), (&"expired".into(), &false.into()));

    let bob = all.site.key("bob");
    let ann = format!("{} ann@laptop", all.site.client.line);
    all.site.admit(&[&ann, &bob.line]);
    let _of_bob = Cproxy::with(&all.site, all.sproxy.address, "bob", &bob, &[]).attached();
    all.site.admit(&[&ann]);
    let removed = all.record("tunnel-ended", 2);
    assert_eq!(removed["reason"], "key-removed");
    assert_eq!(removed["key"], bob.identity.public_key().fingerprint().as_str());

    let _present = all.client(&["--name", "present"]);
    all.sproxy.program.signal(Signal::TERM);
    all.sproxy.program.end();
    assert_eq!(all.record("tunnel-ended", 3)["reason"], "shutdown");
    all.record("stopped", 1);
    assert_eq!(all.count("tunnel-lost"), 0);
}
