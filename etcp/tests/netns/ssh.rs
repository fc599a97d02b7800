//! `etcp ssh` to a stock sshd: no sproxy runs there, nothing is set up, and ssh survives the
//! client's moves.

use etcp_testkit::ssh_site::{PROGRAMS, SshSite};
use etcp_testkit::wait::{PATIENCE, until};
use etcp_testkit::world::CARRIER_PORT;
use etcp_testkit::{Launch, NetworkFault, RunAs, skip};
use rustix::process::Signal;

const PORT: u16 = 2222;

/// The sproxy listens where the faults of the tests strike.
const ON_CARRIER_PORT: [&str; 2] = ["--remote-port", "6200"];

#[test]
fn a_shell_on_a_terminal_goes_on_while_the_client_moves_and_tells_its_exit_code() {
    if !skip::can_run("netns::ssh", &PROGRAMS) {
        return;
    }
    assert_eq!(ON_CARRIER_PORT[1], CARRIER_PORT.to_string());
    let site = SshSite::new(PORT);
    let launch = site.ssh("ssh", &ON_CARRIER_PORT).args(["-tt", "server"]);
    let mut shell = site.shell(launch);
    site.assert_tidy();
    for fault in NetworkFault::CYCLE {
        fault.survive(&site.world);
        shell.answer(PATIENCE);
    }
    let log = shell.end();
    assert!(!log.contains("terminal") && !log.contains("etcp:"), "nothing to say: {log}");
    site.wait_until_gone();
}

#[test]
fn output_of_a_login_is_no_obstacle() {
    if !skip::can_run("netns::ssh", &PROGRAMS) {
        return;
    }
    let site = SshSite::new(PORT);
    let noise = "echo 'Welcome to ETERNALTCP!'; seq 2000; echo -n 'no end of line: '\n";
    site.folder.file("server-home/.bashrc", noise, RunAs::Nobody);
    let plain = site.client(Launch::new("plain", "ssh"));
    let plain = plain.arg("-F").arg(site.folder.join("ssh_config"));
    let plain = site.finish("plain", plain.args(["server", "echo hello; echo oops >&2"]));
    assert!(plain.output.ends_with("no end of line: hello\n"), "{plain:?}");
    let ran = site.run("noisy", &[], "echo hello; echo oops >&2");
    ran.wrote(&plain.output);
    assert!(ran.log.contains("oops"), "{}", ran.log);
    site.assert_tidy();
    site.wait_until_gone();
}

#[test]
fn etcp_is_found_or_named_or_copied_or_reported_missing() {
    if !skip::can_run("netns::ssh", &PROGRAMS) {
        return;
    }
    let site = SshSite::without_etcp(PORT);
    let missing = "etcp is not installed at server: give --copy, or --remote-etcp PATH";
    site.run("missing", &[], "true").failed(1, missing);
    let nowhere = ["--remote-etcp", "/nowhere/etcp"];
    site.run("nowhere", &nowhere, "true").failed(1, "there is no program /nowhere/etcp at server");
    // Another program with this name.
    site.run("other", &["--remote-etcp", "/bin/true"], "true")
        .failed(1, "etcp did not start at server");
    site.assert_tidy();

    site.folder.program("server-home/my etcp", site.program());
    site.run("named", &["--remote-etcp", "~/my etcp"], "echo named").wrote("named\n");

    let copied = site.run("copied", &["--copy"], "echo copied");
    copied.wrote("copied\n");
    assert!(copied.log.contains("copying etcp to server"), "{}", copied.log);
    let again = site.run("again", &["--copy"], "echo again");
    again.wrote("again\n");
    assert!(!again.log.contains("copying"), "it is there: {}", again.log);
    site.run("found", &[], "echo found").wrote("found\n");
    site.assert_tidy();
    site.wait_until_gone();
}

