//! An operator's commands at the instant of a death.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use etcp_testkit::loopback::operator::{control, operate, status};
use etcp_testkit::loopback::program::{etcp, wait};
use etcp_testkit::loopback::{Cproxy, Echo, LoopbackSite, LoopbackSproxy, Steady};
use etcp_testkit::process::kill_raw;
use etcp_testkit::wait::{PATIENCE, end_of, until_some};
use etcp_testkit::worker::{is_there, processes_of};
use rustix::process::Signal;

use super::kill_worker;

#[test]
fn status_and_upgrade_work_right_after_a_death_and_an_upgrade_through_one() {
    let site = LoopbackSite::new();
    let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    let cproxy = Cproxy::start(&site, sproxy.address, "cproxy").attached();
    let steady = Steady::start(cproxy.listen);
    for (role, program) in [("cproxy", &cproxy.program), ("sproxy", &sproxy.program)] {
        let own = control(&site, role, program);
        let gone = kill_worker(program);
        wait("the worker's end", || !is_there(gone));
        assert_eq!(status(&site, role, program)["restarts"], 1);
        let gone = kill_worker(program);
        wait("the worker's end", || !is_there(gone));
        let said = operate(&site, &["upgrade", "--control", &own]);
        assert_eq!(said.code, Some(0), "{said:?} {}", program.log());
        steady.goes_on();
        // The worker dies while the new program is checked, or as it is replaced.
        for _ in 0..4 {
            let said = std::thread::scope(|scope| {
                let upgrade = scope.spawn(|| operate(&site, &["upgrade", "--control", &own]));
                kill_worker(program);
                upgrade.join().expect("it runs")
            });
            assert_eq!(said.code, Some(0), "{said:?} {}", program.log());
            steady.goes_on();
        }
    }
    steady.finish();
}

#[test]
fn a_drain_that_is_waited_for_is_over_when_the_last_session_is_whoever_died_meanwhile() {
    let site = LoopbackSite::new();
    let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    let mut cproxy = Cproxy::start(&site, sproxy.address, "cproxy").attached();
    let steady = Steady::start(cproxy.listen);
    let own = control(&site, "cproxy", &cproxy.program);
    let mut drain = etcp(site.path(), ["drain", "--wait", "--control", &own]);
    let mut drain = drain.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    // A worker that dies before it has answered leaves the command without an answer.
    let mut answer = String::new();
    let output = drain.stdout.as_mut().expect("it is piped");
    BufReader::with_capacity(1, output).read_line(&mut answer).expect("it says something");
    assert!(answer.contains(" takes no new sessions; 1 session continues"), "{answer}");
    for _ in 0..2 {
        kill_worker(&cproxy.program);
        steady.goes_on();
    }
    steady.finish();
    let said = end_of(drain);
    assert_eq!(said.status.code(), Some(0), "{said:?}");
    assert_eq!(cproxy.program.end().0, Some(0), "{}", cproxy.program.log());
}

#[test]
fn sockets_whose_files_were_deleted_come_back_and_are_the_next_workers() {
    let site = LoopbackSite::new();
    let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    let path = site.path().join("listen");
    let unix = format!("unix:{}", path.display());
    let args = ["-L", &format!("{unix}:127.0.0.1:9")];
    let cproxy = Cproxy::with(&site, sproxy.address, "cproxy", &site.client, &args).attached();
    let steady = Steady::start(cproxy.listen);
    let own = control(&site, "cproxy", &cproxy.program);
    let folder = std::path::Path::new(&own).parent().expect("a folder").to_owned();
    for round in 1..=2 {
        // Connected, and not accepted by anybody yet.
        cproxy.program.freeze();
        let queued = UnixStream::connect(&path).expect("it listens");
        std::fs::remove_file(&path).expect("it is there");
        std::fs::remove_dir_all(&folder).expect("it is there");
        for process in processes_of(cproxy.program.id()) {
            kill_raw(process, Signal::CONT).expect("it is stopped");
        }
        // A socket has a name before it listens.
        wait("the control socket", || UnixStream::connect(&own).is_ok());
        let again = until_some("its socket", PATIENCE, || UnixStream::connect(&path).ok());
        assert_eq!(status(&site, "cproxy", &cproxy.program)["restarts"], round - 1);
        // The target refuses connections, so each stream that is served ends.
        for mut stream in [queued, again] {
            assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
        }
        kill_worker(&cproxy.program);
        assert_eq!(status(&site, "cproxy", &cproxy.program)["restarts"], round);
        UnixStream::connect(&path).expect("it listens");
        steady.goes_on();
    }
    steady.finish();
}
