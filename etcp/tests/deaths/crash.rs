//! Crashes that one tunnel's input causes, again and again.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;

use etcp_testkit::checked::{Rate, accept};
use etcp_testkit::loopback::operator::{session_of, status};
use etcp_testkit::loopback::program::{RunningProgram, wait};
use etcp_testkit::loopback::socket::dial;
use etcp_testkit::loopback::{Cproxy, Echo, LoopbackSite, LoopbackSproxy, Steady};
use etcp_testkit::process::kill_raw;
use etcp_testkit::streams::Streams;
use etcp_testkit::worker::{is_stopped, is_there};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open};

use super::{kill_worker, next_worker};

/// The words of the store's header that describe the tunnels' records: their offset, and the length
/// of one.
const TUNNELS: [u64; 2] = [64, 72];

/// The same words for the sessions' records, and the number of records ever used.
const SESSIONS: [u64; 3] = [96, 104, 120];

/// The word of a tunnel's record that is set while its driver works.
const BUSY: u64 = 24;

/// Words of both copies of a session's state.
const STATE: [u64; 2] = [64 + 96, 64 + 224 + 96];

/// The store of a program, which another process of the same user may read and write.
struct StoreFile(File);

impl StoreFile {
    fn of(program: &RunningProgram) -> Self {
        let folder = format!("/proc/{}/fd", program.id());
        let files = std::fs::read_dir(folder).expect("it runs").flatten();
        let is_tables = |path: &std::path::PathBuf| {
            std::fs::read_link(path).is_ok_and(|it| it.to_string_lossy().contains("etcp-tables"))
        };
        let path = files.map(|it| it.path()).find(is_tables).expect("it has a store");
        Self(File::options().read(true).write(true).open(path).expect("it can be opened"))
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

    /// Damages the record of a session of the first tunnel.
    fn damage(&self, session: u64) {
        let [offset, length, count] = SESSIONS.map(|at| self.word(at));
        let records = (0..count).map(|record| offset + record * length);
        for at in records.filter(|at| self.word(*at) == 1 << 32 | session) {
            for word in STATE {
                self.0.write_all_at(&[0xff; 8], at + word).expect("it is there");
            }
        }
    }
}

/// Two clients of a server. The tunnel of the first one has the first record.
struct CrashPair {
    steady: [Steady; 2],
    clients: [Cproxy; 2],
    sproxy: LoopbackSproxy,
    site: LoopbackSite,
}

impl CrashPair {
    fn start() -> Self {
        let site = LoopbackSite::new();
        let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
        let clients =
            ["guilty", "innocent"].map(|it| Cproxy::start(&site, sproxy.address, it).attached());
        let steady = [0, 1].map(|number| Steady::start(clients[number].listen));
        Self { steady, clients, sproxy, site }
    }

