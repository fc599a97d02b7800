//! The program of a running proxy is replaced.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use etcp_testkit::checked::{Rate, accept};
use etcp_testkit::loopback::operator::{OperatorOutput, control, operate, status};
use etcp_testkit::loopback::program::{RunningProgram, wait};
use etcp_testkit::loopback::socket::dial;
use etcp_testkit::loopback::{Cproxy, LoopbackSite, LoopbackSproxy};
use etcp_testkit::pair::etcp;
use etcp_testkit::process::kill_raw;
use etcp_testkit::streams::Streams;
use etcp_testkit::tell;
use etcp_testkit::worker::{is_stopped, is_there};
use rustix::process::Signal;

use super::next_worker;

/// A pair of proxies, and checked streams in both directions of a session.
struct Setting {
    streams: Option<Streams>,
    target: TcpListener,
    cproxy: Cproxy,
    sproxy: LoopbackSproxy,
    site: LoopbackSite,
}

impl Setting {
    fn new() -> Self {
        let site = LoopbackSite::new();
        let target = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        let sproxy = LoopbackSproxy::start(&site, target.local_addr().expect("it listens"));
        let cproxy = Cproxy::start(&site, sproxy.address, "cproxy").attached();
        let mut setting = Self { streams: None, target, cproxy, sproxy, site };
        let [application, target] = setting.session();
        setting.streams = Some(Streams::start(application, target, Rate::BRISK));
        setting.go_on("the start");
        setting
    }

    /// Opens a session.
    fn session(&self) -> [TcpStream; 2] {
        let mut application = dial(self.cproxy.listen);
        let mut target = accept(&self.target);
        exchange(&mut application, &mut target);
        [application, target]
    }

    fn program(&self, role: &str) -> &RunningProgram {
        if role == "cproxy" { &self.cproxy.program } else { &self.sproxy.program }
    }

    fn upgrade(&self, role: &str, args: &[&str]) -> OperatorOutput {
        let socket = control(&self.site, role, self.program(role));
        operate(&self.site, &[&["upgrade", "--control", &socket], args].concat())
    }

    /// Upgrades a proxy, and returns its new worker.
    #[track_caller]
    fn upgraded(&self, role: &str, args: &[&str]) -> u32 {
        let before = self.program(role).worker();
        let said = self.upgrade(role, args);
        assert_eq!(said.code, Some(0), "{said:?} {}", self.program(role).log());
        assert!(said.out.lines().last().is_some_and(|it| it.ends_with(" serves")), "{said:?}");
        assert!(!is_there(before));
        let worker = self.status(role)["worker_pid"].as_u64().expect("a number");
        u32::try_from(worker).expect("a process")
    }

    /// Attempts an upgrade that fails, and returns the reason.
    #[track_caller]
    fn not_upgraded(&self, role: &str, program: &Path) -> String {
        let said = self.upgrade(role, &["--program", program.to_str().expect("it is text")]);
        assert_eq!(said.code, Some(1), "{said:?}");
        self.go_on(&program.display().to_string());
        let (_, reason) = said.err.split_once(": not upgraded: ").expect(&said.err);
        reason.trim_end().to_owned()
    }

    fn status(&self, role: &str) -> serde_json::Value {
        status(&self.site, role, self.program(role))
    }

    #[track_caller]
    fn go_on(&self, after: &str) -> Duration {
        let pause = self.streams.as_ref().expect("they run").go_on(after);
        tell(&format!("{after}: the streams paused for {pause:.2?}"));
        pause
    }

    /// A copy of the program.
    fn copy(&self, name: &str) -> PathBuf {
        let path = self.site.path().join(name);
        fs::copy(etcp(), &path).expect("there is room");
        path
    }

    /// A script that passes the check as the program does, and then does something else.
    fn script(&self, name: &str, then: &str) -> PathBuf {
        let path = self.site.path().join(name);
        let program = etcp();
        let check =
            format!("case \"$*\" in *--check-store*) exec {} \"$@\";; esac", program.display());
        fs::write(&path, format!("#!/bin/sh\n{check}\n{then}\n")).expect("the folder is ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        path
    }

    /// Ends everything in order.
    fn finish(mut self) {
        self.streams.take().expect("they run").finish();
        for program in [&mut self.cproxy.program, &mut self.sproxy.program] {
            program.signal(Signal::TERM);
            assert_eq!(program.end().0, Some(0), "{}", program.log());
            for trouble in ["the peer broke the protocol", "cannot be resumed", "panicked"] {
                assert_eq!(program.count(trouble), 0, "{}", program.log());
            }
        }
    }
}

#[track_caller]
fn exchange(from: &mut (impl Read + Write), to: &mut TcpStream) {
    let mut byte = [0];
    from.write_all(b"?").expect("the session is up");
    to.read_exact(&mut byte).expect("the session is up");
    to.write_all(b"!").expect("the session is up");
    from.read_exact(&mut byte).expect("the session is up");
}

/// The processes of a program, the main one first.
fn processes(program: &RunningProgram) -> Vec<u32> {
    let mut all = vec![program.id()];
    let mut at = 0;
    while let Some(process) = all.get(at) {
        let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
        all.extend(
            children.unwrap_or_default().split_whitespace().filter_map(|it| it.parse::<u32>().ok()),
        );
        at += 1;
    }
    all
}

fn descriptors(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count)
}

