//! Programs that do not take over, or not for long.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use etcp_testkit::checked::Rate;
use etcp_testkit::loopback::operator::{control, operate, status};
use etcp_testkit::loopback::program::wait;
use etcp_testkit::loopback::{LoopbackSite, LoopbackSproxy};
use etcp_testkit::pair::etcp;
use etcp_testkit::process::kill_raw;
use etcp_testkit::streams::Streams;
use etcp_testkit::tell;
use etcp_testkit::wait::{PATIENCE, until};
use etcp_testkit::worker::{is_stopped, is_there};
use rustix::process::Signal;

use super::super::next_worker;
use super::{StreamingProxies, processes};

#[test]
fn a_program_that_cannot_start_changes_nothing() {
    let proxies = StreamingProxies::new();
    let worker = proxies.program("sproxy").worker();
    let folder = proxies.site.path();
    fs::write(folder.join("text"), "hello\n").expect("the folder is ours");
    fs::write(folder.join("plain"), "hello\n").expect("the folder is ours");
    fs::set_permissions(folder.join("text"), fs::Permissions::from_mode(0o755)).expect("ours");
    let cases = [
        (PathBuf::from("/"), "cannot be started: Permission denied"),
        (folder.join("plain"), "cannot be started: Permission denied"),
        (folder.join("text"), "cannot take over: "),
        (folder.join("nothing"), "cannot be started: No such file or directory"),
        (PathBuf::from("/bin/true"), "it is not etcp"),
        (PathBuf::from("/bin/false"), "ended with code 1"),
    ];
    for (program, expected) in cases {
        let reason = proxies.not_upgraded("sproxy", &program);
        assert!(reason.contains(expected), "{reason}");
    }
    // The key has changed.
    let key = proxies.site.server_key();
    fs::rename(&key, folder.join("kept")).expect("the folder is ours");
    assert!(proxies.not_upgraded("sproxy", &etcp()).contains("cannot take over: "));
    fs::rename(folder.join("kept"), &key).expect("the folder is ours");
    let said = proxies.upgrade("sproxy", &["--check"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.trim_end().ends_with(" can take over"), "{said:?}");
    assert_eq!(proxies.program("sproxy").worker(), worker);
    assert_eq!(processes(proxies.program("sproxy")).len(), 2);
    proxies.finish();
}

#[test]
fn a_program_that_fails_after_its_check_leaves_the_old_one_in_its_place() {
    let proxies = StreamingProxies::new();
    for (role, name, then, expected) in [
        ("sproxy", "exits", "exit 3", "it ended before it could serve"),
        ("cproxy", "dies", "kill -SEGV $$", "it ended before it could serve"),
        ("sproxy", "sleeps", "sleep 1000", "it was not ready within 5s"),
    ] {
        let reason = proxies.not_upgraded(role, &proxies.script(name, then));
        assert!(reason.contains(expected), "{reason}");
        wait("two processes alone", || processes(proxies.program(role)).len() == 2);
        assert!(proxies.status(role)["last_restart"].is_null());
    }
    // Nobody has a copy of the connections.
    let [application, mut target] = proxies.session();
    drop(application);
    assert_eq!(target.read(&mut [0]).expect("an end"), 0);
    proxies.upgraded("sproxy", &[]);
    proxies.go_on("a good program after bad ones");
    proxies.finish();
}

#[test]
fn a_program_that_takes_over_and_crashes_by_itself_loses_nothing() {
    let proxies = StreamingProxies::new();
    // Bulk: each worker dies by SIGXCPU when it has used a second of the processor.
    let [application, target] = proxies.session();
    let bulk = Rate { chunk: 256 * 1024, pause: Duration::ZERO };
    let streams = Streams::start(application, target, bulk);
    let script =
        proxies.script("tires", &format!("ulimit -S -t 1; exec {} \"$@\"", etcp().display()));
    proxies.upgraded("sproxy", &["--program", script.to_str().expect("text")]);
    let deaths = || proxies.program("sproxy").count("the worker died (signal 24)");
    // A busy machine gives it a second of the processor in many.
    until("crashes, or the way back", 4 * PATIENCE, || {
        deaths() >= 6 || proxies.program("sproxy").count("serves again: ") == 1
    });
    assert!(deaths() >= 2, "{}", proxies.program("sproxy").log());
    tell(&format!("{} crashes of a program by itself", deaths()));
    proxies.go_on("crashes of a program by itself");
    streams.go_on("crashes of a program by itself");
    streams.finish();
    if proxies.program("sproxy").count("serves again: ") == 0 {
        // Its deaths were not close enough.
        proxies.upgraded("sproxy", &["--program", etcp().to_str().expect("text")]);
    }
    proxies.go_on("a good program after that");
    proxies.finish();
}

/// The time in which three deaths are too many.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_program_that_dies_soon_is_replaced_by_the_one_before_wherever_that_is() {
    let proxies = StreamingProxies::new();
    let [first, second] = ["first", "second"].map(|name| proxies.copy(name));
    proxies.upgraded("sproxy", &["--program", first.to_str().expect("text")]);
    let mut worker = proxies.upgraded("sproxy", &["--program", second.to_str().expect("text")]);
    fs::remove_file(&first).expect("it is ours");
    let holder = || proxies.status("sproxy")["holder_pid"].as_u64();
    let before = holder();
    let mut crashes = Vec::new();
    while holder() == before {
        // A busy machine may need more of them until three are close enough.
        let third_last = crashes.iter().rev().nth(2);
        assert!(third_last.is_none_or(|it: &Instant| it.elapsed() > SOON), "it does not go back");
        crashes.push(Instant::now());
        kill_raw(worker, Signal::ABORT).expect("it runs");
        worker = next_worker(proxies.program("sproxy"), worker);
        proxies.go_on(&format!("crash {}", crashes.len()));
    }
    assert!(crashes.len() >= 3);
    assert_eq!(proxies.status("sproxy")["restarts"], crashes.len());
    let line = format!("{}, etcp ", first.display());
    assert!(proxies.program("sproxy").log().contains(&line));
    assert_eq!(proxies.program("sproxy").count("serves again: "), 1);
    assert_eq!(processes(proxies.program("sproxy")).len(), 3);
    // The path leads nowhere, so an upgrade without `--program` is impossible.
    let said = proxies.upgrade("sproxy", &[]);
    assert_eq!(said.code, Some(1), "{said:?}");
    proxies.upgraded("sproxy", &["--program", second.to_str().expect("text")]);
    proxies.go_on("an upgrade after the way back");
    proxies.finish();
}

