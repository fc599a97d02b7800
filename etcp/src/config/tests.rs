//! The command line and configuration files together.

use super::*;

/// A value for each flag that takes one, by the flag or by the name of its value.
const VALUES: [(&str, &str); 27] = [
    ("listen", "127.0.0.1:7000"),
    ("target", "localhost:22"),
    ("permit", "db.example.org:5432"),
    ("permit-listen", "localhost:8000-8099"),
    ("strict-modes", "no"),
    ("max-startups", "10:30:100"),
    ("per-source-penalties", "1s:2m"),
    ("log-format", "json"),
    ("server", "example.org"),
    ("bind-address", "192.0.2.1"),
    ("bind-interface", "eth0"),
    ("proxy", "socks5h://localhost:1080"),
    ("carriers", "3"),
    ("name", "laptop"),
    ("transparent", "127.0.0.1:7001"),
    ("local-forward", "5432:localhost:5432"),
    ("remote-forward", "8080:localhost:3000"),
    ("dynamic-forward", "1080"),
    ("node-address", "node-1.example.org:6200"),
    ("proxy-from", "10.0.0.0/24"),
    ("USER", "nobody"),
    ("WHEN", "auto"),
    ("NAME", "bbr"),
    ("COUNT", "5"),
    ("SIZE", "48M"),
    ("DURATION", "4s"),
    ("COMMAND", "logger \"$ETCP_EVENT\""),
];

/// Flags that are not keys.
const NO_KEYS: [&str; 4] = ["config", "help", "check-store", "group"];

fn value_of(flag: &clap::Arg) -> String {
    let kind = flag.get_value_names().and_then(|names| names.first()).map_or("", |name| name);
    let named = [flag.get_long().unwrap_or_default(), kind];
    let found = named.iter().find_map(|name| VALUES.iter().find(|(key, _)| key == name));
    found.map_or_else(|| format!("/etc/{kind}"), |(_, value)| (*value).to_owned())
}

/// Parses a command line with `FILE` in it, and a file with this text.
fn parse_with(line: &str, text: &str) -> Result<FullLine, ParseError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("etcp.toml");
    std::fs::write(&path, text).unwrap();
    let of_path = |word: &str| word.replace("FILE", path.to_str().unwrap());
    parse(&line.split(' ').map(|word| of_path(word).into()).collect::<Vec<_>>())
}

/// Returns the settings of a command line. The path of the file is left out.
fn shown(line: Result<FullLine, ParseError>) -> String {
    let mut cli = line.unwrap().cli;
    match &mut cli.command {
        crate::cli::CliCommand::Sproxy(args) => args.config.config = None,
        crate::cli::CliCommand::Cproxy(args) => args.config.config = None,
        _ => {}
    }
    format!("{cli:?}")
}

/// Returns the faults of a file, with its name for the path.
fn faults(line: &str, text: &str) -> Vec<String> {
    let ParseError::Config(faults) = parse_with(line, text).unwrap_err() else {
        panic!("no fault of the file")
    };
    let name = |text: String| text[text.find("etcp.toml").unwrap()..].to_owned();
    faults.iter().map(|fault| name(fault.to_string())).collect()
}

#[test]
fn every_flag_can_be_set_in_the_file_and_means_the_same() {
    let mut cli = Cli::command();
    cli.build();
    for command in ["sproxy", "cproxy"] {
        let mut count = 0;
        for flag in cli.find_subcommand(command).unwrap().get_arguments() {
            let Some(name) = flag.get_long().filter(|name| !NO_KEYS.contains(name)) else {
                assert!(flag.get_long().is_some() || flag.is_hide_set(), "{flag} has no key");
                continue;
            };
            count += 1;
            let needed = match (command, name) {
                (_, "server") => "",
                ("cproxy", _) => " -s a",
                (_, "node-address") => " --node node-1",
                _ => "",
            };
            let line = format!("etcp {command}{needed}");
            let (text, args) = match flag.get_action() {
                clap::ArgAction::SetTrue => (format!("{name} = true"), format!("--{name}")),
                clap::ArgAction::Count => (format!("{name} = 2"), "-vv".to_owned()),
                _ => {
                    let value = value_of(flag);
                    (format!("{name} = '{value}'"), format!("--{name}={value}"))
                }
            };
            let from_file = shown(parse_with(&format!("{line} --config FILE"), &text));
            let words = line.split(' ').map(OsString::from).chain([args.into()]);
            let from_line = shown(parse(&words.collect::<Vec<_>>()));
            assert_eq!(from_file, from_line, "{command}: {name}");
            let without = shown(
                parse(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
                    .or_else(|_| parse_with("etcp cproxy -s a", "")),
            );
            assert_ne!(from_file, without, "{command}: {name} changes nothing");
        }
        assert!(count > 30, "{command} has {count} keys");
    }
}

#[test]
fn the_command_line_replaces_values_of_the_file_and_adds_to_its_lists() {
    for (line, text, same) in [
        ("etcp sproxy --dead-after 9s", "dead-after = '5s'", "etcp sproxy --dead-after 9s"),
        ("etcp -v sproxy", "verbose = 2", "etcp -v sproxy"),
        (
            "etcp sproxy --permit a:1",
            "permit = ['b:2', 'c:3']",
            "etcp sproxy --permit a:1 --permit b:2 --permit c:3",
        ),
        ("etcp sproxy", "permit = 'b:2'", "etcp sproxy --permit b:2"),
        ("etcp cproxy -s a -4", "ipv6 = true", "etcp cproxy -s a -4"),
        ("etcp cproxy -s a -6", "ipv4 = true", "etcp cproxy -s a -6"),
        ("etcp cproxy -s a", "ipv4 = false\ncarriers = 3", "etcp cproxy -s a --carriers 3"),
        ("etcp cproxy", "server = ['a', 'b:7']", "etcp cproxy -s a -s b:7"),
        ("etcp sproxy", "max-sessions = 1_000", "etcp sproxy --max-sessions 1000"),
    ] {
        let both = shown(parse_with(&format!("{line} --config FILE"), text));
        let alone = shown(parse(&same.split(' ').map(OsString::from).collect::<Vec<_>>()));
        assert_eq!(both, alone, "{line} with {text}");
    }
}

#[test]
fn a_later_file_replaces_values_and_adds_to_lists() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.toml");
    let more = folder.path().join("a.toml.d");
    std::fs::create_dir(&more).unwrap();
    let write = |path: &Path, text: &str| std::fs::write(path, text).unwrap();
    write(&file, "dead-after = '5s'\npermit = ['a:1']");
    write(&more.join("1.toml"), "permit = 'b:2'\nsend-proxy = true");
    write(&more.join("2.toml"), "dead-after = '7s'\nsend-proxy = false");
    let line = ["etcp", "sproxy", "--config", file.to_str().unwrap()].map(OsString::from);
    let same = "etcp sproxy --dead-after 7s --permit a:1 --permit b:2";
    let same = same.split(' ').map(OsString::from).collect::<Vec<_>>();
    assert_eq!(shown(parse(&line)), shown(parse(&same)));
}

