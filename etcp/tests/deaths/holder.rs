//! The two processes of a proxy: its user and a service manager see one program.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use etcp_testkit::loopback::operator::{control, operate, status};
use etcp_testkit::loopback::program::{RunningProgram, etcp, wait};
use etcp_testkit::loopback::socket::dial;
use etcp_testkit::loopback::{Cproxy, Echo, LoopbackSite, LoopbackSproxy, Steady};
use etcp_testkit::process::kill_raw;
use etcp_testkit::worker::{existing_worker_of, is_stopped, is_there, worker_of};
use rustix::process::Signal;

use super::next_worker;

fn pair() -> (LoopbackSite, LoopbackSproxy, Cproxy) {
    let site = LoopbackSite::new();
    let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    let cproxy = Cproxy::start(&site, sproxy.address, "cproxy").attached();
    (site, sproxy, cproxy)
}

fn file(process: u32, name: &str) -> String {
    let text = std::fs::read(format!("/proc/{process}/{name}")).expect("it runs");
    String::from_utf8_lossy(&text).replace('\0', " ").trim_end().to_owned()
}

fn field(process: u32, name: &str) -> String {
    let status = file(process, "status");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("it has the field");
    line.trim_start_matches(':').trim().to_owned()
}

#[test]
fn a_proxy_has_one_child_that_serves_and_both_are_named() {
    let (site, sproxy, cproxy) = pair();
    for (role, program) in [("sproxy", &sproxy.program), ("cproxy", &cproxy.program)] {
        let (main, worker) = (program.id(), program.worker());
        assert_ne!(main, worker);
        assert_eq!(file(main, &format!("task/{main}/children")), worker.to_string());
        assert!(file(main, "cmdline").contains(&format!("etcp {role} ")));
        assert_eq!((file(worker, "comm"), file(worker, "cmdline")), twice("etcp: worker"));
        assert_eq!(field(main, "Threads"), "1");
        // A descriptor that one of them opens is open in the other one, too.
        let names = |process: u32| {
            let files = std::fs::read_dir(format!("/proc/{process}/fd")).expect("it runs");
            files.flatten().filter_map(|it| std::fs::read_link(it.path()).ok()).count()
        };
        wait("no work", || names(main) == names(worker));
        let status = status(&site, role, program);
        assert_eq!((&status["process"], &status["holder_pid"]), (&main.into(), &main.into()));
        assert_eq!((&status["worker_pid"], &status["restarts"]), (&worker.into(), &0.into()));
        assert!(status["last_restart"].is_null());
    }
}

fn twice(text: &str) -> (String, String) {
    (text.to_owned(), text.to_owned())
}

#[test]
fn memory_that_runs_out_takes_the_worker_first_and_neither_can_be_read() {
    let (_site, sproxy, _cproxy) = pair();
    let (main, worker) = (sproxy.program.id(), sproxy.program.worker());
    let score = |process| file(process, "oom_score_adj").parse::<i32>().expect("a number");
    assert_eq!(score(worker), (score(main) + 100).min(1000));
    assert_eq!(file(main, "limits"), file(worker, "limits"));
    // The kernel's counts of calls on sockets are written to memory that is never swapped out.
    if rustix::process::geteuid().is_root() {
        assert_ne!(field(worker, "VmLck"), "0 kB");
    }
}

#[test]
fn the_death_of_the_main_process_is_the_end_of_both() {
    let (_site, sproxy, mut cproxy) = pair();
    let steady = Steady::start(cproxy.listen);
    for program in [&sproxy.program, &cproxy.program] {
        let worker = program.worker();
        kill_raw(program.id(), Signal::KILL).expect("it runs");
        wait("the worker's end", || !is_there(worker));
    }
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&cproxy.program.end_of()), Some(9));
    drop(steady);
}

#[test]
fn a_worker_that_dies_is_replaced_and_the_status_and_the_hook_tell_why() {
    let site = LoopbackSite::new();
    let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    let events = site.path().join("events");
    let hook = format!("echo \"$ETCP_EVENT $ETCP_PID $ETCP_WHY\" >> {}", events.display());
    let args = ["--on-event", &hook];
    let mut cproxy = Cproxy::with(&site, sproxy.address, "cproxy", &site.client, &args).attached();
    let main = cproxy.program.id();
    for (times, signal, name) in [(1, Signal::ILL, "SIGILL"), (2, Signal::ABORT, "SIGABRT")] {
        let before = cproxy.program.worker();
        kill_raw(before, signal).expect("it runs");
        let worker = next_worker(&cproxy.program, before);
        cproxy.program.wait_for_count("listening on", times + 1);
        cproxy.program.wait_for_count("INFO attached", times + 1);
        let status = status(&site, "cproxy", &cproxy.program);
        assert_eq!((&status["process"], &status["worker_pid"]), (&main.into(), &worker.into()));
        assert_eq!(
            (&status["restarts"], &status["last_restart"]["cause"]),
            (&times.into(), &name.into())
        );
        assert!(status["last_restart"]["restarted_at"].as_u64() > status["started_at"].as_u64());
        let line = format!("restarted {main} the worker died ({name})\n");
        wait("the hook", || std::fs::read_to_string(&events).is_ok_and(|it| it.contains(&line)));
        Steady::start(cproxy.listen).finish();
    }
    let own = control(&site, "cproxy", &cproxy.program);
    let table = operate(&site, &["status", "--control", &own]).out;
    assert!(table.contains("  2 restarts, the last "), "{table}");
    let said = cproxy.program.wait_for("the worker died (SIGABRT)");
    assert!(said.contains("WARN"), "{said}");
    // The socket is still at its path, and requests arrive.
    assert_eq!(operate(&site, &["reconnect", "--control", &own]).code, Some(0));
    assert_eq!(operate(&site, &["drain", "--wait", "--control", &own]).code, Some(0));
    assert_eq!(cproxy.program.end().0, Some(0));
}