#[test]
fn a_program_that_is_asked_to_end_during_an_upgrade_ends() {
    let mut proxies = StreamingProxies::new();
    let script = proxies.script("sleeps", "exec sleep 1000");
    let socket = control(&proxies.site, "sproxy", &proxies.sproxy.program);
    let (site, args) = (&proxies.site, ["upgrade", "--control", &socket, "--program"]);
    let begun = Instant::now();
    let worker = proxies.sproxy.program.worker();
    std::thread::scope(|scope| {
        let upgrade =
            scope.spawn(|| operate(site, &[&args[..], &[script.to_str().expect("text")]].concat()));
        wait("the exchange", || !is_there(worker));
        proxies.sproxy.program.signal(Signal::TERM);
        let said = upgrade.join().expect("it runs");
        assert_eq!(said.code, Some(1), "{said:?}");
    });
    assert_eq!(proxies.sproxy.program.end().0, Some(0), "{}", proxies.sproxy.program.log());
    tell(&format!("it ended after {:.2?}", begun.elapsed()));
    drop(proxies.streams.take());
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
fn a_worker_of_a_new_program_that_dies_before_it_may_serve_loses_nothing() {
    let proxies = StreamingProxies::new();
    let [waits, go] = ["waits", "go"].map(|name| proxies.site.path().join(name));
    let then = format!(
        "touch {}; until [ -e {} ]; do sleep 0.01; done; exec {} \"$@\"",
        waits.display(),
        go.display(),
        etcp().display()
    );
    let script = proxies.script("script", &then);
    let (site, program) = (&proxies.site, proxies.program("sproxy"));
    let socket = control(site, "sproxy", program);
    let args = ["upgrade", "--control", &socket, "--program", script.to_str().expect("text")];
    std::thread::scope(|scope| {
        let upgrade = scope.spawn(|| operate(site, &args));
        wait("the new program", || waits.exists());
        // The old holder answers nothing.
        kill_raw(program.id(), Signal::STOP).expect("it runs");
        wait("the old holder to be stopped", || is_stopped(program.id()));
        fs::write(&go, "").expect("the folder is ours");
        let worker = || processes(program).get(2).copied();
        // The new worker has read everything, and waits for the answer.
        let is_waiting = |worker| {
            let state = fs::read_to_string(format!("/proc/{worker}/stat"));
            state.is_ok_and(|state| state.contains("(etcp: worker) S "))
        };
        wait("the new worker to be ready", || {
            program.count("continuing with 1 tunnel") > 0 && worker().is_some_and(is_waiting)
        });
        let worker = worker().expect("it was there");
        kill_raw(worker, Signal::KILL).expect("it runs");
        wait("its end", || !is_there(worker));
        kill_raw(program.id(), Signal::CONT).expect("it runs");
        let said = upgrade.join().expect("it runs");
        assert_eq!(said.code, Some(0), "{said:?} {}", program.log());
    });
    proxies.go_on("the death of the new worker");
    assert_eq!(proxies.status("sproxy")["restarts"], 1);
    proxies.finish();
}
