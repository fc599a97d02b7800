//! The control socket: stale ones, garbage, slow readers, several proxies, and which one is meant.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use etcp_testkit::loopback::operator::{control, folder, operate, operate_alone, socket, status};
use etcp_testkit::loopback::program::{RunningProgram, etcp, wait};
use etcp_testkit::loopback::{Cproxy, Echo, LoopbackSite, LoopbackSproxy, PATIENCE, Steady};
use etcp_testkit::skip;

fn served() -> (LoopbackSite, LoopbackSproxy, Cproxy) {
    let site = LoopbackSite::new();
    let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    let cproxy = Cproxy::start(&site, sproxy.address, "cproxy").attached();
    (site, sproxy, cproxy)
}

fn open(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out is set");
    stream
}

/// Returns the next line, as JSON.
#[track_caller]
fn answer(stream: &mut BufReader<UnixStream>) -> Value {
    let mut line = String::new();
    stream.read_line(&mut line).expect("it answers");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

#[test]
fn with_nothing_running_status_says_so_in_one_line() {
    if !skip::has_no_service("usage::control (nothing)") {
        return;
    }
    let site = LoopbackSite::new();
    for command in [&["status"][..], &["status", "--watch"], &["reconnect"], &["drain"]] {
        let said = operate_alone(&site, command);
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{said:?}");
        assert!(said.err.starts_with("etcp: nothing is running: "), "{said:?}");
        assert_eq!(said.err.lines().count(), 1, "{said:?}");
    }
}

#[test]
fn the_socket_of_a_killed_proxy_is_removed_and_a_proxy_that_ends_removes_its_own() {
    let (site, sproxy, mut cproxy) = served();
    let stale = socket(&site, "cproxy", &cproxy.program);
    cproxy.program.kill();
    assert!(stale.exists(), "nobody removed it yet");
    let said = operate_alone(&site, &["status"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.starts_with("sproxy ") && !said.out.contains("\ncproxy "), "{said:?}");
    assert!(!stale.exists(), "it is removed");
    drop(sproxy);
    let mut cproxy = Cproxy::start(&site, "127.0.0.1:9".parse().expect("an address"), "late");
    let own = socket(&site, "cproxy", &cproxy.program);
    wait("its socket", || own.exists());
    cproxy.program.signal(rustix::process::Signal::TERM);
    assert_eq!(cproxy.program.end().0, Some(0));
    assert!(!own.exists(), "it is gone with its process");
}

#[test]
fn a_proxy_has_no_socket_if_that_is_wanted_and_none_but_a_free_one() {
    let (site, sproxy, first) = served();
    let none = Cproxy::with(&site, sproxy.address, "none", &site.client, &["--control", "none"]);
    let none = none.attached();
    assert!(!socket(&site, "cproxy", &none.program).exists());
    let taken = control(&site, "cproxy", &first.program);
    let mut command = etcp(site.path(), ["cproxy", "--listen", "127.0.0.1:0", "--server", "x"]);
    command.arg("--identity").arg(&site.client.path).args(["--control", &taken]);
    let (code, line) = RunningProgram::start("second", site.path(), command).end();
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains("cannot listen on the control socket"), "{line}");
    assert_eq!(status(&site, "cproxy", &first.program)["role"], "cproxy", "the first has it still");
}

#[test]
fn an_address_in_use_names_the_proxy_that_has_it() {
    let (site, sproxy, first) = served();
    let (client, server) = (first.listen.to_string(), sproxy.address.to_string());
    let cproxy = ["cproxy", "--server", "127.0.0.1:1", "--listen", client.as_str()];
    let by_client =
        format!("cproxy to {} has it (process {}): ", sproxy.address, first.program.id());
    let by_server = format!("sproxy has it (process {}): ", sproxy.program.id());
    for (args, holder) in
        [(&cproxy[..], by_client), (&["sproxy", "--listen", server.as_str()], by_server)]
    {
        let mut command = etcp(site.path(), args);
        command.arg("--identity").arg(&site.client.path);
        let (code, line) = RunningProgram::start("second", site.path(), command).end();
        assert_eq!(code, Some(1), "{line}");
        assert!(
            line.contains(&holder) && line.ends_with("choose another port, or end that one"),
            "{line}"
        );
    }
}

#[test]
fn garbage_is_answered_with_an_error_and_harms_nothing() {
    let (site, _sproxy, cproxy) = served();
    let steady = Steady::start(cproxy.listen);
    let path = socket(&site, "cproxy", &cproxy.program);
    let mut talk = BufReader::new(open(&path));
    for garbage in [
        &b"hello"[..],
        b"",
        b"\xff\xfe\x00",
        b"[1,2",
        b"{\"request\":\"dance\"}",
        b"{\"request\":\"kill\",\"session\":\"all\"}",
    ] {
        talk.get_mut().write_all(&[garbage, b"\n"].concat()).expect("it listens");
        let said = answer(&mut talk);
        assert_eq!((&said["answer"], &said["code"]), (&"error".into(), &"bad-request".into()));
        assert!(said["text"].as_str().is_some_and(|text| !text.is_empty()), "{said}");
    }
    talk.get_mut().write_all(b"{\"version\":9,\"request\":\"status\"}\n").expect("it listens");
    assert_eq!(answer(&mut talk)["code"], "version");
    talk.get_mut().write_all(b"{\"request\":\"sta").expect("it listens");
    talk.get_mut().write_all(b"tus\"}\n{\"request\":\"status\"}\n").expect("it listens");
    for _ in 0..2 {
        assert_eq!(answer(&mut talk)["process"], cproxy.program.id());
    }
    let mut long = BufReader::new(open(&path));
    long.get_mut().write_all(&[b'x'; 4096]).expect("it listens");
    assert_eq!(answer(&mut long)["code"], "bad-request");
    assert_eq!(long.read(&mut [0; 16]).unwrap_or(0), 0, "and it is closed");
    steady.goes_on();
    steady.finish();
}

#[test]
fn neither_slow_readers_nor_too_many_connections_hold_anything_up() {
    let (site, _sproxy, cproxy) = served();
    let steady: Vec<_> = (0..20).map(|_| Steady::start(cproxy.listen)).collect();
    let path = socket(&site, "cproxy", &cproxy.program);
    // The connections watch the status, and never read.
    let slow: Vec<_> = (0..8).map(|_| open(&path)).collect();
    for mut stream in &slow {
        stream.write_all(b"{\"request\":\"watch\",\"interval_ms\":1}\n").expect("it listens");
    }
    let said = operate(&site, &["status", "--control", path.to_str().expect("text")]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("8 connections are open"), "{said:?}");
    steady.iter().for_each(Steady::goes_on);
    drop(slow);
    wait("a place", || operate_alone(&site, &["status"]).out.contains("cproxy "));
    steady.into_iter().for_each(Steady::finish);
}

#[test]
fn watching_tells_each_second_as_a_table_and_as_json() {
    let (site, sproxy, cproxy) = served();
    let path = control(&site, "cproxy", &cproxy.program);
    for json in [false, true] {
        let mut command = etcp(site.path(), ["status", "--watch", "--control", &path]);
        if json {
            command.arg("--json");
        }
        let mut child = command.stdout(Stdio::piped()).spawn().expect("setpriv runs");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut seen = 0;
        while seen < 2 {
            let line = lines.next().expect("it goes on").expect("it is text");
            if json {
                let document: Value = serde_json::from_str(&line).expect("each line is JSON");
                assert_eq!(document["processes"][0]["role"], "cproxy");
            }
            seen += usize::from(json || line.starts_with("cproxy "));
        }
        drop(lines);
        // Nobody reads any more, so the command ends by itself.
        let ended =
            etcp_testkit::wait::until_some("its end", PATIENCE, || child.try_wait().ok()?);
        assert!(ended.success(), "{ended:?}");
    }
    let mut watch = BufReader::new(open(&socket(&site, "sproxy", &sproxy.program)));
    watch
        .get_mut()
        .write_all(b"{\"request\":\"watch\",\"interval_ms\":100}\n")
        .expect("it listens");
    for _ in 0..3 {
        let said = answer(&mut watch);
        assert_eq!((&said["answer"], &said["role"]), (&"status".into(), &"sproxy".into()));
    }
}

#[test]
fn one_of_several_proxies_must_be_named() {
    let (site, sproxy, cproxy) = served();
    let said = operate(&site, &["reconnect"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    for path in
        [control(&site, "cproxy", &cproxy.program), control(&site, "sproxy", &sproxy.program)]
    {
        assert!(said.err.contains(&path), "{said:?}");
    }
    let server = control(&site, "sproxy", &sproxy.program);
    let said = operate(&site, &["reconnect", "--control", &server]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("only a client can connect again"), "{said:?}");
    let said = operate(&site, &["status", "--control", "/nowhere/at/all"]);
    assert_eq!((said.code, said.err.contains("nothing is running there")), (Some(1), true));
    // Each proxy has a socket and a lock.
    assert_eq!(folder(&site).read_dir().expect("it is there").count(), 4);
}
