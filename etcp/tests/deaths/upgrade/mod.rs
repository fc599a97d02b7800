//! The program of a running proxy is replaced.

mod failed;
mod prepared;
mod taken;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcp_testkit::checked::{Rate, accept};
use etcp_testkit::loopback::operator::{OperatorOutput, control, operate, status};
use etcp_testkit::loopback::program::{RunningProgram, wait};
use etcp_testkit::loopback::socket::dial;
use etcp_testkit::loopback::{Cproxy, LoopbackSite, LoopbackSproxy};
use etcp_testkit::pair::etcp;
use etcp_testkit::streams::Streams;
use etcp_testkit::tell;
use etcp_testkit::worker::is_there;
use rustix::process::Signal;

/// A pair of proxies, and checked streams in both directions of a session.
pub(crate) struct StreamingProxies {
    streams: Option<Streams>,
    target: TcpListener,
    cproxy: Cproxy,
    sproxy: LoopbackSproxy,
    site: LoopbackSite,
}

impl StreamingProxies {
    fn new() -> Self {
        Self::with(&[])
    }

    /// `args` are further arguments of the server.
    fn with(args: &[&str]) -> Self {
        let site = LoopbackSite::new();
        let target = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        let args = [&["--listen", "127.0.0.1:0"], args].concat();
        let address = target.local_addr().expect("it listens");
        let sproxy = LoopbackSproxy::with(&site, address, &args, None);
        let cproxy = Cproxy::start(&site, sproxy.address, "cproxy").attached();
        let mut proxies = Self { streams: None, target, cproxy, sproxy, site };
        let [application, target] = proxies.session();
        proxies.streams = Some(Streams::start(application, target, Rate::BRISK));
        proxies.go_on("the start");
        proxies
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

    /// Waits until no upgrade is under way, with which the next one would be refused.
    #[track_caller]
    fn upgrade_is_over(&self, role: &str) {
        wait("the upgrade to be over", || self.upgrade(role, &["--check"]).code == Some(0));
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