#[test]
fn streams_go_on_when_the_program_of_either_side_is_replaced() {
    let setting = Setting::new();
    let copy = setting.copy("etcp-copy");
    for role in ["sproxy", "cproxy"] {
        let main = setting.program(role).id();
        setting.upgraded(role, &[]);
        setting.go_on(&format!("an upgrade of {role}"));
        let worker = setting.upgraded(role, &["--program", copy.to_str().expect("text")]);
        setting.go_on(&format!("an upgrade of {role} to a copy"));
        let exe = fs::read_link(format!("/proc/{worker}/exe"));
        assert!(exe.is_err() || exe.is_ok_and(|exe| exe == copy), "it is the copy");
        // A signal means the program that serves.
        setting.program(role).signal(Signal::USR2);
        wait("another worker", || setting.status(role)["worker_pid"] != worker);
        setting.go_on(&format!("SIGUSR2 to {role}"));
        let status = setting.status(role);
        assert_eq!(status["process"], main);
        assert_eq!((&status["restarts"], &status["last_restart"].is_null()), (&0.into(), &true));
        assert_eq!(setting.program(role).count("has taken over"), 3);
    }
    let [mut application, mut target] = setting.session();
    exchange(&mut application, &mut target);
    setting.finish();
}

#[test]
fn a_program_that_cannot_start_changes_nothing() {
    let setting = Setting::new();
    let worker = setting.program("sproxy").worker();
    let folder = setting.site.path();
    fs::write(folder.join("text"), "hello\n").expect("the folder is ours");
    fs::write(folder.join("plain"), "hello\n").expect("the folder is ours");
    fs::set_permissions(folder.join("text"), fs::Permissions::from_mode(0o755)).expect("ours");
    let cases = [
        (PathBuf::from("/"), "cannot be started: Permission denied"),
        (folder.join("plain"), "cannot be started: Permission denied"),
        (folder.join("text"), "cannot take over: "),
        (folder.join("nothing"), "cannot be started: No such file or directory"),
        (PathBuf::from("/bin/true"), "it is no etcp"),
        (PathBuf::from("/bin/false"), "ended with code 1"),
    ];
    for (program, expected) in cases {
        let reason = setting.not_upgraded("sproxy", &program);
        assert!(reason.contains(expected), "{reason}");
    }
    // The key is another one now.
    let key = setting.site.server_key();
    fs::rename(&key, folder.join("kept")).expect("the folder is ours");
    assert!(setting.not_upgraded("sproxy", &etcp()).contains("cannot take over: "));
    fs::rename(folder.join("kept"), &key).expect("the folder is ours");
    let said = setting.upgrade("sproxy", &["--check"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.trim_end().ends_with(" can take over"), "{said:?}");
    assert_eq!(setting.program("sproxy").worker(), worker);
    assert_eq!(processes(setting.program("sproxy")).len(), 2);
    setting.finish();
}

#[test]
fn a_program_that_fails_after_its_check_leaves_the_old_one_in_its_place() {
    let setting = Setting::new();
    for (role, name, then, expected) in [
        ("sproxy", "exits", "exit 3", "it ended before it could serve"),
        ("cproxy", "dies", "kill -SEGV $$", "it ended before it could serve"),
        ("sproxy", "sleeps", "sleep 1000", "it was not ready within 5s"),
    ] {
        let reason = setting.not_upgraded(role, &setting.script(name, then));
        assert!(reason.contains(expected), "{reason}");
        assert_eq!(processes(setting.program(role)).len(), 2);
        assert!(setting.status(role)["last_restart"].is_null());
    }
    // Nobody has a copy of the connections.
    let [application, mut target] = setting.session();
    drop(application);
    assert_eq!(target.read(&mut [0]).expect("an end"), 0);
    setting.upgraded("sproxy", &[]);
    setting.go_on("a good program after bad ones");
    setting.finish();
}

#[test]
fn a_program_that_dies_soon_is_replaced_by_the_one_before_wherever_that_is() {
    let setting = Setting::new();
    let [first, second] = ["first", "second"].map(|name| setting.copy(name));
    setting.upgraded("sproxy", &["--program", first.to_str().expect("text")]);
    let mut worker = setting.upgraded("sproxy", &["--program", second.to_str().expect("text")]);
    fs::remove_file(&first).expect("it is ours");
    let holder = || setting.status("sproxy")["holder_pid"].as_u64();
    let before = holder();
    for number in 0..3 {
        kill_raw(worker, Signal::ABORT).expect("it runs");
        wait("another worker", || !is_there(worker));
        setting.go_on(&format!("crash {number}"));
        worker = setting.status("sproxy")["worker_pid"].as_u64().expect("one") as u32;
    }
    assert_ne!(holder(), before);
    assert_eq!(setting.status("sproxy")["restarts"], 3);
    let line = format!("{}, etcp ", first.display());
    assert!(setting.program("sproxy").log().contains(&line));
    assert_eq!(setting.program("sproxy").count("serves again: "), 1);
    assert_eq!(processes(setting.program("sproxy")).len(), 3);
    // The path leads nowhere, so a plain upgrade cannot be.
    let said = setting.upgrade("sproxy", &[]);
    assert_eq!(said.code, Some(1), "{said:?}");
    setting.upgraded("sproxy", &["--program", second.to_str().expect("text")]);
    setting.go_on("an upgrade after the way back");
    setting.finish();
}

#[test]
fn ten_upgrades_in_a_row_leave_as_much_as_one() {
    let setting = Setting::new();
    let program = setting.program("sproxy");
    setting.upgraded("sproxy", &[]);
    let count = || {
        let all = processes(program);
        (all.len(), descriptors(all[0]), descriptors(all[1]))
    };
    setting.go_on("the first");
    let mut first = (0, 0, 0);
    wait("no work", || std::mem::replace(&mut first, count()) == first && first.0 == 3);
    for _ in 0..9 {
        setting.upgraded("sproxy", &[]);
    }
    setting.go_on("ten upgrades");
    wait("no more than after one", || count() <= first);
    setting.finish();
}

#[test]
fn the_processes_are_one_service_after_an_upgrade() {
    let mut setting = Setting::new();
    setting.upgraded("cproxy", &[]);
    let all = processes(setting.program("cproxy"));
    assert_eq!(all.len(), 3);
    let status = setting.status("cproxy");
    let [main, holder, worker] = [0, 1, 2].map(|at| serde_json::Value::from(all[at]));
    assert_eq!(
        (&status["process"], &status["holder_pid"], &status["worker_pid"]),
        (&main, &holder, &worker)
    );
    let name = |process| fs::read_to_string(format!("/proc/{process}/comm")).expect("it runs");
    assert_eq!(
        all.iter().map(|it| name(*it)).collect::<Vec<_>>(),
        ["etcp\n", "etcp\n", "etcp: worker\n"]
    );
    let score = |process| {
        let text = fs::read_to_string(format!("/proc/{process}/oom_score_adj")).expect("it runs");
        text.trim().parse::<i32>().expect("a number")
    };
    assert_eq!(score(all[1]), score(all[0]));
    assert_eq!(score(all[2]), (score(all[0]) + 100).min(1000));
    // A stop is one of all, and so is the way on.
    setting.program("cproxy").signal(Signal::STOP);
    wait("the worker to be stopped", || is_stopped(all[2]));
    setting.program("cproxy").signal(Signal::CONT);
    wait("the worker to go on", || !is_stopped(all[2]));
    setting.go_on("a stop");
    // A worker that dies is replaced.
    kill_raw(all[2], Signal::KILL).expect("it runs");
    wait("another worker", || !is_there(all[2]));
    setting.go_on("the death of the worker");
    for signal in [Signal::HUP, Signal::USR1] {
        setting.program("cproxy").signal(signal);
    }
    setting.cproxy.program.wait_for("keys and known_hosts are read again");
    setting.cproxy.program.wait_for("connecting again, as asked");
    // A kill of the main process is one of all.
    let all = processes(setting.program("cproxy"));
    kill_raw(all[0], Signal::KILL).expect("it runs");
    wait("the end of all", || all[1..].iter().all(|it| !is_there(*it)));
    drop(setting.streams.take());
}

#[test]
fn a_program_that_is_asked_to_end_during_an_upgrade_ends() {
    let mut setting = Setting::new();
    let script = setting.script("sleeps", "exec sleep 1000");
    let socket = control(&setting.site, "sproxy", &setting.sproxy.program);
    let (site, args) = (&setting.site, ["upgrade", "--control", &socket, "--program"]);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let upgrade =
            scope.spawn(|| operate(site, &[&args[..], &[script.to_str().expect("text")]].concat()));
        let worker = setting.sproxy.program.worker();
        wait("the exchange", || !is_there(worker));
        setting.sproxy.program.signal(Signal::TERM);
        let said = upgrade.join().expect("it runs");
        assert_eq!(said.code, Some(1), "{said:?}");
    });
    assert_eq!(setting.sproxy.program.end().0, Some(0), "{}", setting.sproxy.program.log());
    tell(&format!("it ended after {:.2?}", begun.elapsed()));
    drop(setting.streams.take());
}

