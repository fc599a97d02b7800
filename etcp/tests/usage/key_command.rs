//! `--authorized-keys-command`: keys that a program prints.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::path::PathBuf;
use std::process::Command;

use etcp_testkit::loopback::operator::{control, operate};
use etcp_testkit::loopback::socket::dial;
use etcp_testkit::loopback::{Cproxy, Echo, Key, LoopbackSite, LoopbackSproxy, Steady};

/// A server that asks `cat` about keys that its file does not have.
struct CommandFixture {
    site: LoopbackSite,
    /// The file that the command prints. Without this file, the command fails.
    printed: PathBuf,
    listed: Key,
    sproxy: LoopbackSproxy,
}

/// Returns the name of the user of this process.
fn own_user() -> String {
    let said = Command::new("id").arg("-un").output().expect("every system has it");
    String::from_utf8(said.stdout).expect("it is text").trim().to_owned()
}

impl CommandFixture {
    fn new() -> Self {
        let (site, echo) = (LoopbackSite::new(), Echo::start());
        let (printed, listed) = (site.path().join("printed"), site.key("listed"));
        fs::write(&printed, format!("{}\n", listed.line)).expect("the folder is ours");
        Self::with(site, echo, printed, listed, "/usr/bin/cat {}")
    }

    /// Starts a server with a command in which `{}` stands for the file that it prints.
    fn with(site: LoopbackSite, echo: Echo, printed: PathBuf, listed: Key, command: &str) -> Self {
        let command = command.replace("{}", &printed.display().to_string());
        let user = own_user();
        let args = ["--listen", "127.0.0.1:0", "--authorized-keys-command", &command];
        let args = [&args[..], &["--authorized-keys-command-user", &user]].concat();
        let sproxy = LoopbackSproxy::with(&site, echo.address, &args, None);
        Self { site, printed, listed, sproxy }
    }

    fn client(&self, key: &Key, name: &str) -> Cproxy {
        Cproxy::with(&self.site, self.sproxy.address, name, key, &[])
    }

    fn reload(&self) {
        let socket = control(&self.site, "sproxy", &self.sproxy.program);
        let said = operate(&self.site, &["reload", "--control", &socket]);
        assert_eq!(said.code, Some(0), "{said:?}");
    }
}

#[test]
fn a_key_that_the_command_prints_is_admitted_until_it_does_not_print_it() {
    let mut all = CommandFixture::new();
    let listed = all.client(&all.listed, "listed").attached();
    let filed = all.client(&all.site.client, "filed").attached();
    let (mut lost, stays) = (Steady::start(listed.listen), Steady::start(filed.listen));
    // The next worker asks again, and ends nothing meanwhile.
    all.sproxy.program.kill_worker();
    all.sproxy.program.wait_for("another one continues");
    lost.goes_on();
    fs::write(&all.printed, "").expect("it is ours");
    all.reload();
    assert_eq!(lost.ended(), Some(ErrorKind::ConnectionReset));
    stays.goes_on();
    stays.finish();
}

#[test]
fn while_the_command_fails_tunnels_continue_and_new_ones_wait() {
    let mut all = CommandFixture::new();
    let listed = all.client(&all.listed, "listed").attached();
    let steady = Steady::start(listed.listen);
    fs::remove_file(&all.printed).expect("it is ours");
    all.reload();
    all.sproxy.program.wait_for("/usr/bin/cat: it failed");
    let other = all.site.key("other");
    let mut waiting = all.client(&other, "other");
    waiting.program.wait_for("cannot read its authorized keys");
    steady.goes_on();
    fs::write(&all.printed, format!("{}\n{}\n", all.listed.line, other.line))
        .expect("the folder is ours");
    let waiting = waiting.attached();
    Steady::start(waiting.listen).finish();
    steady.finish();
}

#[test]
fn what_a_command_admitted_outlives_a_worker_while_the_command_fails_or_hangs() {
    let (site, echo) = (LoopbackSite::new(), Echo::start());
    let (printed, listed) = (site.path().join("printed"), site.key("listed"));
    fs::write(&printed, format!("{}\n", listed.line)).expect("the folder is ours");
    let hangs = site.path().join("hangs");
    let command = format!("/bin/sh -c 'test -e {} && sleep 1000; cat {{}}'", hangs.display());
    let mut all = CommandFixture::with(site, echo, printed, listed, &command);
    let listed = all.client(&all.listed, "listed").attached();
    let steady = Steady::start(listed.listen);
    let own = control(&all.site, "cproxy", &listed.program);
    for deaths in 1..=2 {
        match deaths {
            1 => fs::remove_file(&all.printed).expect("it is ours"),
            _ => fs::write(&hangs, "").expect("the folder is ours"),
        }
        all.sproxy.program.kill_worker();
        all.sproxy.program.wait_for_count("another one continues", deaths);
        // Its session, new ones, and its next carriers need no answer.
        steady.goes_on();
        Steady::start(listed.listen).finish();
        all.reload();
        let said = operate(&all.site, &["reconnect", "--control", &own]);
        assert_eq!(said.code, Some(0), "{said:?}");
        steady.goes_on();
        Steady::start(listed.listen).finish();
    }
    // It is judged again when the command works.
    let mut lost = steady;
    fs::remove_file(&hangs).expect("it is ours");
    fs::write(&all.printed, format!("{}\n", all.site.key("other").line)).expect("it is ours");
    all.reload();
    assert_eq!(lost.ended(), Some(ErrorKind::ConnectionReset));
}