#[test]
fn every_fault_of_a_file_is_told_with_its_place() {
    let text = "listen = 'localhost:x'\n\
                dead_after = '5s'\n\
                send-proxy = 'yes'\n\
                verbose = 'much'\n\
                target = ['a:1']\n\
                permit = ['a:1', 'b']\n\
                keep-detached = 1979-05-27\n\
                mptcp = 'perhaps'\n\
                max-sessions = 0\n\
                [group.dba]\n\
                keys = ['not a key']\n\
                targets = ['db:5432']\n\
                permit = ['db:5432', 'db']\n\
                [groups]\n";
    let found = faults("etcp sproxy --config FILE", text);
    let starts = [
        "etcp.toml:1:10: invalid value \"localhost:x\" for listen: ",
        "etcp.toml:2:1: there is no key dead_after: did you mean dead-after?",
        "etcp.toml:3:14: send-proxy: write true or false",
        "etcp.toml:4:11: verbose: write a number from 0 to 9",
        "etcp.toml:5:10: target takes one value, not a list: remove the brackets",
        "etcp.toml:6:18: invalid value \"b\" for permit: ",
        "etcp.toml:7:17: keep-detached: write the value as a text in quotes",
        "etcp.toml:8:9: invalid value \"perhaps\" for mptcp: expected auto, on, off",
        "etcp.toml:9:16: invalid value \"0\" for max-sessions: expected a number from 1 to ",
        "etcp.toml:11:9: invalid value \"not a key\" for keys of group dba: ",
        "etcp.toml:12:1: there is no key targets of a group: ",
        "etcp.toml:13:22: invalid value \"db\" for permit of group dba: ",
        "etcp.toml:14:2: there is no key groups",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (found, start) in found.iter().zip(starts) {
        assert!(found.starts_with(start), "{found}\n{start}");
    }
}

#[test]
fn an_empty_list_never_means_the_default() {
    let text = "permit-listen = []\nauthorized-keys = []\npermit = []\n\
                [group.a]\n[group.b]\nkeys = []\n";
    let found = faults("etcp sproxy --config FILE", text);
    let starts = [
        "etcp.toml:1:17: permit-listen is an empty list: write its values, or leave it out",
        "etcp.toml:2:19: authorized-keys is an empty list: ",
        "etcp.toml:3:10: permit is an empty list: ",
        "etcp.toml:4:8: group a is empty: fill it, or remove it",
        "etcp.toml:6:8: keys is an empty list: ",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (found, start) in found.iter().zip(starts) {
        assert!(found.starts_with(start), "{found}\n{start}");
    }
}

#[test]
fn faults_of_the_syntax_are_told_together_with_the_others() {
    let text = "listen = \ntarget = 'a:1'\ntarget = 'b:1'\nwait = 'x'\nlimit = 'open\n";
    let found = faults("etcp sproxy --config FILE", text);
    let places: Vec<_> = found.iter().filter_map(|it| it.split(':').nth(1)).collect();
    assert_eq!(places, ["1", "3", "4", "5"], "{found:#?}");
}

#[test]
fn a_contradiction_that_shows_only_later_is_located_too() {
    let text = "ipv4 = true\nserver = 'a'\nipv6 = true\n";
    let found = faults("etcp cproxy --config FILE", text);
    assert!(found.len() == 1 && found[0].contains("cannot be used with"), "{found:?}");
    let line = parse_with("etcp sproxy --config FILE", "\ndead-after = '1s'\n").unwrap();
    let error = line.origins.locate(ExitError::Usage("--dead-after 1s leaves no time".to_owned()));
    assert!(error.text().ends_with("etcp.toml:2:1: --dead-after 1s leaves no time"), "{error:?}");
    let other = line.origins.locate(ExitError::Usage("--target x".to_owned()));
    assert_eq!(other.text(), "--target x");
    let ParseError::Usage(missing) = parse_with("etcp cproxy --config FILE", "").unwrap_err()
    else {
        panic!("the file is right")
    };
    assert!(missing.to_string().contains("--server"), "{missing}");
}