#[test]
fn two_upgrades_at_once_are_one_after_the_other_or_one_of_them_is_refused() {
    let setting = Setting::new();
    let results: Vec<_> = std::thread::scope(|scope| {
        let upgrades = [(); 3].map(|()| scope.spawn(|| setting.upgrade("cproxy", &[])));
        upgrades.into_iter().map(|it| it.join().expect("it runs")).collect()
    });
    assert!(results.iter().any(|said| said.code == Some(0)), "{results:?}");
    for said in results.iter().filter(|said| said.code != Some(0)) {
        let is_known = ["an upgrade is under way", "another upgrade followed"];
        assert!(is_known.iter().any(|text| said.err.contains(text)), "{said:?}");
    }
    setting.go_on("three upgrades at once");
    // One that comes while a worker starts, which must not take what a check opens for its own.
    for round in 0..8 {
        let before = setting.program("cproxy").count("has taken over");
        kill_raw(setting.program("cproxy").worker(), Signal::KILL).expect("it runs");
        setting.program("cproxy").signal(Signal::USR2);
        wait("another program", || setting.program("cproxy").count("has taken over") > before);
        setting.go_on(&format!("an upgrade during a restart, round {round}"));
    }
    setting.finish();
}

#[test]
fn without_a_holder_an_upgrade_is_refused_and_nothing_happens() {
    let site = LoopbackSite::new();
    let target = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let args = ["--listen", "127.0.0.1:0", "--no-holder"];
    let address = target.local_addr().expect("it listens");
    let mut sproxy = LoopbackSproxy::with(&site, address, &args, None);
    let said = operate(&site, &["upgrade"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("one process serves, without a holder"), "{said:?}");
    sproxy.program.signal(Signal::USR2);
    sproxy.program.wait_for("its program cannot be replaced while it runs");
    assert_eq!(status(&site, "sproxy", &sproxy.program)["worker_pid"], sproxy.program.id());
}

#[test]
fn idle_sessions_over_tcp_and_unix_sockets_answer_after_upgrades_of_both_sides() {
    let site = LoopbackSite::new();
    let target = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let sproxy = LoopbackSproxy::start(&site, target.local_addr().expect("it listens"));
    let path = site.path().join("listen");
    let unix = format!("unix:{}", path.display());
    let args = ["--listen", unix.as_str()];
    let cproxy = Cproxy::with(&site, sproxy.address, "cproxy", &site.client, &args).attached();
    let mut over_tcp: Vec<_> = (0..100)
        .map(|_| {
            let mut ends = [dial(cproxy.listen), accept(&target)];
            let [application, target] = &mut ends;
            exchange(application, target);
            ends
        })
        .collect();
    let mut over_unix: Vec<_> = (0..100)
        .map(|_| {
            let mut application = UnixStream::connect(&path).expect("it listens");
            let mut target = accept(&target);
            exchange(&mut application, &mut target);
            (application, target)
        })
        .collect();
    for (role, program) in [("sproxy", &sproxy.program), ("cproxy", &cproxy.program)] {
        let said = operate(&site, &["upgrade", "--control", &control(&site, role, program)]);
        assert_eq!(said.code, Some(0), "{said:?}");
    }
    over_tcp.iter_mut().for_each(|[application, target]| exchange(application, target));
    over_unix.iter_mut().for_each(|(application, target)| exchange(application, target));
    let sessions = status(&site, "cproxy", &cproxy.program)["tunnels"][0]["sessions"].take();
    assert_eq!(sessions.as_array().map(Vec::len), Some(200));
}

#[test]
fn an_upgraded_worker_is_found_by_the_tests() {
    let setting = Setting::new();
    let worker = setting.upgraded("sproxy", &[]);
    assert_eq!(setting.program("sproxy").worker(), worker);
    kill_raw(worker, Signal::KILL).expect("it runs");
    next_worker(setting.program("sproxy"), worker);
    setting.finish();
}
