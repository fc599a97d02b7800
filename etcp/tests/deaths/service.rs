//! A proxy as a service: readiness, and the watchdog.

use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use etcp_testkit::HeldPort;
use etcp_testkit::loopback::program::{RunningProgram, etcp, wait};
use etcp_testkit::loopback::{Cproxy, Echo, LoopbackSite, Steady};
use etcp_testkit::process::kill_raw;
use etcp_testkit::skip;
use rustix::net::sockopt::{set_socket_passcred, set_socket_timeout};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::Signal;

use super::{kill_worker, next_worker};

/// Receives a message: its text, and the process that sent it.
fn receive(socket: &UnixDatagram) -> (String, u32) {
    let mut text = [0; 100];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let buffers = &mut [IoSliceMut::new(&mut text)];
    let received = recvmsg(socket, buffers, &mut ancillary, RecvFlags::empty());
    let length = received.expect("somebody says something").bytes;
    let sender = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmCredentials(from) => Some(from.pid),
        _ => None,
    });
    let sender = sender.expect("the kernel tells it").as_raw_nonzero().get().unsigned_abs();
    (String::from_utf8_lossy(&text[..length]).into_owned(), sender)
}

/// A service manager, and an sproxy that reports to it.
struct Managed {
    manager: UnixDatagram,
    site: LoopbackSite,
    listen: String,
    _port: HeldPort,
}

impl Managed {
    fn listen() -> Self {
        let site = LoopbackSite::new();
        let manager = UnixDatagram::bind(site.path().join("notify")).expect("the folder is ours");
        set_socket_passcred(&manager, true).expect("an option is set");
        let patience = Some(etcp_testkit::loopback::PATIENCE);
        set_socket_timeout(&manager, rustix::net::sockopt::Timeout::Recv, patience)
            .expect("an option is set");
        let port = HeldPort::take();
        let listen = format!("127.0.0.1:{}", port.number());
        Self { manager, site, listen, _port: port }
    }

    fn start(&self, flags: &[&str], environment: &[(&str, &str)]) -> RunningProgram {
        let target = Echo::start().address.to_string();
        let site = &self.site;
        let mut command = etcp(site.path(), ["sproxy", "--listen", &self.listen, "--target"]);
        command.arg(target).arg("--identity").arg(site.server_key());
        command.arg("--authorized-keys").arg(site.authorized_keys()).args(flags);
        command.env("NOTIFY_SOCKET", site.path().join("notify")).envs(environment.iter().copied());
        RunningProgram::start("sproxy", site.path(), command)
    }

    /// Waits until the process `sender` sends this notification. Returns its earlier notifications.
    fn wait_for(&self, text: &str, sender: u32) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            let (said, from) = receive(&self.manager);
            assert_eq!(from, sender, "{said}");
            if said == text {
                return before;
            }
            before.push(said);
        }
    }
}

#[test]
fn a_worker_that_hangs_is_replaced_before_the_watchdog_ends_the_service() {
    let managed = Managed::listen();
    let program = managed.start(&[], &[("WATCHDOG_USEC", "4000000")]);
    let (main, worker) = (program.id(), || program.worker());
    assert!(managed.wait_for("READY=1", main).is_empty());
    managed.wait_for("WATCHDOG=1", main);
    let first = worker();
    kill_raw(first, Signal::STOP).expect("it runs");
    wait("the worker is replaced", || program.count("hangs: another one continues") > 0);
    managed.wait_for("READY=1", main);
    managed.wait_for("WATCHDOG=1", main);
    assert_ne!(worker(), first);
    TcpStream::connect(&managed.listen).expect("it listens");
}

#[test]
fn the_watchdog_hears_the_program_that_has_taken_over() {
    let managed = Managed::listen();
    // A worker of a busy machine must not seem to hang.
    let watchdog = [("WATCHDOG_USEC", "4000000")];
    let program = managed.start(&[], &watchdog);
    managed.wait_for("WATCHDOG=1", program.id());
    program.signal(Signal::USR2);
    wait("another process says it", || receive(&managed.manager).1 != program.id());
    assert_eq!(receive(&managed.manager).0, "WATCHDOG=1");
}