    /// Checks that the first tunnel was ended, and the other one has lost nothing.
    fn finish(mut self) {
        let line = self.sproxy.program.wait_for("was being processed in several crashes");
        assert!(line.contains("it is ended, with "), "{line}");
        let [mut guilty, innocent] = self.steady;
        assert!(guilty.ended().is_some());
        innocent.goes_on();
        innocent.finish();
        assert_eq!(self.clients[1].program.count("does not know the tunnel"), 0);
        // The first client has another tunnel by now.
        Steady::start(self.clients[0].listen).finish();
        assert_eq!(self.sproxy.program.count("gives up"), 0);
    }
}

#[test]
fn a_panic_of_a_thread_that_serves_a_tunnel_ends_no_other_and_the_third_ends_that_tunnel() {
    let mut pair = CrashPair::start();
    let store = StoreFile::of(&pair.sproxy.program);
    for panic in 1..=3 {
        let mut idle = dial(pair.clients[0].listen);
        idle.write_all(b"?").expect("it is taken");
        idle.read_exact(&mut [0]).expect("it comes back");
        let status = status(&pair.site, "cproxy", &pair.clients[0].program);
        let session = session_of(&status, idle.local_addr().expect("it is connected"));
        let worker = pair.sproxy.program.worker();
        // A program with assertions notices the damage when it compares its records with the
        // tunnel. A record that is written again is intact.
        wait("a panic", || {
            store.damage(session);
            !is_there(worker)
        });
        pair.sproxy.program.wait_for_count("it is kept otherwise", panic);
        // It has forgotten this session, and no other.
        assert_eq!(idle.read(&mut [0]).expect_err("no end").kind(), ErrorKind::ConnectionReset);
        pair.steady[1].goes_on();
        if panic < 3 {
            pair.steady[0].goes_on();
        }
    }
    pair.finish();
}

/// Returns a copy of another process's connection from this local port. Any process of the same
/// user may copy it.
fn socket_of(process: u32, port: u16) -> Option<TcpStream> {
    let id = Pid::from_raw(process.cast_signed()).expect("a process");
    let process_file = pidfd_open(id, PidfdFlags::empty()).ok()?;
    let files = std::fs::read_dir(format!("/proc/{process}/fd")).expect("it runs").flatten();
    let numbers = files.filter_map(|it| it.file_name().to_str()?.parse::<i32>().ok());
    numbers
        .filter_map(|it| pidfd_getfd(&process_file, it, PidfdGetfdFlags::empty()).ok())
        .map(TcpStream::from)
        .find(|it| it.local_addr().is_ok_and(|at| at.port() == port) && it.peer_addr().is_ok())
}

#[test]
fn a_panic_while_a_tunnel_is_read_ends_that_tunnel_alone_after_the_third() {
    let site = LoopbackSite::new();
    let target = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let records = site.path().join("records");
    let args = ["--listen", "127.0.0.1:0", "--audit-log", records.to_str().expect("text")];
    let at = target.local_addr().expect("it listens");
    let mut sproxy = LoopbackSproxy::with(&site, at, &args, None);
    let guilty = Cproxy::start(&site, sproxy.address, "guilty").attached();
    let innocent = Cproxy::start(&site, sproxy.address, "innocent").attached();
    let mut near = dial(guilty.listen);
    near.write_all(b"?").expect("it is taken");
    let mut far = accept(&target);
    far.read_exact(&mut [0]).expect("it arrives");
    echo_on(target);
    let steady = Steady::start(innocent.listen);
    let port = far.peer_addr().expect("it is connected").port();
    let mut inside = socket_of(sproxy.program.id(), port).expect("it has the socket");
    // A program with assertions compares its own count with the kernel's when it reads the tunnel.
    inside.write_all(&[7; 4096]).expect("the kernel takes it");
    drop(inside);
    far.read_exact(&mut [0; 4096]).expect("it arrives");
    kill_worker(&sproxy.program);
    let line = sproxy.program.wait_for("was being processed in several crashes");
    assert!(line.contains("it is ended, with 1 session"), "{line}");
    assert_eq!(sproxy.program.count("bytes were written, and the kernel says"), 3);
    let lost = r#""event":"tunnel-lost","reason":"crashed","sessions":1}"#;
    wait("its record", || std::fs::read_to_string(&records).is_ok_and(|it| it.contains(lost)));
    steady.goes_on();
    steady.finish();
    assert_eq!(innocent.program.count("does not know the tunnel"), 0);
    assert_eq!(near.read(&mut [0]).expect_err("no end").kind(), ErrorKind::ConnectionReset);
    Steady::start(guilty.listen).finish();
}

/// Serves the connections of a target from now on.
fn echo_on(target: TcpListener) {
    std::thread::spawn(move || {
        for mut stream in target.incoming().flatten() {
            std::thread::spawn(move || {
                let mut other = stream.try_clone().expect("a descriptor");
                let _ = std::io::copy(&mut stream, &mut other);
            });
        }
    });
}

#[test]
fn a_tunnel_that_is_served_in_three_crashes_is_ended_and_no_other() {
    let site = LoopbackSite::new();
    let target = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let mut sproxy = LoopbackSproxy::start(&site, target.local_addr().expect("it listens"));
    // The first one has the first record.
    let guilty = Cproxy::start(&site, sproxy.address, "guilty").attached();
    let innocent = Cproxy::start(&site, sproxy.address, "innocent").attached();
    let near = dial(guilty.listen);
    let bulk = Rate { chunk: 256 * 1024, pause: std::time::Duration::ZERO };
    let streams = Streams::start(near, accept(&target), bulk);
    echo_on(target);
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
