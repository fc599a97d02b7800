//! The tables of servers in a file of cproxy: `[server.NAME]`.
//!
//! Each key in a table is a flag, as outside of it. A key that stands outside applies to every server
//! whose table does not have it.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

use super::fault::ConfigPlace;
use super::settings::{SERVER_KEY, Settings, SettingsReader};

/// The maximum number of servers: each has its place in the memory of the holder.
pub(crate) const MAX_SERVERS: usize = 32;

/// The longest name of a server.
const MAX_NAME: usize = 64;

/// The keys of the process, which stand outside the tables.
const OF_PROCESS: [&str; 6] =
    ["control", "log-format", "metrics", "no-holder", "on-event", "verbose"];

/// The flags that belong to one server, and so into its table.
pub(super) const OF_SERVER: [&str; 6] =
    [SERVER_KEY, "dynamic-forward", "listen", "local-forward", "remote-forward", "transparent"];

/// Returns the name under which settings, reloads and faults know a key of a server's table.
fn key_of(name: &str, key: &str) -> String {
    format!("{SERVER_KEY}.{name}.{key}")
}

/// Returns the name of the server and the key, if a setting is in the table of a server.
pub(super) fn split_key(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix(SERVER_KEY)?.strip_prefix('.')?.split_once('.')
}

/// Returns the name under which a reload reports a whole server.
pub(super) fn whole(name: &str) -> String {
    format!("{SERVER_KEY}.{name}")
}

/// Returns the names of all servers that have tables.
pub(super) fn names(settings: &Settings) -> BTreeSet<String> {
    settings.keys().filter_map(|key| Some(split_key(key)?.0.to_owned())).collect()
}

/// Returns the settings of one server: those of its table, and those that stand outside.
pub(super) fn settings_of(settings: &Settings, name: &str) -> Settings {
    let outside = settings.iter().filter(|(key, _)| split_key(key).is_none());
    let mut own: Settings = outside.map(|(key, it)| (key.clone(), it.clone())).collect();
    for (key, setting) in settings {
        match split_key(key) {
            Some((server, key)) if server == name => {
                own.insert(key.to_owned(), setting.clone());
            }
            _ => {}
        }
    }
    own
}

/// Returns a server whose table has no address, with the place of a key of its table.
pub(super) fn without_address<'a>(
    settings: &'a Settings,
    name: &'a str,
) -> Option<(&'a str, &'a ConfigPlace)> {
    if settings.contains_key(&key_of(name, SERVER_KEY)) {
        return None;
    }
    let is_of = |key: &str| split_key(key).is_some_and(|(server, _)| server == name);
    let (_, setting) = settings.iter().find(|(key, _)| is_of(key))?;
    Some((name, &setting.place))
}

impl SettingsReader<'_> {
    /// Sets the servers of a table: `[server.NAME]`.
    pub(super) fn set_servers(&mut self, value: &Spanned<DeValue<'_>>) {
        let DeValue::Table(servers) = value.get_ref() else { return };
        for (name, server) in servers {
            let at = name.span();
            let DeValue::Table(settings) = server.get_ref() else {
                self.list.add(&at, "write a table for each server: [server.NAME]");
                continue;
            };
            let name: &str = name.get_ref();
            if let Err(why) = check_name(name) {
                self.list.add(&at, why);
                continue;
            }
            if settings.is_empty() {
                self.list.add(&at, format!("server {name} is empty: fill it, or remove it"));
            }
            for (key, value) in settings {
                if self.list.is_full() {
                    return;
                }
                self.set_in(name, key.get_ref(), &key.span(), value);
            }
        }
    }

    /// Sets a key in the table of a server.
    fn set_in(&mut self, name: &str, key: &str, at: &Range<usize>, value: &Spanned<DeValue<'_>>) {
        self.list.enter(Some(name));
        if OF_PROCESS.contains(&key) {
            let text = format!("{key} applies to the whole program: write it above all tables");
            self.list.add(at, text);
        } else if let Some((_, kind)) = self.keys.find(key) {
            if let Some(args) = self.args(key, kind, value) {
                self.insert(&key_of(name, key), at, kind, args);
            }
        } else {
            self.list.add(at, self.keys.explain_unknown(key));
        }
        self.list.enter(None);
    }
}

/// Checks the name of a server, which people write on command lines.
fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match (1..=MAX_NAME).contains(&name.len()) && name.chars().all(is_plain) {
        true => Ok(()),
        false => Err(format!(
            "{name:?} is no name for a server: use up to {MAX_NAME} letters, digits, - and _"
        )),
    }
}
