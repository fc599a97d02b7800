//! Parses the arguments of ssh into options and HOST.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The options of ssh that have a value (ssh(1) of OpenSSH 9.9).
const WITH_VALUE: &[u8] = b"BbcDEeFIiJLlmOopPQRSwW";

/// With one of these options ssh makes no connection, or uses an existing one.
const WITHOUT_CONNECTION: &[u8] = b"GVQO";

/// Options for the login and its destination.
const OF_LOGIN: &[u8] = b"1246BbCcEFIiJKklmopPqvy";

/// One option as it was given, with its value.
#[derive(Clone, PartialEq, Eq, Debug)]
struct SshOption {
    letter: u8,
    value: Option<OsString>,
}

/// A parsed command line of ssh.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SshArguments {
    options: Vec<SshOption>,
    host: Option<OsString>,
    command: Vec<OsString>,
}

impl SshArguments {
    /// Parses arguments as ssh does: options, HOST, more options, a command. After `--` there are
    /// no options.
    pub(crate) fn parse(args: &[OsString]) -> Self {
        let mut parsed = Self { options: Vec::new(), host: None, command: Vec::new() };
        let mut args = args.iter();
        let mut is_literal = false;
        while let Some(arg) = args.next() {
            let bytes = arg.as_bytes();
            if !is_literal && bytes == b"--" {
                is_literal = true;
            } else if !is_literal && bytes.len() > 1 && bytes.starts_with(b"-") {
                parsed.add_cluster(&bytes[1..], || args.next().cloned());
            } else if parsed.host.is_none() {
                parsed.host = Some(arg.clone());
            } else {
                parsed.command.push(arg.clone());
                parsed.command.extend(args.by_ref().cloned());
            }
        }
        parsed
    }

    /// Adds options that share a dash, such as `-tp22`.
    fn add_cluster(&mut self, mut letters: &[u8], next: impl FnOnce() -> Option<OsString>) {
        while let Some((&letter, rest)) = letters.split_first() {
            if WITH_VALUE.contains(&letter) {
                let value = if rest.is_empty() { next() } else { Some(to_text(rest)) };
                self.options.push(SshOption { letter, value });
                return;
            }
            self.options.push(SshOption { letter, value: None });
            letters = rest;
        }
    }

    /// Returns HOST as the user wrote it: `host`, `user@host` or `ssh://user@host:port`.
    pub(crate) fn host(&self) -> Option<&OsStr> {
        self.host.as_deref()
    }

    /// Returns whether ssh would make a connection.
    pub(crate) fn connect(&self) -> bool {
        !self.options.iter().any(|option| WITHOUT_CONNECTION.contains(&option.letter))
    }

    /// Returns the options that concern only the login. Options for forwards, terminals and
    /// sessions are not included.
    pub(crate) fn of_login(&self) -> Vec<OsString> {
        write(self.options.iter().filter(|option| OF_LOGIN.contains(&option.letter)))
    }

    /// Returns all arguments for a connection through a `ProxyCommand` in `before`. ssh uses the
    /// first value of an option: `before` precedes the user's options, which precede `after`.
    pub(crate) fn through(&self, before: &[&OsStr], after: &[&OsStr]) -> Vec<OsString> {
        let mut args: Vec<OsString> = before.iter().map(|&arg| arg.to_owned()).collect();
        // ssh fails if both a jump and a ProxyCommand are given.
        args.extend(write(self.options.iter().filter(|option| option.letter != b'J')));
        args.extend(after.iter().map(|&arg| arg.to_owned()));
        args.push("--".into());
        args.extend(self.host.clone());
        args.extend(self.command.iter().cloned());
        args
    }
}

fn write<'a>(options: impl Iterator<Item = &'a SshOption>) -> Vec<OsString> {
    let mut args = Vec::new();
    for SshOption { letter, value } in options {
        args.push(to_text(&[b'-', *letter]));
        args.extend(value.clone());
    }
    args
}

fn to_text(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> SshArguments {
        let args: Vec<_> = line.split_whitespace().map(OsString::from).collect();
        SshArguments::parse(&args)
    }

    fn joined(args: Vec<OsString>) -> String {
        let args: Vec<_> = args.into_iter().map(|arg| arg.into_string().unwrap()).collect();
        args.join(" ")
    }

    fn host(line: &str) -> Option<String> {
        parse(line).host().map(|host| host.to_string_lossy().into_owned())
    }

    #[test]
    fn the_host_is_found_among_the_options() {
        for line in [
            "host",
            "-p 22 host",
            "-p22 host ls -la",
            "-vvv -tt host",
            "-vp 22 host",
            "-vtp22 host",
            "-o ProxyCommand=x -i key host",
            "host -p 22 ls",
            "-- host ls",
            "-L 1:a:1 -D1080 -NfR 2:b:2 host",
            "-Jjump host",
            "-S none -W a:1 host",
        ] {
            assert_eq!(host(line).as_deref(), Some("host"), "{line}");
        }
        assert_eq!(host("ssh://me@host:22").as_deref(), Some("ssh://me@host:22"));
        for line in ["", "-p", "-p 22", "-v", "-o host"] {
            assert_eq!(host(line), None, "{line:?}");
        }
    }

    #[test]
    fn a_command_begins_after_the_host_and_its_options_are_its_own() {
        let parsed = parse("-t host -v ls -p 22 -- x");
        assert_eq!(parsed.command, ["ls", "-p", "22", "--", "x"]);
        assert_eq!(joined(parsed.through(&[], &[])), "-t -v -- host ls -p 22 -- x");
        assert_eq!(parse("host -- -x").command, ["-x"]);
        assert_eq!(parse("-- host -x").command, ["-x"]);
    }

    #[test]
    fn a_log_in_keeps_what_says_where_and_as_whom() {
        let line = "-4tNfnT -p 22 -l me -i key -F config -J jump -o Compression=yes -A -X \
                    -L 1:a:1 -R 2:b:2 -D 3 -W c:4 -S path -M -vq host ls";
        assert_eq!(
            joined(parse(line).of_login()),
            "-4 -p 22 -l me -i key -F config -J jump -o Compression=yes -v -q"
        );
    }

    #[test]
    fn our_options_surround_those_of_the_user() {
        let (before, after) = (["-o", "ProxyCommand=x"].map(OsStr::new), [OsStr::new("-y")]);
        assert_eq!(
            joined(parse("-J jump -p 22 host ls").through(&before, &after)),
            "-o ProxyCommand=x -p 22 -y -- host ls"
        );
    }

    #[test]
    fn questions_to_ssh_itself_make_no_connection() {
        for line in ["-G host", "-V", "-Q cipher", "-O check host", "-vG host"] {
            assert!(!parse(line).connect(), "{line}");
        }
        assert!(parse("-v host -G").host().is_some() && parse("host ls -G").connect());
    }
}
