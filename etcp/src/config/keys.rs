//! The keys of a configuration file: the flags of a command, by their long names.
//!
//! Nothing here lists flags. Their names, kinds and parsers are those of the command line's
//! definition.

#[cfg(test)]
use std::cell::Cell;
use std::cell::RefCell;
use std::error::Error;
use std::ffi::OsString;
use std::iter;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command, CommandFactory};

use super::fault::MAX_FAULTS;
use crate::cli::{CONFIG_FLAG, Cli, GROUP_FLAG, GROUP_KEYS};

/// The commands with configuration files.
pub(super) const COMMANDS: [&str; 2] = ["sproxy", "cproxy"];

/// The flags of one command.
pub(super) struct ConfigKeys {
    cli: Command,
    /// The name of the command.
    name: String,
    /// The command, to parse flags with. A copy for each value would cost more than its parser.
    parser: RefCell<Command>,
    /// How often it has parsed.
    #[cfg(test)]
    parsed: Cell<usize>,
}

/// The number of values that a key takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum KeyKind {
    /// True or false.
    Switch,
    /// A number of repetitions.
    Count,
    /// One value.
    One,
    /// A value, or a list of values.
    Many,
}

impl ConfigKeys {
    pub(super) fn of(command: &str) -> Self {
        let mut cli = Cli::command();
        cli.build();
        let parser = cli.find_subcommand(command).cloned().unwrap_or_default();
        Self {
            cli,
            name: command.to_owned(),
            parser: RefCell::new(parser),
            #[cfg(test)]
            parsed: Cell::default(),
        }
    }

    fn command(&self) -> Option<&Command> {
        self.cli.find_subcommand(&self.name)
    }

    /// Returns the flags that can be set in a file.
    fn flags(&self) -> impl Iterator<Item = (&str, &Arg, KeyKind)> {
        self.flags_of(&self.name)
    }

    /// Returns the flags of a command that can be set in a file.
    fn flags_of(&self, command: &str) -> impl Iterator<Item = (&str, &Arg, KeyKind)> {
        let command = self.cli.find_subcommand(command);
        let flags = command.into_iter().flat_map(Command::get_arguments);
        flags.filter(|flag| !flag.is_hide_set()).filter_map(|flag| {
            let name = flag.get_long().filter(|name| *name != CONFIG_FLAG)?;
            Some((name, flag, kind_of(flag)?))
        })
    }

    /// Returns the flag of a key.
    pub(super) fn find(&self, key: &str) -> Option<(&Arg, KeyKind)> {
        self.flags().find(|(name, ..)| *name == key).map(|(_, flag, kind)| (flag, kind))
    }

    /// Returns whether the command has groups of keys.
    pub(super) fn have_groups(&self) -> bool {
        let mut flags = self.command().into_iter().flat_map(Command::get_arguments);
        flags.any(|flag| flag.get_long() == Some(GROUP_FLAG))
    }

    /// Returns the flags that contradict this one.
    pub(super) fn conflicts(&self, flag: &Arg) -> Vec<&Arg> {
        let Some(command) = self.command() else { return Vec::new() };
        let is_against = |other: &&Arg| {
            let of_other = command.get_arg_conflicts_with(other);
            of_other.iter().any(|it| it.get_id() == flag.get_id())
        };
        let of_flag = command.get_arg_conflicts_with(flag);
        of_flag.into_iter().chain(command.get_arguments().filter(is_against)).collect()
    }

    /// Explains that there is no such key.
    pub(super) fn explain_unknown(&self, key: &str) -> String {
        let name = &self.name;
        if let Some(flag) = self.by_short_name(key) {
            return format!("there is no key {key}: did you mean {flag}?");
        }
        if key == CONFIG_FLAG {
            return format!("{key} cannot be set in a file: give --{key} to etcp {name}");
        }
        if let Some(other) = self.other_command(key) {
            return format!("{key} is a key of etcp {other}, not of etcp {name}: leave it out");
        }
        match self.similar(key) {
            Some(similar) => format!("there is no key {key}: did you mean {similar}?"),
            None => format!(
                "there is no key {key}: keys are the flags of etcp {name}: see etcp {name} --help"
            ),
        }
    }

