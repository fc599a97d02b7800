//! The program for somebody who does not know it: help, version, and usage errors.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output, Stdio};

use etcp_testkit::TestFolder;
use etcp_testkit::wait::output;

/// The internal commands.
const INTERNAL: [&str; 3] = ["run-inside", "ssh-carry", "one-user"];

fn etcp<S: AsRef<OsStr>>(args: &[S]) -> Output {
    output(
        Command::new(env!("CARGO_BIN_EXE_etcp"))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped()),
    )
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("it is text")
}

fn error(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("it is text")
}

/// Returns the commands that the help lists.
fn commands() -> Vec<String> {
    let help = out(&etcp(&["--help"]));
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    listed.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn alone_it_shows_its_help_and_fails() {
    for (args, contains) in [(vec![], "etcp ssh example.org"), (vec!["sessions"], "kill")] {
        let output = etcp(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert_eq!(out(&output), "", "{args:?}");
        let text = error(&output);
        assert!(text.contains("Usage: etcp") && text.contains(contains), "{args:?}: {text}");
    }
    let text = error(&etcp(&["-v"]));
    assert!(text.lines().count() == 1 && text.contains("sproxy, cproxy"), "{text}");
}

#[test]
fn commands_that_it_starts_itself_are_named_nowhere() {
    let mut said = vec![error(&etcp::<&str>(&[])), error(&etcp(&["-v"])), out(&etcp(&["--help"]))];
    for wrong in ["onesproxy", "one-use", "run-insid", "ssh-carr"] {
        said.push(error(&etcp(&[wrong])));
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        said.push(out(&etcp(&["completions", shell])));
    }
    for name in INTERNAL {
        assert!(said.iter().all(|text| !text.contains(name)), "{name} is named");
        assert_eq!(etcp(&["help", name]).status.code(), Some(2));
    }
}

#[test]
fn an_error_names_the_help_of_its_own_command() {
    for command in commands() {
        if command == "help" {
            continue;
        }
        let output = etcp(&[&command, "--no-such-flag"]);
        let text = error(&output);
        let help = format!("(see etcp {command} --help)");
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("'--no-such-flag'") && text.contains(&help), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    for (args, contains) in [
        (vec!["sessions", "list"], "etcp sessions has: kill (see etcp sessions --help)"),
        (vec!["sessions", "kill"], "(see etcp sessions kill --help)"),
        (vec!["cprox"], "'cproxy' (see etcp --help)"),
        (vec!["xyzzy"], "etcp has: sproxy, cproxy, "),
        (vec!["cproxy"], "--server <HOST[:PORT]> (see etcp cproxy --help)"),
        (vec!["run", "--servr", "a", "ls"], "'--server' (see etcp run --help)"),
    ] {
        let text = error(&etcp(&args));
        assert!(text.contains(contains) && text.lines().count() == 1, "{args:?}: {text}");
    }
}

#[test]
fn help_has_headings_and_examples() {
    for command in commands() {
        if command == "help" {
            continue;
        }
        let long = out(&etcp(&["help", &command]));
        assert!(long.contains("\nExamples:\n") && long.contains("etcp "), "{command}: {long}");
        assert_eq!(long, out(&etcp(&[&command, "--help"])), "{command}");
    }
    for (command, headings) in [
        ("cproxy", ["Connection:", "Keys:", "Forwards:", "Limits:", "Control:", "Logging:"]),
        ("sproxy", ["Connection:", "Keys:", "Forwards:", "Limits:", "Control:", "Logging:"]),
    ] {
        let help = out(&etcp(&[command, "-h"]));
        for heading in headings {
            assert_eq!(
                help.lines().filter(|line| *line == heading).count(),
                1,
                "{heading}: {help}"
            );
        }
    }
}

#[test]
fn the_version_names_commit_and_protocol() {
    let short = out(&etcp(&["-V"]));
    assert!(short.starts_with("etcp 0.") && short.lines().count() == 1, "{short}");
    assert!(short.contains("(commit ") && short.contains(", protocol 1)"), "{short}");
    let long = out(&etcp(&["--version"]));
    for line in
        ["commit ", "protocol 1", "features standby, early replay, joined carriers, takeover"]
    {
        assert!(long.lines().any(|found| found.starts_with(line)), "{line}: {long}");
    }
}

#[test]
fn a_path_that_leads_to_something_else_is_named_with_the_reason() {
    let folder = TestFolder::new();
    let path = |name: &str| folder.join(name).to_str().expect("a plain path").to_owned();
    std::fs::create_dir(path("folder")).expect("the folder is ours");
    std::fs::write(path("empty"), "").expect("the folder is ours");
    std::fs::write(path("binary"), [0xff; 100]).expect("the folder is ours");
    for name in ["folder", "empty", "binary"] {
        let file = path(name);
        let mut tried = vec![
            (vec!["status", "--control", &file], "not a socket"),
            (vec!["reconnect", "--control", &file], "not a socket"),
            (vec!["drain", "--control", &file], "not a socket"),
            (vec!["sessions", "kill", "1", "--control", &file], "not a socket"),
            (vec!["keygen", "-q", "-N", "", "-f", &file], "already exists"),
            (vec!["keygen", "-l", &file], ""),
            (vec!["keygen", "-y", &file], ""),
            (vec!["sproxy", "--listen", "127.0.0.1:0", "-i", &file], ""),
        ];
        if name != "folder" {
            tried.push((vec!["man", &file], "not a folder"));
        }
        for (args, reason) in tried {
            let output = etcp(&args);
            let text = error(&output);
            assert_eq!(output.status.code(), Some(1), "{args:?}: {text}");
            assert!(text.contains(&file) && text.contains(reason), "{args:?}: {text}");
            assert!(text.lines().count() == 1 && !text.contains("os error"), "{args:?}: {text}");
        }
    }
}

#[test]
fn an_argument_of_any_length_is_one_line_that_can_be_read() {
    let long = "a".repeat(100_000);
    for args in [
        vec![&*long],
        vec!["cproxy", "--server", &long],
        vec!["cproxy", "--server", "a", "-L", &long],
        vec!["sproxy", "--permit", &long],
        vec!["status", "--control", &long],
        vec!["sessions", "kill", &long],
        vec!["completions", &long],
        vec!["man", &long],
        vec!["keygen", "-l", &long],
    ] {
        let output = etcp(&args);
        let text = error(&output);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{}", args[0]);
        assert!(text.len() < 5_000 && text.lines().count() == 1, "{}: {text}", args[0]);
    }
}

#[test]
fn an_argument_that_is_no_text_is_an_error_that_shows_it() {
    let wrong = OsStr::from_bytes(b"a\xffb");
    for args in [
        vec![wrong],
        vec![OsStr::new("cproxy"), OsStr::new("--server"), wrong],
        vec![OsStr::new("connect"), OsStr::new("--server"), OsStr::new("a"), wrong],
        vec![OsStr::new("sessions"), OsStr::new("kill"), wrong],
    ] {
        let output = etcp(&args);
        let text = error(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains("a\u{fffd}b") && text.lines().count() == 1, "{args:?}: {text}");
    }
}
