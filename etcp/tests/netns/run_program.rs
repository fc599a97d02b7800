//! `etcp run` as a program starter: its user, its terminal, its signals and its exit code.

use etcp_testkit::running::RunningProcess;
use etcp_testkit::terminal::Terminal;
use etcp_testkit::wait::PATIENCE;
use etcp_testkit::{RunAs, skip};
use rustix::process::Signal;

#[test]
fn the_exit_code_is_the_programs() {
    if !skip::can_run("netns::run_program (exit)", &["dnsmasq"]) {
        return;
    }
    let running = RunningProcess::start(&[], &[]);
    let no_program = running.folder.readable_file("no-program", "");
    let no_program = no_program.to_str().expect("test paths are text");
    for (name, words, code) in [
        ("true", &["true"][..], 0),
        ("exit", &["sh", "-c", "exit 42"], 42),
        ("killed", &["sh", "-c", "kill -KILL $$"], 128 + 9),
        ("missing", &["no-such-program"], 127),
        ("unable", &[no_program], 126),
    ] {
        let (status, log) = running.outcome(name, words);
        assert_eq!(status.code(), Some(code), "{words:?}: {log}");
        let says = log.contains(&format!("etcp: cannot run {}", words[0]));
        assert_eq!(says, code == 126 || code == 127, "{log}");
    }
}

#[test]
fn the_program_is_who_and_where_it_would_be_without_and_has_no_privilege() {
    if !skip::can_run("netns::run_program (user)", &["dnsmasq"]) {
        return;
    }
    const SHOW: &str = "id -u; id -g; pwd; cat; grep CapEff /proc/self/status; echo $# $1";
    let running = RunningProcess::start(&[], &[]);
    let input = running.folder.file("input", "what stdin has\n", RunAs::Nobody);
    let stdin = std::fs::File::open(input).expect("it was written").into();
    let mut process = running
        .launch("show", &["sh", "-c", SHOW, "sh", "--server", "-x"])
        .start_with(&running.world.client, &running.folder, stdin, None);
    assert!(process.wait(PATIENCE).success());
    let folder = running.folder.path().display();
    let expected =
        format!("65534\n65534\n{folder}\nwhat stdin has\nCapEff:\t0000000000000000\n2 --server\n");
    assert_eq!(process.log(), expected);
}

#[test]
fn root_can_still_become_others() {
    if !skip::can_run("netns::run_program (root)", &["dnsmasq"]) {
        return;
    }
    let running = RunningProcess::start(&[], &["--permit-resolver"]);
    let words = ["setpriv", "--reuid=1234", "--clear-groups", "getent", "ahostsv4", "web.test"];
    let launch = running.launch("root", &words).user(RunAs::Root);
    let mut process = launch.start(&running.world.client, &running.folder);
    assert!(process.wait(PATIENCE).success(), "{}", process.log());
    assert!(process.log().contains("10.71.9.10 "), "{}", process.log());
}

/// The capabilities that root's command keeps, by their numbers in linux/capability.h.
const KEPT_BY_ROOT: [u32; 12] = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 29];

#[test]
fn the_command_of_root_cannot_leave_its_network_or_change_it() {
    if !skip::can_run("netns::run_program (capabilities)", &["dnsmasq", "nsenter", "ip"]) {
        return;
    }
    // umount and nsenter need CAP_SYS_ADMIN, ip needs CAP_NET_ADMIN.
    const SHOW: &str = "grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status; \
                        umount /etc/resolv.conf 2>/dev/null && echo left; \
                        nsenter --net=/proc/1/ns/net true 2>/dev/null && echo left; \
                        ip link set lo down 2>/dev/null && echo left; echo end";
    let running = RunningProcess::start(&[], &[]);
    let kept = KEPT_BY_ROOT.iter().fold(0_u64, |set, number| set | 1 << number);
    let launch = running.launch("root", &["sh", "-c", SHOW]).user(RunAs::Root);
    let mut process = launch.start(&running.world.client, &running.folder);
    assert!(process.wait(PATIENCE).success(), "{}", process.log());
    let log = process.log();
    for name in ["CapPrm", "CapEff", "CapBnd"] {
        let line = log.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
        let set = u64::from_str_radix(line.unwrap_or_default(), 16);
        let set = set.unwrap_or_else(|error| panic!("{name}: {error}: {log}"));
        assert_eq!(set & !kept, 0, "{name} has too much: {log}");
        assert_ne!(set & 1 << 1, 0, "root writes to every file: {log}");
    }
    for line in ["CapInh:\t0000000000000000", "CapAmb:\t0000000000000000"] {
        assert!(log.contains(line), "{log}");
    }
    assert!(!log.contains("left") && log.contains("end"), "{log}");
}

