//! The cost of idle sessions: memory, descriptors and processor time of the real programs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use etcp_testkit::process::Process;
use etcp_testkit::wait::{PATIENCE, until};
use etcp_testkit::worker::share_of_memory;
use etcp_testkit::{Loopback, skip, tell};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_linger;

const SESSIONS: usize = 1000;

/// Sessions before those whose memory is measured: the first ones load code and fill stocks.
const FIRST: usize = 200;

/// Memory of an idle session in each program, with what outlives its worker.
const PER_SESSION: u64 = 3_000;

/// Memory of an idle program, both of its processes together.
const PROGRAM: u64 = 10_000_000;

/// Time for which the programs' processor time is measured.
const MEASURED: Duration = Duration::from_secs(5);

/// The part of one processor that an idle program may use: it is not optimised here.
const IDLE: f64 = 0.02;

struct IdleFixture {
    cproxy: Process,
    sproxy: Process,
    proxy: SocketAddr,
    target: TcpListener,
    _programs: Loopback,
}

impl IdleFixture {
    fn new() -> Self {
        eternaltcp::process::raise_descriptor_limit();
        let programs = Loopback::new(&[]);
        let target = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        let (sproxy, server) = programs.sproxy(target.local_addr().expect("it listens"));
        let (cproxy, proxy) = programs.cproxy(server);
        Self { cproxy, sproxy, proxy, target, _programs: programs }
    }

    /// Opens a session over which a byte has passed each way.
    fn session(&self) -> [TcpStream; 2] {
        let mut application = TcpStream::connect(self.proxy).expect("cproxy accepts");
        let mut target = self.target.accept().expect("sproxy connects").0;
        let mut byte = [0];
        application.write_all(b"?").expect("the session is up");
        target.read_exact(&mut byte).expect("the session is up");
        target.write_all(b"!").expect("the session is up");
        application.read_exact(&mut byte).expect("the session is up");
        [application, target]
    }

    fn programs(&self) -> [(&str, &Process); 2] {
        [("cproxy", &self.cproxy), ("sproxy", &self.sproxy)]
    }

    fn processor_times(&self) -> [Duration; 2] {
        self.programs().map(|(_, program)| program.processor_time())
    }

    /// Panics if a program has worked since `before`, which was `elapsed` ago.
    #[track_caller]
    fn check_idle(&self, before: [Duration; 2], elapsed: Duration, what: &str) {
        for ((name, _), (before, now)) in
            self.programs().iter().zip(before.into_iter().zip(self.processor_times()))
        {
            let part = (now - before).as_secs_f64() / elapsed.as_secs_f64();
            tell(&format!("{name} uses {:.2} % of a processor {what}", part * 100.0));
            assert!(part <= IDLE, "{name} is busy {what}");
        }
    }
}

#[test]
fn both_processes_of_an_idle_program_hold_less_than_ten_megabytes() {
    if !skip::can_run("alone::idle (the shares of memory are hidden from other users)", &[]) {
        return;
    }
    let _turn = crate::turn();
    let setting = IdleFixture::new();
    drop(setting.session());
    for (name, program) in setting.programs() {
        let share = || share_of_memory(program.id());
        until(&format!("{name} to hold little"), PATIENCE, || share() < PROGRAM);
        tell(&format!("{name} holds {} bytes when it is idle", share()));
    }
}

#[test]
fn a_thousand_idle_sessions_cost_little_memory_and_no_time() {
    let _turn = crate::turn();
    let setting = IdleFixture::new();
    let _first: Vec<_> = (0..FIRST).map(|_| setting.session()).collect();
    let before = setting.programs().map(|(_, program)| (program.memory(), program.descriptors()));
    let sessions: Vec<_> = (0..SESSIONS).map(|_| setting.session()).collect();
    for ((name, program), (memory, _)) in setting.programs().into_iter().zip(before) {
        let cost = || program.memory().saturating_sub(memory) / SESSIONS as u64;
        until(&format!("{name} to hold little"), PATIENCE, || cost() <= PER_SESSION);
        tell(&format!("{name} holds {} bytes for an idle session", cost()));
    }
    let (then, times) = (Instant::now(), setting.processor_times());
    // This sleep is the measured time. It waits for nothing.
    std::thread::sleep(MEASURED);
    setting.check_idle(times, then.elapsed(), "for a thousand idle sessions");
    drop(sessions);
    for ((name, program), (_, descriptors)) in setting.programs().into_iter().zip(before) {
        let what = format!("{name} to have {descriptors} descriptors again");
        until(&what, PATIENCE, || program.descriptors() <= descriptors);
    }
}

/// Sessions that take some MB in each program.
const MANY: usize = 3000;

/// Bytes of the store for each of them, which are kept for the next sessions.
const RECORDS: u64 = MANY as u64 * 640;

#[test]
fn memory_of_thousands_of_sessions_returns_to_the_system() {
    let _turn = crate::turn();
    let setting = IdleFixture::new();
    drop(setting.session());
    let before = setting.programs().map(|(_, program)| program.memory());
    let sessions: Vec<_> = (0..MANY).map(|_| setting.session()).collect();
    let most = setting.programs().map(|(_, program)| program.memory());
    drop(sessions);
    for ((name, program), (before, most)) in
        setting.programs().into_iter().zip(before.into_iter().zip(most))
    {
        let took = most - before;
        assert!(took > MANY as u64 * 1024, "{name} took {took} bytes: nothing is measured");
        let heap = took - RECORDS;
        until(&format!("{name} to give most of {heap} bytes back"), PATIENCE, || {
            program.memory() < before + RECORDS + heap / 2
        });
    }
}

#[test]
fn a_reset_that_waits_for_a_stalled_target_costs_no_time() {
    let _turn = crate::turn();
    let setting = IdleFixture::new();
    let [mut application, target] = setting.session();
    application.set_write_timeout(Some(Duration::from_secs(2))).expect("a time-out is set");
    // The loop ends when nothing more is taken, because the target never reads.
    while application.write_all(&[0x55; 1 << 16]).is_ok() {}
    let (then, times) = (Instant::now(), setting.processor_times());
    set_socket_linger(&application, Some(Duration::ZERO)).expect("an option is set");
    drop(application);
    until("the target's connection to be reset", PATIENCE, || {
        let mut fds = [PollFd::new(&target, PollFlags::empty())];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).expect("it can be polled");
        fds[0].revents().contains(PollFlags::ERR)
    });
    assert!(then.elapsed() > Duration::from_secs(2), "it did not wait: nothing was measured");
    setting.check_idle(times, then.elapsed(), "while a reset waits");
}
