//! The groups of a configuration file, as values of a flag that only files set.
//!
//! So they take the same way as all other settings: into the command line, through a reload, and to
//! the next worker.

use std::collections::BTreeMap;
use std::path::PathBuf;

use eternaltcp::policy::{AuthorizedKeys, ListenPermit, Permit};

use super::common::at_home;
use super::group_limits::GroupLimit;

/// The name of the flag, and of the tables in a file.
pub(crate) const GROUP_FLAG: &str = "group";

/// The character between the parts of a value.
const SEPARATOR: char = '\t';

/// One setting of a group.
#[derive(Clone, Debug)]
pub(crate) struct GroupLine {
    pub(crate) name: String,
    pub(crate) setting: GroupSetting,
}

/// The settings that a group can have: any number of each, and each limit once.
#[derive(Clone, Debug)]
pub(crate) enum GroupSetting {
    /// A line of `authorized_keys`.
    Key(String),
    /// A file of such lines.
    KeyFile(PathBuf),
    /// A command that prints such lines.
    Command(String),
    /// A target that the group may name.
    Permit(Permit),
    /// An address on which the group may make the server listen.
    Listen(ListenPermit),
    /// A limit.
    Limit(GroupLimit),
}

/// Returns the value of the flag for a setting of a group.
pub(crate) fn group_line(name: &str, key: &str, value: &str) -> String {
    format!("{name}{SEPARATOR}{key}{SEPARATOR}{value}")
}

/// Returns the name under which reloads and faults report a setting of a group.
pub(crate) fn group_key(name: &str, key: &str) -> String {
    format!("{GROUP_FLAG}.{name}.{key}")
}

/// Returns whether a name of [`group_key`] stands for a setting of a group.
pub(crate) fn is_group_key(name: &str) -> bool {
    name.strip_prefix(GROUP_FLAG).is_some_and(|rest| rest.starts_with('.'))
}

/// Checks the name of a group.
pub(crate) fn check_group_name(name: &str) -> Result<(), String> {
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        return Err(format!("the group {name:?} has no usable name: write [group.NAME]"));
    }
    Ok(())
}

/// Returns the settings of each group.
pub(crate) fn settings_of_groups(lines: &[GroupLine]) -> BTreeMap<&str, Vec<&GroupSetting>> {
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for line in lines {
        groups.entry(line.name.as_str()).or_default().push(&line.setting);
    }
    groups
}

impl GroupLine {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, SEPARATOR);
        let (Some(name), Some(key), Some(value)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err("groups are written into a configuration file".to_owned());
        };
        let setting = match key {
            "keys" => GroupSetting::Key(one_key(value)?),
            "key-files" if value.is_empty() => return Err("expected a file".to_owned()),
            "key-files" => GroupSetting::KeyFile(at_home(value.into())),
            "command" if value.is_empty() => return Err("expected a command".to_owned()),
            "command" => GroupSetting::Command(value.to_owned()),
            "permit" => GroupSetting::Permit(value.parse().map_err(shown)?),
            "permit-listen" => GroupSetting::Listen(value.parse().map_err(shown)?),
            key => GroupSetting::Limit(GroupLimit::parse(key, value)?),
        };
        Ok(Self { name: name.to_owned(), setting })
    }
}

fn shown(error: impl ToString) -> String {
    error.to_string()
}

/// Checks that a text is one line of `authorized_keys` with a usable key.
fn one_key(text: &str) -> Result<String, String> {
    let keys = AuthorizedKeys::parse(text);
    match (keys.warnings().first(), keys.len()) {
        (Some(warning), _) => Err(warning.reason.clone()),
        (None, 1) => Ok(text.to_owned()),
        (None, _) => Err("expected one public key: ssh-ed25519 AAAA... NAME".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDJI+fNTS8Op9glNAAIWDRJ98X2R6P2eM1fi3TEfnVuN ann";

    #[test]
    fn each_setting_of_a_group_is_parsed_as_where_it_comes_from() {
        let line = |key: &str, value: &str| GroupLine::parse(&group_line("dba", key, value));
        for (key, value) in [
            ("keys", KEY),
            ("key-files", "/etc/keys"),
            ("command", "/usr/bin/keys %f"),
            ("permit", "db.example.org:5432"),
            ("permit-listen", "localhost:8080"),
            ("max-sessions", "100"),
            ("tunnel-memory", "8M"),
        ] {
            assert_eq!(line(key, value).unwrap().name, "dba", "{key}");
            assert!(line(key, "").is_err(), "{key}");
        }
        for (key, value) in [
            ("keys", "ssh-ed25519 AAAA"),
            ("keys", format!("{KEY}\n{KEY}").as_str()),
            ("keys", format!("command=\"ls\" {KEY}").as_str()),
            ("permit", "db"),
            ("targets", "db:1"),
            ("max-sessions", "0"),
        ] {
            assert!(line(key, value).is_err(), "{key} {value}");
        }
        assert!(GroupLine::parse("dba").is_err());
    }
}