#[test]
fn the_program_for_the_machine_of_the_server_is_copied_and_three_copies_are_kept() {
    if !skip::can_run("netns::ssh", &PROGRAMS) {
        return;
    }
    let site = SshSite::without_etcp(PORT);
    let machine = std::env::consts::ARCH;
    let installed = format!("lib/etcp/{machine}");
    for name in ["bin", "lib", "lib/etcp", &installed] {
        site.folder.folder(name, RunAs::Nobody);
    }
    let client = site.folder.program("bin/etcp", site.program());
    let run = |name: &str, options: &[&str], command: &str| {
        let launch = site.client(Launch::new(name, &client)).arg("ssh").args(options).arg("-F");
        let launch = launch.arg(site.folder.join("ssh_config"));
        site.finish(name, launch.args(["server", command]))
    };
    // The server seems to be of another kind.
    let uname = "#!/bin/sh\ncase $1 in -sm) echo Linux loongarch64;; -m) echo loongarch64;; esac\n";
    let uname = site.folder.script("server-bin/uname", uname);
    run("none", &["--copy"], "true").failed(1, "server runs Linux loongarch64");
    let missing = site.folder.join("lib/etcp/loongarch64/etcp");
    run("told", &["--copy"], "true").failed(1, &format!("at {}", missing.display()));
    std::fs::remove_file(uname).expect("it is ours");

    let list = "ls ~/.cache/eternaltcp";
    let mut known = Vec::new();
    for number in 0..5 {
        // Each version has another digest.
        let name = format!("{installed}/etcp-{number}");
        let program = site.folder.program(&name, site.program());
        let appended = format!(
            "printf {number} >>{0} && mv {0} {1}/etcp",
            program.display(),
            site.folder.join(&installed).display()
        );
        let status = std::process::Command::new("sh").args(["-c", &appended]).status();
        assert!(status.is_ok_and(|status| status.success()), "{appended}");
        let copied = run(&format!("copied-{number}"), &["--copy"], list);
        let copies: Vec<_> = copied.output.lines().map(str::to_owned).collect();
        assert_eq!(copies.len(), 3.min(number + 1), "{copied:?}");
        let new: Vec<_> = copies.iter().filter(|copy| !known.contains(*copy)).cloned().collect();
        assert!(new.len() == 1 && new[0].contains(machine), "{copied:?}");
        known.extend(new);
    }
    run("found", &[], "echo found").wrote("found\n");
    site.assert_tidy();
    site.wait_until_gone();
}

#[test]
fn a_client_that_is_killed_is_waited_for_and_then_given_up() {
    if !skip::can_run("netns::ssh", &PROGRAMS) {
        return;
    }
    let site = SshSite::new(PORT);
    let launch =
        site.ssh("ssh", &["--keep-detached", "6s"]).args(["server", "echo begun; sleep 60"]);
    let mut ssh = launch.start(&site.world.client, &site.folder);
    ssh.wait_for("begun", PATIENCE);
    let id = ssh.id().cast_signed();
    let group = rustix::process::Pid::from_raw(id).expect("an id");
    // ssh, and beside it the client's end of the tunnel.
    rustix::process::kill_process_group(group, Signal::KILL).expect("it runs");
    ssh.wait(PATIENCE);
    assert_eq!(site.sproxies().len(), 1, "it waits for its client");
    site.wait_until_gone();
}

#[test]
fn git_rsync_and_scp_use_it_as_their_ssh() {
    if !skip::can_run("netns::ssh", &[PROGRAMS[0], PROGRAMS[1], "git", "rsync", "scp"]) {
        return;
    }
    let site = SshSite::new(PORT);
    let (etcp, config) = (site.program().display(), site.folder.join("ssh_config"));
    let command = format!("{etcp} ssh --remote-port 6200-6210 -F {}", config.display());
    site.folder.script("as-ssh", &format!("#!/bin/sh\nexec {command} \"$@\"\n"));
    let script = format!(
        "set -e
export GIT_SSH_COMMAND='{command}' GIT_CONFIG_GLOBAL=/dev/null
git init -q --bare server-home/repo
git init -q work
git -C work -c user.name=me -c user.email=me@test commit -q --allow-empty -m first
git -C work push -q server:repo HEAD:refs/heads/main
git clone -q -b main server:repo clone
git -C clone log --format=%s
head -c 3000000 /dev/urandom >data
rsync -e '{command}' data server:there
rsync -e '{command}' server:there back
cmp data back && cmp data server-home/there
scp -q -S ./as-ssh data server:copied
cmp data server-home/copied
"
    );
    let script = site.folder.readable_file("script", &script);
    let launch = site.client(Launch::new("tools", "sh")).arg(script);
    site.finish("tools", launch).wrote("first\n");
    site.assert_tidy();
    site.wait_until_gone();
}

#[test]
fn commands_without_a_connection_are_left_to_ssh_which_reports_its_failures() {
    if !skip::can_run("netns::ssh", &PROGRAMS) {
        return;
    }
    let site = SshSite::new(PORT);
    let settings = site.finish("settings", site.ssh("settings", &[]).args(["-G", "server"]));
    assert!(settings.output.contains("hostkeyalias test-server"), "{settings:?}");
    site.finish("hostless", site.ssh("hostless", &[])).failed(2, "say which HOST");
    let launch = site.ssh("unknown", &[]).args(["-o", "HostKeyAlias=other", "server", "true"]);
    let ran = site.finish("unknown", launch);
    ran.failed(255, "Host key verification failed");
    assert!(!ran.log.contains("etcp:"), "ssh has said it: {}", ran.log);
    site.assert_tidy();
    until("no sproxy", PATIENCE, || site.sproxies().is_empty());
}