#[test]
fn a_command_of_a_group_gives_what_the_group_may_use() {
    let (site, target) = (LoopbackSite::new(), Echo::start());
    let (printed, listed) = (site.path().join("printed"), site.key("listed"));
    fs::write(&printed, format!("{}\n", listed.line)).expect("the folder is ours");
    let file = site.path().join("sproxy.toml");
    let text = format!(
        "listen = '127.0.0.1:0'\nidentity = '{}'\nauthorized-keys-command-user = '{}'\n\
         [group.a]\ncommand = '/usr/bin/cat {}'\npermit = '{}'\n",
        site.server_key().display(),
        own_user(),
        printed.display(),
        target.address
    );
    fs::write(&file, text).expect("the folder is ours");
    let sproxy = LoopbackSproxy::of_file(&site, file.to_str().expect("text"));
    let forward = format!("127.0.0.1:0:{}", target.address);
    let args = ["-L", &forward];
    let cproxy = Cproxy::with(&site, sproxy.address, "listed", &listed, &args).attached();
    let mut stream = dial(cproxy.second_listener());
    let mut byte = [0];
    stream.write_all(b"x").expect("it is connected");
    stream.read_exact(&mut byte).expect("the target answers");
}

#[test]
fn a_command_that_others_could_change_or_that_nobody_runs_is_refused() {
    let site = LoopbackSite::new();
    let file = site.path().join("s.toml");
    let user = format!("authorized-keys-command-user = '{}'\n", own_user());
    let script = site.path().join("script");
    fs::write(&script, "#!/bin/sh\n").expect("the folder is ours");
    // A script of root is in a folder that everybody may write to, and one of another user does not
    // belong to root.
    let untrusted = if own_user() == "root" { "write to" } else { "belongs to user" };
    for (lines, why) in [
        ("authorized-keys-command = '/usr/bin/cat'\n".to_owned(), "--authorized-keys-command-user"),
        (format!("{user}authorized-keys-command = 'cat'\n"), "write the absolute path"),
        (format!("{user}authorized-keys-command = '/usr/bin/cat %h'\n"), "%h is unknown"),
        (
            "authorized-keys-command = '/bin/cat'\nauthorized-keys-command-user = 'no one'\n"
                .to_owned(),
            "there is no user no one",
        ),
        (format!("{user}authorized-keys-command = '{}'\n", script.display()), untrusted),
        (format!("{user}authorized-keys-command = '/usr'\n"), "s.toml:2:1: /usr is not a program"),
        (
            format!("{user}authorized-keys-command = '/etc/passwd'\n"),
            "s.toml:2:1: /etc/passwd may not be executed by user",
        ),
        (format!("{user}[group.a]\ncommand = '/nowhere'\n"), "s.toml:3:1: /nowhere does not exist"),
    ] {
        fs::write(&file, &lines).expect("the folder is ours");
        let said = operate(&site, &["check", file.to_str().expect("text")]);
        assert!(said.code == Some(1) && said.err.contains(why), "{lines}: {said:?}");
    }
}

#[test]
fn a_server_warns_of_commands_that_cannot_be_run_and_a_reload_names_their_places() {
    let site = LoopbackSite::new();
    let file = site.path().join("sproxy.toml");
    let head = format!(
        "listen = '127.0.0.1:0'\nidentity = '{}'\nauthorized-keys = '{}'\n\
         authorized-keys-command-user = '{}'\n",
        site.server_key().display(),
        site.authorized_keys().display(),
        own_user(),
    );
    let write = |lines: &str| fs::write(&file, head.clone() + lines).expect("the folder is ours");
    write("authorized-keys-command = '/nowhere'\n[group.a]\ncommand = '/etc/passwd'\n");
    let mut sproxy = LoopbackSproxy::of_file(&site, file.to_str().expect("text"));
    sproxy.program.wait_for("authorized-keys-command: /nowhere does not exist");
    sproxy.program.wait_for("group.a.command: /etc/passwd may not be executed");
    // The keys of the file are admitted all the same.
    drop(Cproxy::start(&site, sproxy.address, "cproxy").attached());
    write("[group.a]\ncommand = '/elsewhere'\n");
    let socket = control(&site, "sproxy", &sproxy.program);
    let said = operate(&site, &["reload", "--control", &socket]);
    let fault = "sproxy.toml:6:1: /elsewhere does not exist";
    assert!(said.code == Some(1) && said.err.contains(fault), "{said:?}");
}