#[test]
fn the_watchdog_hears_a_proxy_of_one_process_and_nothing_if_it_is_another_programs() {
    let managed = Managed::listen();
    let program = managed.start(&["--no-holder"], &[("WATCHDOG_USEC", "1000000")]);
    managed.wait_for("WATCHDOG=1", program.id());
    drop(program);
    let managed = Managed::listen();
    let watchdog = [("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "1")];
    let mut program = managed.start(&[], &watchdog);
    managed.wait_for("READY=1", program.id());
    program.signal(Signal::TERM);
    program.end();
    managed.manager.set_nonblocking(true).expect("an option is set");
    assert!(managed.manager.recv(&mut [0; 100]).is_err(), "nothing else was said");
}

#[test]
fn the_main_process_tells_the_service_manager_that_the_proxy_listens() {
    for flags in [&[][..], &["--no-holder"]] {
        let managed = Managed::listen();
        let listen = &managed.listen;
        TcpStream::connect(listen).expect_err("nobody listens yet");
        let program = managed.start(flags, &[]);
        let (said, sender) = receive(&managed.manager);
        assert_eq!((said.as_str(), sender), ("READY=1", program.id()));
        TcpStream::connect(listen).expect("it listens by then");
        assert_eq!(program.count(&format!("listening on {listen}")), 1, "and has said so");
    }
}

impl Managed {
    /// Returns a command that listens at these addresses, with names for them, and becomes an sproxy
    /// when somebody connects.
    fn activated(&self, listen: &[&str], names: Option<&str>) -> Command {
        let site = &self.site;
        let inner = etcp(site.path(), ["sproxy", "--listen", "192.0.2.1:1", "--target"]);
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "systemd-socket-activate"]);
        command.args(listen.iter().map(|at| format!("--listen={at}")));
        command.args(names.map(|names| format!("--fdname={names}")));
        command.args(["-E", "HOME", "-E", "ETCP_TRACEABLE=1"]);
        command.arg(inner.get_program()).args(inner.get_args());
        command.arg(Echo::start().address.to_string()).arg("--identity").arg(site.server_key());
        command.arg("--authorized-keys").arg(site.authorized_keys()).env("HOME", site.path());
        command
    }
}

/// Kills the worker, replaces the program, and kills the worker again; runs `after` each time, with the
/// number of changes before.
fn change_processes(sproxy: &RunningProgram, after: impl Fn(usize)) {
    for (number, is_upgrade) in [false, true, false].into_iter().enumerate() {
        let before = sproxy.worker();
        if is_upgrade {
            sproxy.signal(Signal::USR2);
        } else {
            kill_worker(sproxy);
        }
        next_worker(sproxy, before);
        after(number);
    }
}

#[test]
fn a_socket_of_the_service_manager_serves_before_and_after_deaths_and_upgrades() {
    if !skip::can_run("deaths::service", &["systemd-socket-activate"]) {
        return;
    }
    let managed = Managed::listen();
    let (site, listen) = (&managed.site, &managed.listen);
    let command = managed.activated(&[listen], None);
    let sproxy = RunningProgram::start("sproxy", site.path(), command);
    wait("the manager to listen", || TcpStream::connect(listen).is_ok());
    let server = listen.parse().expect("an address");
    let cproxy = Cproxy::start(site, server, "cproxy").attached();
    assert_eq!(sproxy.count(&format!("listening on {listen}")), 1, "{}", sproxy.log());
    let steady = Steady::start(cproxy.listen);
    change_processes(&sproxy, |number| {
        wait("the client to be attached again", || cproxy.attached_again() > number);
        steady.goes_on();
    });
    // New carriers arrive at the same socket.
    let _another = Cproxy::start(site, server, "another").attached();
    steady.finish();
}

/// Returns the answer to a health check.
fn health(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map(|_| answer)
}

#[test]
fn a_socket_with_the_name_metrics_serves_metrics_and_no_carriers() {
    if !skip::can_run("deaths::service (metrics)", &["systemd-socket-activate"]) {
        return;
    }
    let (managed, port) = (Managed::listen(), HeldPort::take());
    let (site, listen) = (&managed.site, &managed.listen);
    let metrics = format!("127.0.0.1:{}", port.number());
    let command = managed.activated(&[listen, &metrics], Some("etcp-sproxy.socket:metrics"));
    let sproxy = RunningProgram::start("sproxy", site.path(), command);
    wait("the manager to listen", || TcpStream::connect(&metrics).is_ok());
    let is_healthy = || health(&metrics).is_ok_and(|answer| answer.contains(" 200 "));
    wait("an answer", is_healthy);
    let log = sproxy.log();
    assert_eq!(sproxy.count(&format!("metrics on {metrics}")), 1, "{log}");
    assert_eq!(sproxy.count(&format!("listening on {listen}")), 1, "{log}");
    assert_eq!(sproxy.count("listening on "), 1, "{log}");
    // A reload leaves it as it is.
    sproxy.signal(Signal::HUP);
    change_processes(&sproxy, |_| wait("an answer of the next process", is_healthy));
    let server = listen.parse().expect("an address");
    let cproxy = Cproxy::start(site, server, "cproxy").attached();
    Steady::start(cproxy.listen).finish();
}
