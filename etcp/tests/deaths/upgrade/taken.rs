//! Programs that take over.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;

use etcp_testkit::checked::accept;
use etcp_testkit::loopback::operator::{control, operate, status};
use etcp_testkit::loopback::program::wait;
use etcp_testkit::loopback::socket::dial;
use etcp_testkit::loopback::{Cproxy, LoopbackSite, LoopbackSproxy};
use etcp_testkit::pair::etcp;
use etcp_testkit::process::kill_raw;
use etcp_testkit::worker::{is_stopped, is_there};
use rustix::process::Signal;

use super::super::{kill_worker, next_worker};
use super::{StreamingProxies, descriptors, exchange, processes};

#[test]
fn streams_go_on_when_the_program_of_either_side_is_replaced() {
    let proxies = StreamingProxies::new();
    let copy = proxies.copy("etcp-copy");
    for role in ["sproxy", "cproxy"] {
        let main = proxies.program(role).id();
        proxies.upgraded(role, &[]);
        proxies.go_on(&format!("an upgrade of {role}"));
        let worker = proxies.upgraded(role, &["--program", copy.to_str().expect("text")]);
        proxies.go_on(&format!("an upgrade of {role} to a copy"));
        let exe = fs::read_link(format!("/proc/{worker}/exe"));
        assert!(exe.is_err() || exe.is_ok_and(|exe| exe == copy), "it is the copy");
        // A signal applies to the program that serves.
        proxies.program(role).signal(Signal::USR2);
        // The previous program would close the connection of a request.
        next_worker(proxies.program(role), worker);
        proxies.go_on(&format!("SIGUSR2 to {role}"));
        let status = proxies.status(role);
        assert_eq!(status["process"], main);
        assert_eq!((&status["restarts"], &status["last_restart"].is_null()), (&0.into(), &true));
        // The streams go on before the program that was replaced has said so.
        wait("its line", || proxies.program(role).count("has taken over") == 3);
    }
    let [mut application, mut target] = proxies.session();
    exchange(&mut application, &mut target);
    proxies.finish();
}

#[test]
fn ten_upgrades_in_a_row_leave_as_much_as_one() {
    let proxies = StreamingProxies::new();
    let program = proxies.program("sproxy");
    let count = || {
        let all = processes(program);
        (all.len(), descriptors(all[0]), descriptors(all[1]))
    };
    let upgrade = || {
        let before = proxies.cproxy.attached_again();
        proxies.upgraded("sproxy", &[]);
        // Without its carrier it has less.
        wait("the next carrier", || proxies.cproxy.attached_again() > before);
    };
    upgrade();
    proxies.go_on("the first");
    let mut first = (0, 0, 0);
    wait("no work", || std::mem::replace(&mut first, count()) == first && first.0 == 3);
    for _ in 0..9 {
        upgrade();
    }
    proxies.go_on("ten upgrades");
    wait("no more than after one", || count() <= first);
    proxies.finish();
}

#[test]
fn the_processes_are_one_service_after_an_upgrade() {
    let mut proxies = StreamingProxies::new();
    proxies.upgraded("cproxy", &[]);
    let all = processes(proxies.program("cproxy"));
    assert_eq!(all.len(), 3);
    let status = proxies.status("cproxy");
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
    // All of them stop with the main process, and continue with it.
    proxies.program("cproxy").signal(Signal::STOP);
    wait("the worker to be stopped", || is_stopped(all[2]));
    proxies.program("cproxy").signal(Signal::CONT);
    wait("the worker to go on", || !is_stopped(all[2]));
    proxies.go_on("a stop");
    // A worker that dies is replaced.
    kill_raw(all[2], Signal::KILL).expect("it runs");
    wait("another worker", || !is_there(all[2]));
    proxies.go_on("the death of the worker");
    for signal in [Signal::HUP, Signal::USR1] {
        proxies.program("cproxy").signal(signal);
    }
    proxies.cproxy.program.wait_for("keys and known_hosts are read again");
    proxies.cproxy.program.wait_for("connecting again, as asked");
    // All of them end with the main process.
    let all = processes(proxies.program("cproxy"));
    kill_raw(all[0], Signal::KILL).expect("it runs");
    wait("the end of all", || all[1..].iter().all(|it| !is_there(*it)));
    drop(proxies.streams.take());
}

#[test]
fn two_upgrades_at_once_are_one_after_the_other_or_one_of_them_is_refused() {
    let proxies = StreamingProxies::new();
    let results: Vec<_> = std::thread::scope(|scope| {
        let upgrades = [(); 3].map(|()| scope.spawn(|| proxies.upgrade("cproxy", &[])));
        upgrades.into_iter().map(|it| it.join().expect("it runs")).collect()
    });
    assert!(results.iter().any(|said| said.code == Some(0)), "{results:?}");
    for said in results.iter().filter(|said| said.code != Some(0)) {
        let is_known = ["an upgrade is under way", "another upgrade followed"];
        assert!(is_known.iter().any(|text| said.err.contains(text)), "{said:?}");
    }
    proxies.go_on("three upgrades at once");
    // An upgrade begins while a worker starts, which must not take the descriptors of the check for
    // its own.
    for round in 0..8 {
        let before = proxies.program("cproxy").count("has taken over");
        proxies.upgrade_is_over("cproxy");
        kill_worker(proxies.program("cproxy"));
        proxies.program("cproxy").signal(Signal::USR2);
        wait("another program", || proxies.program("cproxy").count("has taken over") > before);
        proxies.go_on(&format!("an upgrade during a restart, round {round}"));
    }
    proxies.finish();
}

#[test]
fn a_signal_that_comes_during_an_upgrade_reaches_the_program_that_takes_over() {
    let mut proxies = StreamingProxies::new();
    // From now on the main process is not the holder.
    proxies.upgraded("cproxy", &[]);
    let go = proxies.site.path().join("go");
    let then = format!(
        "until [ -e {} ]; do sleep 0.01; done; exec {} \"$@\"",
        go.display(),
        etcp().display()
    );
    let script = proxies.script("waits", &then);
    let worker = proxies.program("cproxy").worker();
    std::thread::scope(|scope| {
        let args = ["--program", script.to_str().expect("text")];
        let (site, program) = (&proxies.site, &proxies.cproxy.program);
        let socket = control(site, "cproxy", program);
        let upgrade = scope.spawn(move || {
            operate(site, &[&["upgrade", "--control", &socket][..], &args].concat())
        });
        wait("the exchange", || !is_there(worker));
        for signal in [Signal::HUP, Signal::USR1] {
            program.signal(signal);
        }
        fs::write(&go, "").expect("the folder is ours");
        let said = upgrade.join().expect("it runs");
        assert_eq!(said.code, Some(0), "{said:?} {}", program.log());
    });
    proxies.cproxy.program.wait_for("keys and known_hosts are read again");
    proxies.cproxy.program.wait_for("connecting again, as asked");
    proxies.finish();
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
    let proxies = StreamingProxies::new();
    let worker = proxies.upgraded("sproxy", &[]);
    assert_eq!(proxies.program("sproxy").worker(), worker);
    kill_raw(worker, Signal::KILL).expect("it runs");
    next_worker(proxies.program("sproxy"), worker);
    proxies.finish();
}
