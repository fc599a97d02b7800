//! Signals and limits: those that a program has when it starts, those that it passes to its
//! children, and how it ends by one.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use etcp_testkit::loopback::operator::{folder, operate};
use etcp_testkit::loopback::program::{RunningProgram, etcp, wait};
use etcp_testkit::loopback::{
    ATTACHED, Cproxy, Echo, LoopbackSite, LoopbackSproxy, Steady, carriers_taken,
};
use etcp_testkit::process::DEFAULT_SIGNALS;
use etcp_testkit::skip;
use etcp_testkit::wait::output;
use rustix::process::Signal;

use super::surroundings::{address, after, cproxy, sproxy};

/// Returns a field of the process's status (proc_pid_status(5)).
fn field(program: &RunningProgram, name: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.worker()));
    let status = status.expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.expect("it has the field").trim_start_matches(':').trim().to_owned()
}

fn mask(program: &RunningProgram, name: &str) -> u64 {
    u64::from_str_radix(&field(program, name), 16).expect("a mask")
}

fn bits(signals: &[Signal]) -> u64 {
    signals.iter().map(|signal| 1 << (signal.as_raw() - 1)).sum()
}

/// SIGHUP, SIGQUIT and SIGUSR1 to proxies that have no terminal, while sessions run.
#[test]
fn a_hangup_without_a_terminal_rereads_files_and_ends_nothing() {
    let site = LoopbackSite::new();
    let mut sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    let mut cproxy = Cproxy::start(&site, sproxy.address, "cproxy").attached();
    let steady = Steady::start(cproxy.listen);
    for times in 1..=3 {
        sproxy.program.signal(Signal::HUP);
        cproxy.program.signal(Signal::HUP);
        sproxy.program.wait_for_count("the authorized keys are read again", times);
        cproxy.program.wait_for_count("keys and known_hosts are read again", times);
    }
    // The signal is meant for clients, and ends no server of the same name.
    sproxy.program.signal(Signal::USR1);
    steady.goes_on();
    steady.finish();
    assert_eq!(cproxy.carriers_taken(), 0, "{}", cproxy.program.log());
    for program in [&mut cproxy.program, &mut sproxy.program] {
        program.signal(Signal::QUIT);
        assert_eq!(program.end().0, Some(0), "{}", program.log());
    }
}

#[test]
fn a_proxy_that_a_signal_ends_has_done_what_it_was_asked() {
    let site = LoopbackSite::new();
    for signal in [Signal::INT, Signal::TERM, Signal::QUIT] {
        let mut sproxy = LoopbackSproxy::start(&site, Echo::start().address);
        let mut cproxy = Cproxy::start(&site, sproxy.address, "cproxy").attached();
        for program in [&mut cproxy.program, &mut sproxy.program] {
            program.signal(signal);
            assert_eq!(program.end_of().code(), Some(0), "{signal:?}: {}", program.log());
        }
    }
}

#[test]
fn a_key_of_the_server_that_was_replaced_is_reported_at_a_hang_up_and_stays_until_a_restart() {
    let site = LoopbackSite::new();
    let mut sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    let mut cproxy = Cproxy::start(&site, sproxy.address, "cproxy").attached();
    let (own, aside) = (site.server_key(), site.path().join("aside"));
    let hang_up = |sproxy: &mut LoopbackSproxy, times| {
        sproxy.program.signal(Signal::HUP);
        sproxy.program.wait_for_count("the authorized keys are read again", times);
    };
    std::fs::rename(&own, &aside).expect("it is ours");
    hang_up(&mut sproxy, 1);
    sproxy.program.wait_for("the server key cannot be read again: ");
    std::fs::copy(&site.client.path, &own).expect("it is ours");
    hang_up(&mut sproxy, 2);
    let line = sproxy.program.wait_for("has another server key now");
    assert!(line.contains(&site.client.identity.public_key().fingerprint()), "{line}");
    // Clients come back as before.
    cproxy.program.signal(Signal::USR1);
    cproxy.program.wait_for("attached again");
    std::fs::rename(&aside, &own).expect("it is ours");
    hang_up(&mut sproxy, 3);
    let steady = Steady::start(cproxy.listen);
    steady.goes_on();
    steady.finish();
    assert_eq!(sproxy.program.count("until a restart"), 2, "{}", sproxy.program.log());
}

