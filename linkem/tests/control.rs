//! The control socket, and the end of a run.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use support::link::{EmulatedLink, PROGRAM};
use support::skip;

#[test]
fn a_request_with_one_bad_setting_changes_nothing() {
    if !skip::can_run("a_request_with_one_bad_setting_changes_nothing") {
        return;
    }
    let link = EmulatedLink::start("bad", &["delay=3ms"]);
    let before = link.show();
    for bad in ["delay=soon", "left:delay=1ms", "colour=red", "mtu=1000"] {
        let output = link.ctl(&["set", "delay=9ms", "mtu=1400", bad]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stdout.starts_with(b"error: "), "{output:?}");
    }
    let after = link.show();
    assert_eq!(after["up"]["settings"], before["up"]["settings"]);
    assert_eq!(after["mtu"], before["mtu"]);
    link.set(&["down:delay=9ms"]);
    let after = link.show();
    assert_eq!(after["up"]["settings"]["delay"], "3ms");
    assert_eq!(after["down"]["settings"]["delay"], "9ms");
}

#[test]
fn one_connection_may_ask_again_and_again() {
    if !skip::can_run("one_connection_may_ask_again_and_again") {
        return;
    }
    let link = EmulatedLink::start("again", &[]);
    let mode = std::fs::metadata(link.control()).expect("the socket is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let stream = UnixStream::connect(link.control()).expect("linkem listens");
    let mut answers = BufReader::new(&stream).lines();
    for (request, expected) in [("set loss=1%", "ok"), ("what", "error: "), ("show", "{\"mtu\":")] {
        (&stream).write_all(format!("{request}\n").as_bytes()).expect("it reads");
        let answer = answers.next().expect("it answers").expect("text");
        assert!(answer.starts_with(expected), "{request}: {answer}");
    }
}

#[test]
fn quit_a_signal_and_the_end_of_stdin_end_it_in_order() {
    if !skip::can_run("quit_a_signal_and_the_end_of_stdin_end_it_in_order") {
        return;
    }
    let ways: [fn(&mut EmulatedLink); 3] = [
        |link| assert!(link.ctl(&["quit"]).status.success()),
        |link| {
            let pid = Pid::from_raw(link.id().cast_signed()).expect("an id");
            kill_process(pid, Signal::TERM).expect("it runs");
        },
        EmulatedLink::close_stdin,
    ];
    for (number, end) in ways.into_iter().enumerate() {
        let mut link = EmulatedLink::start(&format!("end{number}"), &[]);
        end(&mut link);
        assert!(link.has_succeeded(), "way {number}");
        assert!(!link.control().exists(), "way {number} leaves the socket");
        let devices = link.left.ip(&["-o", "link"]);
        assert!(!devices.contains("left"), "way {number} leaves a device: {devices}");
    }
}

#[test]
fn a_socket_in_use_and_a_namespace_that_is_not_there_are_refused() {
    if !skip::can_run("a_socket_in_use_and_a_namespace_that_is_not_there_are_refused") {
        return;
    }
    let link = EmulatedLink::start("use", &[]);
    let end = |namespace: &str| format!("{namespace}:other=10.74.0.1/24");
    let run = |left: &str, more: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.args(["--left", &end(left), "--right", &end(link.right.name())]).args(more);
        let output = command.output().expect("linkem runs");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).expect("text")
    };
    let path = link.control().display().to_string();
    assert!(run(link.left.name(), &["--control", &path]).contains("choose another"));
    assert!(run("linkem-test-none", &[]).contains("ip netns add"));
    link.set(&["delay=1ms"]);
}