    fn by_short_name(&self, key: &str) -> Option<&str> {
        let mut letters = key.chars();
        let letter = letters.next().filter(|_| letters.next().is_none())?;
        self.flags().find(|(_, flag, _)| flag.get_short() == Some(letter)).map(|(name, ..)| name)
    }

    /// Returns the other command that has such a key.
    fn other_command(&self, key: &str) -> Option<&'static str> {
        let mut others = COMMANDS.into_iter().filter(|name| *name != self.name);
        others.find(|name| self.flags_of(name).any(|(flag, ..)| flag == key))
    }

    /// Returns the key that the parser of the command line would suggest.
    fn similar(&self, key: &str) -> Option<String> {
        let key = key.to_lowercase().replace('_', "-");
        if self.find(&key).is_some() {
            return Some(key);
        }
        let flag = suggested(&self.parse([format!("--{key}")]).err()?)?;
        self.find(&flag).map(|_| flag)
    }

    /// Returns which of some values a flag does not take, by their positions, and the reasons. Of many
    /// wrong ones, the first are returned.
    pub(super) fn wrong_of(&self, key: &str, values: &[String]) -> Vec<(usize, String)> {
        let mut wrong = Vec::new();
        self.add_wrong(key, values, 0, &mut wrong);
        wrong
    }

    /// Adds what is wrong with values, the first of which is at this position. One run of the parser
    /// judges all of them, because a file may have many; the halves are judged if that fails.
    fn add_wrong(
        &self,
        key: &str,
        values: &[String],
        first: usize,
        wrong: &mut Vec<(usize, String)>,
    ) {
        if values.is_empty() || wrong.len() >= MAX_FAULTS {
            return;
        }
        match self.parse(values.iter().map(|value| format!("--{key}={value}"))) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => {}
            Err(error) if values.len() == 1 => wrong.push((first, reason(&error))),
            Err(_) => {
                let (left, right) = values.split_at(values.len() / 2);
                self.add_wrong(key, left, first, wrong);
                self.add_wrong(key, right, first + left.len(), wrong);
            }
        }
    }

    /// Parses flags as the command line does.
    fn parse(&self, flags: impl IntoIterator<Item = String>) -> Result<(), clap::Error> {
        #[cfg(test)]
        self.parsed.set(self.parsed.get() + 1);
        let line = iter::once(self.name.clone()).chain(flags).map(OsString::from);
        self.parser.borrow_mut().try_get_matches_from_mut(line).map(drop)
    }
}

fn kind_of(flag: &Arg) -> Option<KeyKind> {
    match flag.get_action() {
        ArgAction::SetTrue => Some(KeyKind::Switch),
        ArgAction::Count => Some(KeyKind::Count),
        ArgAction::Set => Some(KeyKind::One),
        ArgAction::Append => Some(KeyKind::Many),
        _ => None,
    }
}

/// Explains that a group has no such key.
pub(super) fn explain_unknown_of_group(key: &str) -> String {
    let all = GROUP_KEYS.join(", ");
    let flags = GROUP_KEYS.map(|name| Arg::new(name).long(name));
    let parser = Command::new("group").args(flags).disable_help_flag(true);
    let written = key.to_lowercase().replace('_', "-");
    let meant = match GROUP_KEYS.contains(&written.as_str()) {
        true => Some(written),
        false => {
            let parsed = parser.try_get_matches_from(["group".to_owned(), format!("--{written}")]);
            parsed.err().as_ref().and_then(suggested)
        }
    };
    match meant {
        Some(meant) => format!("there is no key {key} of a group: did you mean {meant}?"),
        None => format!("there is no key {key} of a group: a group has {all}"),
    }
}