#[test]
fn a_hangup_of_the_terminal_ends_a_client_as_it_ends_ssh_and_not_a_server() {
    if !skip::can_find("usage::signals (terminal)", &["script"]) {
        return;
    }
    let site = LoopbackSite::new();
    let echo = Echo::start();
    // script(1) runs a command on a terminal of its own.
    let on_terminal = |command: &Command| {
        let words = command.get_args().skip_while(|word| *word != "setsid").skip(1);
        let words: Vec<_> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        let mut script = Command::new("script");
        let line = format!("exec {} {} 2>&3", DEFAULT_SIGNALS.join(" "), words.join(" "));
        script.args(["-qec", &line, "/dev/null"]).env("SHELL", "/bin/sh");
        let mut shell = after("exec 3>&2", &script);
        shell.env("HOME", site.path()).env_remove("XDG_RUNTIME_DIR").env_remove("XDG_STATE_HOME");
        shell
    };
    let mut server =
        RunningProgram::start("sproxy", site.path(), on_terminal(&sproxy(&site, echo.address)));
    let there = address(&mut server);
    let mut client =
        RunningProgram::start("cproxy", site.path(), on_terminal(&cproxy(&site, there, &[])));
    client.wait_for(ATTACHED);
    client.kill();
    server.wait_for("closed by the client: ended as asked");
    // Its terminal closes; the server on it continues.
    server.signal(Signal::KILL);
    server.end_of();
    let mut next = Cproxy::start(&site, there, "next").attached();
    let steady = Steady::start(next.listen);
    steady.goes_on();
    steady.finish();
    // No other signal ends it any more.
    let sockets = std::fs::read_dir(folder(&site)).expect("it is there").flatten();
    let name = |entry: std::fs::DirEntry| entry.file_name().into_string().ok();
    let name =
        sockets.filter_map(name).find(|name| name.starts_with("sproxy") && name.ends_with("sock"));
    let path = folder(&site).join(name.expect("it has a socket"));
    let said = operate(&site, &["drain", "--now", "--wait", "--control", path.to_str().unwrap()]);
    assert_eq!(said.code, Some(0), "{said:?}");
    next.program.signal(Signal::TERM);
    assert_eq!(next.program.end().0, Some(0));
}

#[test]
fn signals_that_were_ignored_at_the_start_stay_ignored() {
    let ignored =
        [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1, Signal::CHILD];
    let before = "trap '' HUP INT QUIT TERM USR1 TSTP CHLD";
    let site = LoopbackSite::new();
    let echo = Echo::start();
    let mut server =
        RunningProgram::start("sproxy", site.path(), after(before, &sproxy(&site, echo.address)));
    let there = address(&mut server);
    let mut client =
        RunningProgram::start("cproxy", site.path(), after(before, &cproxy(&site, there, &[])));
    let listen = address(&mut client);
    client.wait_for(ATTACHED);
    let steady = Steady::start(listen);
    for program in [&mut server, &mut client] {
        // Without SIGCHLD no process could wait for a child.
        let all = bits(&ignored[..5]) | bits(&[Signal::TSTP]);
        assert_eq!(mask(program, "SigIgn") & all, all);
        assert_eq!(mask(program, "SigCgt") & all, 0);
        ignored.iter().for_each(|signal| program.signal(*signal));
    }
    steady.goes_on();
    steady.finish();
    assert!(server.is_running() && client.is_running());
    assert_eq!(carriers_taken(&client.log()), 0, "{}", client.log());
}

/// The output of `SHOW`.
const SHOW: &str = "ulimit -Sn; ulimit -Sc; grep -E 'Sig(Ign|Blk):' /proc/self/status";

/// Returns the numbers of descriptors, the core size, and the ignored signals in its lines.
fn shown(text: &str) -> (&str, &str, u64) {
    let mut lines = text.lines();
    let (descriptors, core) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let ignored = lines.find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    (descriptors, core, ignored.unwrap_or_default())
}

#[test]
fn programs_that_are_started_have_the_limits_and_signals_of_the_caller() {
    let site = LoopbackSite::new();
    let server = LoopbackSproxy::start(&site, Echo::start().address);
    let (file, done) = (site.path().join("shown"), site.path().join("done"));
    let hook = format!("{{ {SHOW}; }} >{}; : >{}", file.display(), done.display());
    let before = "ulimit -Sn 200; trap '' PIPE USR2 TERM CHLD";
    let command = cproxy(&site, server.address, &["--on-event", &hook]);
    let mut client = RunningProgram::start("cproxy", site.path(), after(before, &command));
    let ignored = bits(&[Signal::PIPE, Signal::USR2, Signal::TERM]);
    wait("the hook", || done.exists());
    let text = std::fs::read_to_string(&file).expect("it is there");
    assert_eq!((shown(&text).0, shown(&text).2 & ignored), ("200", ignored), "{text}");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", client.id()));
    let limits = limits.expect("it runs");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    assert!(!line.contains(" 200 "), "the proxy itself has more: {line}");
    assert!(client.is_running() && client.count("--on-event") == 0, "{}", client.log());

    // The same applies to ssh, in whose place this program runs.
    let folder = site.path().join("bin");
    std::fs::create_dir(&folder).expect("it is ours");
    let ssh = folder.join("ssh");
    std::fs::write(&ssh, format!("#!/bin/sh\n{SHOW}\n")).expect("it is ours");
    std::fs::set_permissions(&ssh, PermissionsExt::from_mode(0o755)).expect("it is ours");
    let mut command = etcp(site.path(), ["ssh", "-V"]);
    command.env("PATH", format!("{}:/usr/bin:/bin", folder.display()));
    let output = output(after(before, &command).stdout(Stdio::piped()));
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!((shown(&text).0, shown(&text).2 & ignored), ("200", ignored), "{text}");
    // A core dump is written if the user's limit allows it.
    let core = after("ulimit -Sc $(ulimit -Hc)", &command).stdout(Stdio::piped()).output();
    let most = Command::new("sh").args(["-c", "ulimit -Hc"]).output().expect("sh runs");
    let text = String::from_utf8(core.expect("sh runs").stdout).expect("text");
    assert_eq!(shown(&text).1, String::from_utf8_lossy(&most.stdout).trim(), "{text}");
}