#[test]
fn workers_that_die_at_once_after_each_start_are_given_up_with_a_reason() {
    let (_site, mut sproxy, _cproxy) = pair();
    let (mut before, mut killed) = (0, 0);
    // A busy machine may need more of them until three are close enough.
    wait("the program to give up", || {
        let worker = existing_worker_of(sproxy.program.id()).filter(|worker| *worker != before);
        if let Some(worker) = worker {
            (before, killed) = (worker, killed + 1);
            // It may have ended since it was found.
            let _ = kill_raw(worker, if killed < 3 { Signal::ABORT } else { Signal::KILL });
        }
        !sproxy.program.is_running()
    });
    let status = sproxy.program.end_of();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{status}");
    let line = "etcp: gives up: 3 workers died within 10s (the last one: SIGKILL)";
    assert_eq!(sproxy.program.log().lines().last(), Some(line));
}

#[test]
fn an_exit_code_of_the_worker_is_that_of_the_program_and_no_crash() {
    let site = LoopbackSite::new();
    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let listen = held.local_addr().expect("it listens").to_string();
    let mut command = etcp(site.path(), ["sproxy", "--listen", &listen]);
    command.arg("--identity").arg(site.server_key());
    let mut program = RunningProgram::start("second", site.path(), command);
    let (code, line) = program.end();
    assert_eq!(code, Some(1), "{line}");
    assert!(line.starts_with("etcp: cannot listen on"), "{line}");
    assert_eq!(program.log().lines().count(), 1, "{}", program.log());
}

#[test]
fn a_signal_to_the_main_process_is_the_workers_also_between_two_workers() {
    let (_site, mut sproxy, mut cproxy) = pair();
    for signal in [Signal::HUP, Signal::USR1] {
        kill_raw(cproxy.program.id(), signal).expect("it runs");
    }
    cproxy.program.wait_for("keys and known_hosts are read again");
    cproxy.program.wait_for("connecting again, as asked");
    // The next worker cannot handle the signal yet.
    kill_raw(cproxy.program.worker(), Signal::KILL).expect("it runs");
    cproxy.program.signal(Signal::TERM);
    assert_eq!(cproxy.program.end_of().code(), Some(0), "{}", cproxy.program.log());
    // A signal that ends the worker in order ends the program.
    kill_raw(sproxy.program.worker(), Signal::TERM).expect("it runs");
    assert_eq!(sproxy.program.end_of().code(), Some(0), "{}", sproxy.program.log());
}

/// The time allowed for a session to answer.
const SOON: Duration = Duration::from_secs(2);

fn exchange(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"?")?;
    stream.read_exact(&mut [0])
}

#[test]
fn a_main_process_that_is_stopped_stops_the_service_and_goes_on_with_it() {
    let (_site, sproxy, cproxy) = pair();
    for program in [&cproxy.program, &sproxy.program] {
        let mut stream = dial(cproxy.listen);
        exchange(&mut stream).expect("the session is up");
        program.signal(Signal::STOP);
        wait("the main process to be stopped", || is_stopped(program.id()));
        // An event that wakes the worker makes it check.
        stream.set_read_timeout(Some(SOON)).expect("a time-out is set");
        let _ = exchange(&mut stream);
        wait("the worker to be stopped", || is_stopped(program.worker()));
        program.signal(Signal::CONT);
        wait("the worker to go on", || !is_stopped(program.worker()));
        let mut next = dial(cproxy.listen);
        exchange(&mut next).expect("new sessions work");
    }
}

#[test]
fn a_worker_that_is_stopped_alone_stays_so() {
    let (_site, _sproxy, cproxy) = pair();
    let worker = cproxy.program.worker();
    kill_raw(worker, Signal::STOP).expect("it runs");
    wait("it to be stopped", || is_stopped(worker));
    // The holder handles another event meanwhile.
    kill_raw(cproxy.program.id(), Signal::URG).expect("it runs");
    assert!(is_stopped(worker));
    cproxy.program.signal(Signal::CONT);
    wait("it to go on", || !is_stopped(worker));
    Steady::start(cproxy.listen).finish();
}

#[test]
fn without_a_holder_there_is_one_process_which_says_so_to_nobody() {
    let site = LoopbackSite::new();
    let args = ["--listen", "127.0.0.1:0", "--no-holder"];
    let sproxy = LoopbackSproxy::with(&site, Echo::start().address, &args, None);
    let main = sproxy.program.id();
    assert_eq!(worker_of(main), main);
    assert_eq!(file(main, &format!("task/{main}/children")), "");
    let status = status(&site, "sproxy", &sproxy.program);
    assert!(status["holder_pid"].is_null());
    assert_eq!(status["worker_pid"], main);
    assert_eq!(sproxy.program.count("WARN"), 0, "{}", sproxy.program.log());
}