#[test]
fn signals_reach_the_program() {
    if !skip::can_run("netns::run_program (signals)", &["dnsmasq"]) {
        return;
    }
    let running = RunningProcess::start(&[], &[]);
    for (signal, name, code) in
        [(Signal::TERM, "TERM", 7), (Signal::HUP, "HUP", 8), (Signal::INT, "INT", 9)]
    {
        let script = format!(
            "trap 'echo got {name}; exit {code}' {name}; echo ready; while :; do sleep 0.1; done"
        );
        let mut process = running.run(name, &["sh", "-c", &script]);
        process.wait_for("ready", PATIENCE);
        process.signal(signal);
        assert_eq!(process.wait(PATIENCE).code(), Some(code), "{}", process.log());
        assert_eq!(process.count(&format!("got {name}")), 1);
    }
}

#[test]
fn typed_input_reaches_the_program_once() {
    if !skip::can_run("netns::run_program (terminal)", &["dnsmasq", "setsid"]) {
        return;
    }
    const SCRIPT: &str = "trap 'echo interrupted' INT; echo ready; read line; echo line: $line; \
                          read line; echo line: $line; exit 9";
    let running = RunningProcess::start(&[], &[]);
    let launch =
        running.launch("typed", &["bash", "-c", SCRIPT]).run_by(["setsid", "--ctty", "--wait"]);
    let mut terminal = Terminal::start(launch, &running.world.client, &running.folder);
    terminal.expect("ready", PATIENCE);
    terminal.line("one");
    terminal.expect("line: one", PATIENCE);
    terminal.send("\x03");
    terminal.expect("interrupted", PATIENCE);
    terminal.line("two");
    terminal.expect("line: two", PATIENCE);
    assert_eq!(terminal.process().wait(PATIENCE).code(), Some(9));
}

#[test]
fn the_program_does_not_start_before_the_server_was_reached() {
    if !skip::can_run("netns::run_program (unreachable)", &["dnsmasq"]) {
        return;
    }
    let mut running = RunningProcess::start(&[], &[]);
    running.sproxy.process.stop(PATIENCE);
    let mark = running.folder.join("mark");
    let words = ["touch", mark.to_str().expect("test paths are text")];
    let flags = ["--connect-timeout", "1s"];
    let launch = running.launch_with("unreachable", &flags, &words);
    let mut process = launch.start(&running.world.client, &running.folder);
    let (status, log) = (process.wait(PATIENCE), process.log());
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("etcp: gave up after") && !mark.exists(), "{log}");
}

#[test]
fn forbidden_namespaces_are_reported_with_a_remedy() {
    if !skip::can_run("netns::run_program (forbidden)", &["dnsmasq", "unshare"]) {
        return;
    }
    const FORBID: &str = "echo 0 > /proc/sys/user/max_user_namespaces; \
                          exec setpriv --bounding-set=-all --inh-caps=-all -- \"$@\"";
    let running = RunningProcess::start(&[], &[]);
    // The limit belongs to the new namespace, and ends with it.
    let mut process = running
        .launch("forbidden", &["true"])
        .run_by(["unshare", "--user", "--map-root-user", "sh", "-c", FORBID, "sh"])
        .start(&running.world.client, &running.folder);
    assert_eq!(process.wait(PATIENCE).code(), Some(1));
    let log = process.log();
    assert!(log.contains("sysctl user.max_user_namespaces") && log.lines().count() == 1, "{log}");
}
