//! The files that an installation adds to the program: completions and manual pages.

use std::process::{Command, Output, Stdio};

use etcp_testkit::wait::output;
use etcp_testkit::{TestFolder, skip};

fn etcp(args: &[&str]) -> Output {
    output(
        Command::new(env!("CARGO_BIN_EXE_etcp"))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped()),
    )
}

fn text(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("it is text")
}

#[test]
fn bash_completes_commands_and_flags_with_what_completions_prints() {
    let folder = TestFolder::new();
    let script = folder.join("etcp.bash");
    std::fs::write(&script, text(etcp(&["completions", "bash"]))).expect("the folder is ours");
    // Acts as bash does at a tab: calls the function that `complete` names.
    let complete = |words: &str| {
        let commands = format!(
            ". {}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             f=$(complete -p etcp | sed 's/.*-F \\([^ ]*\\).*/\\1/'); \
             $f etcp \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"; \
             echo \"${{COMPREPLY[@]}}\"",
            script.display()
        );
        let output = Command::new("bash").args(["-c", &commands]).output().expect("bash runs");
        text(output).trim().to_owned()
    };
    assert_eq!(complete("etcp cpr"), "cproxy");
    assert_eq!(complete("etcp cproxy --known"), "--known-hosts");
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        assert!(text(etcp(&["completions", shell])).contains("known-hosts"), "{shell}");
    }
}

#[test]
fn bash_completes_hosts_sessions_and_sockets_that_etcp_knows() {
    let folder = TestFolder::new();
    let script = folder.join("etcp.bash");
    std::fs::write(&script, text(etcp(&["completions", "bash"]))).expect("the folder is ours");
    let ssh = folder.join(".ssh");
    std::fs::create_dir(&ssh).expect("the folder is ours");
    std::fs::write(ssh.join("config"), "Host server.example\n").expect("the folder is ours");
    std::fs::write(ssh.join("known_hosts"), "[other.example]:6200 ssh-ed25519 AAAA\n")
        .expect("the folder is ours");
    // A folder of another user is ignored, and the test's folder may belong to another.
    let run = folder.join("run");
    std::fs::create_dir_all(run.join("eternaltcp")).expect("the folder is ours");
    let socket = run.join("eternaltcp/cproxy.1.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).expect("it is free");
    let complete = |words: &str| {
        let program = env!("CARGO_BIN_EXE_etcp");
        let commands = format!(
            ". {}; COMP_WORDS=({program} {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _etcp_values {program} \"${{COMP_WORDS[COMP_CWORD]}}\" \
             \"${{COMP_WORDS[COMP_CWORD - 1]}}\"; echo \"${{COMPREPLY[@]}}\"",
            script.display()
        );
        let mut bash = Command::new("bash");
        bash.args(["-c", &commands]).env_remove("RUNTIME_DIRECTORY").env_remove("XDG_CONFIG_HOME");
        bash.env("HOME", folder.path()).env("XDG_RUNTIME_DIR", &run);
        text(bash.output().expect("bash runs")).trim().to_owned()
    };
    assert_eq!(complete("cproxy --server serv"), "server.example");
    assert_eq!(complete("connect -s other"), "other.example");
    assert_eq!(complete("ssh oth"), "other.example");
    let sockets = complete("status --control /");
    assert_eq!(sockets.split(' ').next(), socket.to_str(), "{sockets}");
    assert_eq!(complete("cproxy --acc"), "--accept-new");
    // The names of servers are those of the configuration, too; nothing runs any more.
    drop(listener);
    let config = folder.join(".config/eternaltcp");
    std::fs::create_dir_all(&config).expect("the folder is ours");
    let tables = "[server.office]\nserver = 'a'\n[server.home]\nserver = 'b'\nlisten = ':1'\n";
    std::fs::write(config.join("cproxy.toml"), tables).expect("the folder is ours");
    for line in
        ["reconnect --server off", "sessions kill --server off", "doctor --config x --server o"]
    {
        assert_eq!(complete(line), "office", "{line}");
    }
    assert_eq!(complete("doctor --server serv"), "server.example");
    assert_eq!(complete("tunnels kill --k"), "--key");
}

#[test]
fn shells_can_read_their_completions() {
    let test = "shells_can_read_their_completions";
    let folder = TestFolder::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = folder.join(shell);
        std::fs::write(&script, text(etcp(&["completions", shell]))).expect("the folder is ours");
        // `.ci/install` has only bash; the others are tried if they exist.
        let is_there = Command::new(shell).arg("-c").arg("true").output().is_ok();
        assert!(is_there || shell != "bash", "{test}: there is no bash");
        if is_there {
            let read = Command::new(shell).arg("-n").arg(&script).output().expect("it runs");
            assert!(read.status.success() && read.stderr.is_empty(), "{shell}: {read:?}");
        }
    }
}

#[test]
fn there_is_a_manual_page_of_the_program_and_of_each_command() {
    let folder = TestFolder::new();
    let pages = folder.join("new/man1");
    text(etcp(&["man", pages.to_str().expect("a plain path")]));
    for (name, contains) in [
        ("etcp.1", "Keep TCP connections alive"),
        ("etcp.1", ".SH EXIT STATUS"),
        ("etcp-sessions-kill.1", "etcp-sessions(1)"),
        ("etcp-sproxy.1", "authorized"),
        ("etcp-cproxy.1", "known"),
        ("etcp-connect.1", "ProxyCommand"),
    ] {
        let page = std::fs::read_to_string(pages.join(name)).expect(name);
        assert!(page.contains(contains), "{name}: {page}");
    }
    for page in std::fs::read_dir(&pages).expect("a folder").flatten() {
        let text = std::fs::read_to_string(page.path()).expect("it is text");
        for section in ["EXAMPLES", "FILES", "ENVIRONMENT", "SIGNALS", "EXIT STATUS", "SEE ALSO"] {
            let count = text.lines().filter(|line| *line == format!(".SH {section}")).count();
            let is_missing = count == 0 && !(section == "EXAMPLES" && text.contains("kill"));
            assert!(count < 2 && !is_missing, "{:?}: {count} times {section}", page.path());
        }
    }
    let names = std::fs::read_dir(&pages).expect("a folder").flatten().map(|page| page.file_name());
    let internal = ["etcp-one-user.1", "etcp-run-inside.1", "etcp-ssh-carry.1"];
    assert!(names.into_iter().all(|name| internal.iter().all(|other| name != *other)));
    let test = "there_is_a_manual_page_of_the_program_and_of_each_command";
    if !skip::can_find(test, &["man"]) {
        return;
    }
    let mut man = Command::new("man");
    let shown = text(man.arg("-l").arg(pages.join("etcp-cproxy.1")).output().expect("man runs"));
    for words in ["SYNOPSIS", "known", "FORWARDS", "EXAMPLES", "-L 5432:localhost:5432"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error_that_names_it() {
    let folder = TestFolder::new();
    let file = folder.join("file");
    std::fs::write(&file, "").expect("the folder is ours");
    let output = etcp(&["man", file.to_str().expect("a plain path")]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let is_named = said.contains(file.to_str().expect("a plain path"));
    assert!(is_named && said.lines().count() == 1, "{said}");
}