/// Returns the flag that the parser suggests instead of an unknown one.
fn suggested(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::SuggestedArg) else {
        return None;
    };
    flag.strip_prefix("--").map(str::to_owned)
}

/// Returns what is wrong with a value, without the value and the flag.
fn reason(error: &clap::Error) -> String {
    if let Some(ContextValue::Strings(valid)) = error.get(ContextKind::ValidValue)
        && !valid.is_empty()
    {
        return format!("expected {}", valid.join(", "));
    }
    match error.source() {
        Some(source) => source.to_string(),
        None => "expected a value".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_answered_with_the_one_that_was_meant() {
        let keys = ConfigKeys::of("cproxy");
        for (key, meant) in [
            ("dead-afterr", Some("dead-after")),
            ("dead_after", Some("dead-after")),
            ("Dead-After", Some("dead-after")),
            ("sever", Some("server")),
            ("L", Some("local-forward")),
            ("i", Some("identity")),
            ("zzz", None),
        ] {
            let text = keys.explain_unknown(key);
            match meant {
                Some(meant) => {
                    assert!(text.ends_with(&format!(": did you mean {meant}?")), "{text}")
                }
                None => assert!(text.ends_with("see etcp cproxy --help"), "{text}"),
            }
        }
        let text = keys.explain_unknown("permit");
        assert!(text.starts_with("permit is a key of etcp sproxy, not of etcp cproxy"), "{text}");
        assert!(keys.explain_unknown("config").contains("cannot be set in a file"));
        for hidden in ["check-store", "help", "version"] {
            assert!(keys.find(hidden).is_none(), "{hidden}");
        }
    }

    #[test]
    fn an_unknown_key_of_a_group_is_answered_with_the_one_that_was_meant() {
        for (key, meant) in [
            ("key", Some("keys")),
            ("key_files", Some("key-files")),
            ("Permit", Some("permit")),
            ("permit-listn", Some("permit-listen")),
            ("zzz", None),
        ] {
            let text = explain_unknown_of_group(key);
            match meant {
                Some(meant) => assert!(text.ends_with(&format!("did you mean {meant}?")), "{text}"),
                None => assert!(text.contains(": a group has keys, "), "{text}"),
            }
        }
    }

    #[test]
    fn a_value_is_judged_by_the_parser_of_the_flag() {
        let of = |command: &str, key: &str, value: &str| {
            let wrong = ConfigKeys::of(command).wrong_of(key, &[value.to_owned()]);
            wrong.first().map(|(_, why)| why.clone()).unwrap_or_default()
        };
        assert_eq!(of("sproxy", "dead-after", "5s"), "");
        assert_eq!(of("cproxy", "dead-after", "5s"), "");
        assert_eq!(of("sproxy", "mptcp", "perhaps"), "expected auto, on, off");
        assert_eq!(of("sproxy", "dead-after", "0s"), "it must be longer than zero");
        assert_ne!(of("sproxy", "identity", ""), "");
    }

    #[test]
    fn thousands_of_values_are_judged_with_few_runs_of_the_parser() {
        const COUNT: usize = 1 << 13;
        let mut values: Vec<_> = (0..COUNT).map(|at| format!("host-{at}:{at}")).collect();
        values[0] = "host-0:1".to_owned();
        let keys = ConfigKeys::of("sproxy");
        assert_eq!(keys.wrong_of("permit", &values), []);
        assert_eq!(keys.parsed.get(), 1);
        values[4999] = "host".to_owned();
        let wrong = keys.wrong_of("permit", &values);
        assert!(wrong.len() == 1 && wrong[0].0 == 4999, "{wrong:?}");
        assert_eq!(keys.parsed.get(), 2 + 2 * 13, "two for each bisection");
        values.fill("host".to_owned());
        let wrong = keys.wrong_of("permit", &values);
        assert_eq!(wrong.iter().map(|(at, _)| *at).collect::<Vec<_>>(), Vec::from_iter(0..100));
        assert!(keys.parsed.get() < 300, "{}", keys.parsed.get());
    }
}
