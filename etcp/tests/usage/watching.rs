//! `etcp status`: on a terminal, until a key ends it, and for root.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use etcp_testkit::loopback::operator::{control, operate};
use etcp_testkit::loopback::{Cproxy, Echo, LoopbackSite, LoopbackSproxy, PATIENCE};
use etcp_testkit::terminal::Terminal;
use etcp_testkit::{Launch, RunAs, TestFolder, skip};

/// The sequences around the other screen of a terminal.
const ENTERED: &str = "\x1b[?1049h";
const LEFT: &str = "\x1b[?1049l";

/// Prints the settings of the terminal, in a form that can be compared.
const MODES: &str = "echo \"modes $(stty -g) .\"";

/// Returns a shell on a terminal, for commands about a proxy, and its prompt's text.
fn shell(site: &LoopbackSite) -> Terminal {
    // A shell writes its prompts to stderr.
    let bash = "exec bash --norc --noprofile -i 2>&1";
    let launch = Launch::new("shell", "sh").args(["-c", bash]);
    let launch = launch.env("HOME", site.path()).env("PS1", "ready> ").env("TERM", "xterm");
    let mut shell = Terminal::start_here(launch.user(RunAs::Root), site.path());
    shell.line("bind 'set enable-bracketed-paste off'; set -m; PS1='ready> '");
    shell.expect("ready> ", PATIENCE);
    shell
}

/// Returns the settings of the terminal as the shell sees them.
fn modes(shell: &mut Terminal) -> String {
    let before = shell.shown().len();
    shell.line(MODES);
    shell.expect("modes ", PATIENCE);
    // The first match is the echo of the command.
    shell.expect("\nmodes ", PATIENCE);
    shell.expect(" .", PATIENCE);
    let shown = shell.shown()[before..].to_owned();
    let line = shown.lines().rfind(|line| line.starts_with("modes ")).expect("it was seen");
    line.trim().to_owned()
}

#[test]
fn a_watch_on_a_terminal_leaves_it_as_it_was_by_q_and_by_suspending() {
    if !skip::can_find("usage::watching", &["bash", "stty"]) {
        return;
    }
    let site = LoopbackSite::new();
    let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    let mut shell = shell(&site);
    let before = modes(&mut shell);
    let watch = format!(
        "{} status --watch --control {}",
        env!("CARGO_BIN_EXE_etcp"),
        control(&site, "sproxy", &sproxy.program)
    );
    shell.line(&watch);
    for text in [ENTERED, "sproxy ", "q: end"] {
        shell.expect(text, PATIENCE);
    }
    shell.send("\x1a");
    for text in [LEFT, "Stopped", "ready> "] {
        shell.expect(text, PATIENCE);
    }
    assert_eq!(modes(&mut shell), before, "suspended");
    shell.line("fg");
    for text in [ENTERED, "sproxy ", "q: end"] {
        shell.expect(text, PATIENCE);
    }
    shell.send("q");
    for text in [LEFT, "ready> "] {
        shell.expect(text, PATIENCE);
    }
    assert_eq!(modes(&mut shell), before, "after q");
    shell.line("echo code $?; jobs; echo end of jobs");
    shell.expect("\nend of jobs", PATIENCE);
    // A signal ends it in the same way.
    shell.line(&watch);
    shell.expect("q: end", PATIENCE);
    shell.send("\x03");
    for text in [LEFT, "ready> "] {
        shell.expect(text, PATIENCE);
    }
    assert_eq!(modes(&mut shell), before, "after ^C");
    shell.line("exit");
}

/// Returns a number of an ordinary user who has no other programs.
const OTHER: u32 = 64_321;

#[test]
fn root_sees_the_programs_of_all_users_and_others_only_their_own() {
    if !skip::can_run("usage::watching (all users)", &["setpriv"]) {
        return;
    }
    let site = LoopbackSite::new();
    let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    let cproxy = Cproxy::start(&site, sproxy.address, "cproxy").attached();
    // An ordinary user's server, in a folder that root's programs do not look into.
    let folder = TestFolder::new();
    let program = folder.program("etcp", env!("CARGO_BIN_EXE_etcp").as_ref());
    let home = folder.join("home");
    std::fs::create_dir(&home).expect("the folder is ours");
    std::os::unix::fs::chown(&home, Some(OTHER), Some(OTHER)).expect("this is root");
    let as_other = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--reuid", &OTHER.to_string(), "--regid"]);
        command.args([&OTHER.to_string(), "--clear-groups", "--inh-caps=-all", "--"]);
        command.arg(&program).args(args).env_clear().env("HOME", &home).current_dir(&home);
        command
    };
    let mut other = as_other(&["sproxy", "--listen", "127.0.0.1:0", "--strict-modes", "no"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("setpriv runs");
    let log = BufReader::new(other.stderr.take().expect("it is piped"));
    let mut lines = log.lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("listening on")), "it listens");
    let process = other.id();

    let said = operate(&site, &["status"]);
    let shown = format!("sproxy {process} of {OTHER}: listening on");
    assert!(said.out.contains(&shown), "{said:?}");
    for own in [sproxy.program.id(), cproxy.program.id()] {
        assert!(said.out.contains(&format!("proxy {own}: ")), "{said:?}");
    }
    let said = operate(&site, &["status", "--json"]);
    let is_named = format!("\"user\":\"{OTHER}\",\"process\":{process},");
    assert!(said.out.contains(&is_named), "{said:?}");

    let own = as_other(&["status"]).output().expect("setpriv runs");
    let own = String::from_utf8(own.stdout).expect("text");
    assert!(own.starts_with(&format!("sproxy {process}: listening on")), "{own}");
    assert!(!own.contains(&sproxy.program.id().to_string()), "{own}");
    other.kill().expect("it runs");
    other.wait().expect("it is ours");
}
