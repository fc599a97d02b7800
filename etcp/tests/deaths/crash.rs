//! Crashes that one tunnel's input causes, again and again.

use std::fs::File;
use std::os::unix::fs::FileExt;

use etcp_testkit::checked::{Rate, accept};
use etcp_testkit::loopback::program::{RunningProgram, wait};
use etcp_testkit::loopback::socket::dial;
use etcp_testkit::loopback::{Cproxy, LoopbackSite, LoopbackSproxy, Steady};
use etcp_testkit::process::kill_raw;
use etcp_testkit::streams::Streams;
use etcp_testkit::worker::is_stopped;
use rustix::process::Signal;

use super::next_worker;

/// The tunnels' records in the store, as the header says where they are: the offset and the length of
/// one.
const TUNNELS: [u64; 2] = [64, 72];

/// The word of a record that says that its driver is at work.
const BUSY: u64 = 24;

/// The store of a program, which another process of the same user may read.
struct StoreFile(File);

impl StoreFile {
    fn of(program: &RunningProgram) -> Self {
        let folder = format!("/proc/{}/fd", program.id());
        let files = std::fs::read_dir(folder).expect("it runs").flatten();
        let is_tables = |path: &std::path::PathBuf| {
            std::fs::read_link(path).is_ok_and(|it| it.to_string_lossy().contains("etcp-tables"))
        };
        let path = files.map(|it| it.path()).find(is_tables).expect("it has a store");
        Self(File::open(path).expect("it can be read"))
    }

    fn word(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, at).expect("it is there");
        u64::from_ne_bytes(bytes)
    }

    fn is_busy(&self, tunnel: u64) -> bool {
        let [offset, length] = TUNNELS.map(|at| self.word(at));
        self.word(offset + tunnel * length + BUSY) != 0
    }
}

#[test]
fn a_tunnel_that_is_served_in_three_crashes_is_ended_and_no_other() {
    let site = LoopbackSite::new();
    let target = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let mut sproxy = LoopbackSproxy::start(&site, target.local_addr().expect("it listens"));
    // The first one has the first record.
    let guilty = Cproxy::start(&site, sproxy.address, "guilty").attached();
    let innocent = Cproxy::start(&site, sproxy.address, "innocent").attached();
    let near = dial(guilty.listen);
    let bulk = Rate { chunk: 256 * 1024, pause: std::time::Duration::ZERO };
    let streams = Streams::start(near, accept(&target), bulk);
    std::thread::spawn(move || {
        for mut stream in target.incoming().flatten() {
            std::thread::spawn(move || {
                let mut other = stream.try_clone().expect("a descriptor");
                let _ = std::io::copy(&mut stream, &mut other);
            });
        }
    });
    let steady = Steady::start(innocent.listen);
    let store = StoreFile::of(&sproxy.program);
    for crash in 0..3 {
        streams.go_on(&format!("{crash} crashes"));
        let worker = sproxy.program.worker();
        // It crashes as it serves this tunnel, and not the other one.
        loop {
            kill_raw(worker, Signal::STOP).expect("it runs");
            wait("it to be stopped", || is_stopped(worker));
            if store.is_busy(0) && !store.is_busy(1) {
                break;
            }
            kill_raw(worker, Signal::CONT).expect("it runs");
            std::thread::yield_now();
        }
        kill_raw(worker, Signal::ABORT).expect("it is stopped");
        kill_raw(worker, Signal::CONT).expect("it is stopped");
        next_worker(&sproxy.program, worker);
        steady.goes_on();
    }
    let line = sproxy.program.wait_for("was being processed in several crashes");
    assert!(line.contains("it is ended, with 1 session"), "{line}");
    steady.goes_on();
    steady.finish();
    drop(streams);
    // Its client has another tunnel by now.
    Steady::start(guilty.listen).finish();
    assert_eq!(sproxy.program.count("gives up"), 0);
}
