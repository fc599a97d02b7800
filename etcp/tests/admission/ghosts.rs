//! Clients that return while the server still holds their ghost, and servers that return without
//! their tunnels.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use etcp_testkit::HeldPort;
use etcp_testkit::loopback::program::{RunningProgram, etcp, measure, wait};
use etcp_testkit::loopback::socket::{dial, is_read};
use etcp_testkit::loopback::{ATTACHED, Cproxy, Echo, LoopbackSite, LoopbackSproxy, Steady};

fn served() -> (LoopbackSite, LoopbackSproxy) {
    let site = LoopbackSite::new();
    let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    (site, sproxy)
}

#[test]
fn a_client_that_was_killed_and_started_again_is_let_in_soon_and_its_ghost_ends() {
    let (site, mut sproxy) = served();
    let mut first = Cproxy::start(&site, sproxy.address, "same").attached();
    let mut lost = Steady::start(first.listen);
    first.program.kill();
    let took = measure("from the start of a killed client to its attach", || {
        let second = Cproxy::start(&site, sproxy.address, "same");
        wait("the second client to be attached", || second.program.count(ATTACHED) > 0);
        Steady::start(second.listen).finish();
    });
    assert!(took < Duration::from_secs(30), "it took {took:?}");
    sproxy.program.wait_for("replaced by a newer one of the same client");
    sproxy.program.wait_for("tunnel over");
    assert_eq!(lost.ended(), Some(ErrorKind::ConnectionReset), "not an end in order");
}

#[test]
fn a_proxy_that_is_killed_leaves_resets_behind_and_never_an_end_of_stream() {
    let site = LoopbackSite::new();
    let target = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let mut sproxy = LoopbackSproxy::start(&site, target.local_addr().expect("it listens"));
    let mut cproxy = Cproxy::start(&site, sproxy.address, "client").attached();
    let mut application = dial(cproxy.listen);
    application.write_all(b"?").expect("cproxy reads");
    let (mut answering, _) = target.accept().expect("sproxy connects");
    answering.read_exact(&mut [0]).expect("the byte comes");
    for (program, mut end) in [(&mut cproxy.program, application), (&mut sproxy.program, answering)]
    {
        program.kill();
        let error = end.read(&mut [0]).expect_err("it has not ended in order");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

/// Limits a process to the address space that it has (`RLIMIT_AS`).
fn give_no_more_memory(id: u32) {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("it runs");
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let size = size.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    let limit = format!("--as={0}:{0}", size.expect("Linux tells it") * 1024);
    let status = Command::new("prlimit").args(["--pid", &id.to_string(), &limit]).status();
    assert!(status.expect("it runs").success());
}

#[test]
fn a_proxy_that_gets_no_more_memory_says_so_and_leaves_resets_behind() {
    let test = "a_proxy_that_gets_no_more_memory_says_so_and_leaves_resets_behind";
    if !etcp_testkit::skip::can_find(test, &["prlimit"]) {
        return;
    }
    let site = LoopbackSite::new();
    // A server program that never reads, so that everything is queued.
    let target = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let sproxy = LoopbackSproxy::start(&site, target.local_addr().expect("it listens"));
    // With a holder, another process serves after that.
    let args = ["--no-holder"];
    let mut cproxy = Cproxy::with(&site, sproxy.address, "client", &site.client, &args).attached();
    let applications: Vec<_> = (0..8).map(|_| dial(cproxy.listen)).collect();
    give_no_more_memory(cproxy.program.worker());
    let threads: Vec<_> = applications
        .into_iter()
        .map(|mut application| {
            std::thread::spawn(move || {
                loop {
                    if let Err(error) = application.write_all(&[7; 64 * 1024]) {
                        return error.kind();
                    }
                }
            })
        })
        .collect();
    cproxy.program.wait_for("memory allocation of");
    for thread in threads {
        assert_eq!(thread.join().expect("it ends"), ErrorKind::ConnectionReset);
    }
    drop((target, sproxy));
}

#[test]
fn the_second_of_two_live_clients_with_one_name_is_refused() {
    let (site, sproxy) = served();
    let first = Cproxy::with(&site, sproxy.address, "one", &site.client, &["--name", "same"]);
    let first = first.attached();
    let steady = Steady::start(first.listen);
    let args = ["--name", "same"];
    let mut second = Cproxy::with(&site, sproxy.address, "two", &site.client, &args);
    let (code, line) = second.program.end();
    assert_eq!(code, Some(3), "{line}");
    assert!(line.contains("\"same\"") && line.contains("give this one another --name"), "{line}");
    steady.goes_on();
    steady.finish();
    assert_eq!(first.carriers_taken(), 0);
    // Another key may use the name.
    let other = site.key("other");
    site.admit(&[&site.client.line, &other.line]);
    Cproxy::with(&site, sproxy.address, "three", &other, &args).attached();
}

/// Starts a client of this name on its own machine: with this id, this boot and this home folder.
fn on_machine(
    site: &LoopbackSite,
    server: &LoopbackSproxy,
    home: &Path,
    id: &str,
    boot: u32,
) -> (RunningProgram, Steady) {
    std::fs::create_dir_all(home).expect("it is ours");
    let file = |name: &str, text: String| {
        let path = home.join(format!("{name}{boot}"));
        std::fs::write(&path, text).expect("it is ours");
        path
    };
    let id = file("machine-id", id.to_owned());
    let boot_id = file("boot", format!("{boot:08}-0000-4000-8000-000000000000\n"));
    let args = ["cproxy", "--listen", "127.0.0.1:0", "--name", "same", "-F", "none", "--server"];
    let mut client = etcp(home, args);
    client.arg(server.address.to_string()).arg("--known-hosts").arg(site.known_hosts());
    client.arg("-i").arg(&site.client.path);
    // If this machine has no id, the simulated one has none either.
    let script = "if [ -e /etc/machine-id ]; then mount --bind \"$0\" /etc/machine-id; fi && \
                  mount --bind \"$1\" /proc/sys/kernel/random/boot_id && shift && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).args([id, boot_id]);
    command.arg(client.get_program()).args(client.get_args());
    for (name, value) in client.get_envs() {
        value.map(|value| command.env(name, value));
    }
    let mut program = RunningProgram::start(&format!("machine{boot}"), site.path(), command);
    let line = program.wait_for("listening on ");
    let listen = line.rsplit(' ').next().and_then(|text| text.parse().ok()).expect("an address");
    program.wait_for(ATTACHED);
    (program, Steady::start(listen))
}

#[test]
fn machines_of_one_image_and_clones_of_one_machine_live_side_by_side() {
    let test = "machines_of_one_image_and_clones_of_one_machine_live_side_by_side";
    if !etcp_testkit::skip::can_run(test, &["unshare", "mount"]) {
        return;
    }
    let cloned = "0123456789abcdef0123456789abcdef\n";
    for (id, homes) in
        [("", ["one", "two"]), ("uninitialized\n", ["one", "two"]), (cloned, ["same"; 2])]
    {
        let (site, mut sproxy) = served();
        let homes = homes.map(|name| site.path().join(name));
        let (first, first_steady) = on_machine(&site, &sproxy, &homes[0], id, 1);
        let (mut second, mut lost) = on_machine(&site, &sproxy, &homes[1], id, 2);
        first_steady.goes_on();
        lost.goes_on();
        assert_eq!(sproxy.program.count("replaced by a newer one"), 0, "{id}");
        // A client that crashed and was restarted ends only its own ghost.
        second.kill();
        let (_third, steady) = on_machine(&site, &sproxy, &homes[1], id, 3);
        sproxy.program.wait_for("replaced by a newer one of the same client");
        assert_eq!(lost.ended(), Some(ErrorKind::ConnectionReset));
        first_steady.goes_on();
        steady.finish();
        first_steady.finish();
        assert_eq!(sproxy.program.count("replaced by a newer one"), 1, "{id}");
        drop(first);
    }
}

#[test]
fn a_client_that_hangs_gives_its_name_up_and_ends_when_it_wakes() {
    let (site, sproxy) = served();
    let args = ["--name", "same"];
    let mut first = Cproxy::with(&site, sproxy.address, "one", &site.client, &args).attached();
    first.program.freeze();
    let second = measure("from the start of a client to its attach, its ghost silent", || {
        let second = Cproxy::with(&site, sproxy.address, "two", &site.client, &args).attached();
        first.program.signal(Signal::CONT);
        let (code, line) = first.program.end();
        assert_eq!(code, Some(1), "{line}");
        assert!(line.contains("--name"), "{line}");
        Steady::start(second.listen).finish();
    });
    assert!(second < Duration::from_secs(60), "it took {second:?}");
}

#[test]
fn clients_of_one_name_that_come_at_one_moment_do_not_share_it() {
    let (site, sproxy) = served();
    let args = ["--name", "same"];
    let mut clients: Vec<_> = (0..6)
        .map(|n| Cproxy::with(&site, sproxy.address, &format!("client{n}"), &site.client, &args))
        .collect();
    wait("all but one to be refused", || {
        clients.iter_mut().map(|client| client.program.is_running()).filter(|runs| *runs).count()
            == 1
    });
    for client in &mut clients {
        if client.program.is_running() {
            client.program.wait_for(ATTACHED);
            Steady::start(client.listen).finish();
        } else {
            let (code, line) = client.program.end();
            assert_eq!(code, Some(3), "{line}");
        }
    }
}

#[test]
fn a_client_that_is_asked_to_end_closes_its_tunnel_in_order() {
    let (site, mut sproxy) = served();
    for (number, signal) in [Signal::TERM, Signal::INT].into_iter().enumerate() {
        let name = format!("client{number}");
        let mut cproxy = Cproxy::start(&site, sproxy.address, &name).attached();
        let mut steady = Steady::start(cproxy.listen);
        let took = measure("from the signal to the end of client and tunnel", || {
            cproxy.program.signal(signal);
            sproxy.program.wait_for_count("closed by the client: ended as asked", number + 1);
            assert_eq!(cproxy.program.end().0, Some(0));
            sproxy.program.wait_for_count("tunnel over", number + 1);
        });
        assert!(took < Duration::from_secs(30), "it took {took:?}");
        assert_eq!(steady.ended(), Some(ErrorKind::ConnectionReset));
    }
}

#[test]
fn a_server_that_was_restarted_has_the_sessions_reset_and_new_ones_work() {
    let site = LoopbackSite::new();
    let echo = Echo::start();
    let port = HeldPort::take();
    let mut sproxy = LoopbackSproxy::at(&site, echo.address, &port);
    let mut cproxy = Cproxy::start(&site, sproxy.address, "cproxy").attached();
    let mut steady = Steady::start(cproxy.listen);
    // Data sent now are never acknowledged.
    let mut doubtful = dial(cproxy.listen);
    wait("the session to be up", || echo.accepted.load(std::sync::atomic::Ordering::Relaxed) == 2);
    sproxy.program.freeze();
    doubtful.write_all(&[7; 12_000]).expect("cproxy takes it");
    wait("cproxy to have read it", || is_read(&doubtful));
    sproxy.program.kill();
    let _sproxy = LoopbackSproxy::at(&site, echo.address, &port);
    assert_eq!(steady.ended(), Some(ErrorKind::ConnectionReset), "it does not hang");
    cproxy.program.wait_for("the server does not know the tunnel any more");
    let line = cproxy.program.wait_for("cannot be resumed and is reset; 12 kB sent are in doubt");
    assert!(line.contains("received were not delivered"), "{line}");
    cproxy.program.wait_for_count(ATTACHED, 2);
    Steady::start(cproxy.listen).finish();
}

#[test]
fn a_server_that_is_asked_to_end_tells_its_clients_and_they_wait_for_it() {
    let site = LoopbackSite::new();
    let echo = Echo::start();
    let port = HeldPort::take();
    let mut sproxy = LoopbackSproxy::at(&site, echo.address, &port);
    let mut cproxy = Cproxy::start(&site, sproxy.address, "cproxy").attached();
    let mut steady = Steady::start(cproxy.listen);
    sproxy.program.signal(Signal::TERM);
    assert_eq!(sproxy.program.end().0, Some(0));
    cproxy.program.wait_for("the server ended the tunnel: the program is shutting down");
    assert_eq!(steady.ended(), Some(ErrorKind::ConnectionReset));
    let _sproxy = LoopbackSproxy::at(&site, echo.address, &port);
    cproxy.program.wait_for_count(ATTACHED, 2);
    Steady::start(cproxy.listen).finish();
}
