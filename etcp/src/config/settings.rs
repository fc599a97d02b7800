//! The settings of configuration files, as arguments of the command line.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{ConfigFault, ConfigPlace, FaultList};
use super::files::ConfigText;
use super::keys::{ConfigKeys, KeyKind, explain_unknown_of_group};
use crate::cli::{GROUP_FLAG, GROUP_KEYS, check_group_name, group_key, group_line, is_limit};

/// The key of the tables of servers, which outside of them is the flag for the only server.
pub(super) const SERVER_KEY: &str = "server";

/// The highest value of a key that counts repetitions.
const MAX_COUNT: i64 = 9;

/// The values of one key, and where the last of them is written.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) args: Vec<String>,
    pub(super) place: ConfigPlace,
}

/// The values of all keys.
pub(super) type Settings = BTreeMap<String, Setting>;

/// Reads the settings of all files. Of several files that set a key, the last one counts; lists are
/// joined. All faults of all files are returned.
pub(super) fn read(texts: &[ConfigText], keys: &ConfigKeys) -> Result<Settings, Vec<ConfigFault>> {
    let (mut settings, mut faults) = (Settings::new(), Vec::new());
    for ConfigText { path, text } in texts {
        let mut reader =
            SettingsReader { keys, list: FaultList::new(path, text), settings: &mut settings };
        reader.read(text);
        faults.extend(reader.list.into_faults());
    }
    faults.sort();
    if faults.is_empty() { Ok(settings) } else { Err(faults) }
}

/// Returns how many keys in the files are keys of a command.
pub(super) fn count_known(texts: &[ConfigText], keys: &ConfigKeys) -> usize {
    let is_known =
        |key: &str| keys.find(key).is_some() || (key == GROUP_FLAG && keys.have_groups());
    names(texts).iter().filter(|key| is_known(key)).count()
}

/// Returns whether one of the files sets a key.
pub(super) fn have(texts: &[ConfigText], key: &str) -> bool {
    names(texts).iter().any(|name| name == key)
}

/// Returns the names of all keys in the files.
fn names(texts: &[ConfigText]) -> Vec<String> {
    let tables = texts.iter().map(|text| DeTable::parse_recoverable(&text.text).0);
    tables
        .flat_map(|table| {
            table.get_ref().keys().map(|key| key.get_ref().to_string()).collect::<Vec<_>>()
        })
        .collect()
}

/// Reads the settings of one file.
pub(super) struct SettingsReader<'a> {
    pub(super) keys: &'a ConfigKeys,
    pub(super) list: FaultList<'a>,
    settings: &'a mut Settings,
}

impl SettingsReader<'_> {
    fn read(&mut self, text: &str) {
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let message = error.message().replace('\n', ", ");
            self.list.add(&error.span().unwrap_or_default(), message);
        }
        for (key, value) in table.get_ref() {
            if self.list.is_full() {
                return;
            }
            // A line with a syntax error has no reliable content.
            if !self.list.has_at_line_of(&key.span()) {
                self.set(key.get_ref(), &key.span(), value);
            }
        }
    }

    fn set(&mut self, key: &str, at: &Range<usize>, value: &Spanned<DeValue<'_>>) {
        if key == GROUP_FLAG && self.keys.have_groups() {
            return self.set_groups(at, value);
        }
        let is_table = matches!(value.get_ref(), DeValue::Table(_));
        if key == SERVER_KEY && is_table && self.keys.find(key).is_some() {
            return self.set_servers(value);
        }
        let Some((_, kind)) = self.keys.find(key) else {
            return self.list.add(at, self.keys.explain_unknown(key));
        };
        let Some(args) = self.args(key, kind, value) else { return };
        self.insert(key, at, kind, args);
    }

    pub(super) fn insert(
        &mut self,
        key: &str,
        at: &Range<usize>,
        kind: KeyKind,
        args: Vec<String>,
    ) {
        let place = self.list.place(at);
        let earlier = self.settings.remove(key).filter(|_| kind == KeyKind::Many);
        let earlier = earlier.map(|setting| setting.args).unwrap_or_default();
        let args = earlier.into_iter().chain(args).collect();
        self.settings.insert(key.to_owned(), Setting { args, place });
    }

    /// Returns the arguments that mean the same as a key with its value, or `None` after a fault.
    pub(super) fn args(
        &mut self,
        key: &str,
        kind: KeyKind,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<Vec<String>> {
        let (span, found) = (value.span(), value.get_ref());
        match (kind, found) {
            (KeyKind::Switch, DeValue::Boolean(is_set)) => {
                Some(is_set.then(|| format!("--{key}")).into_iter().collect())
            }
            (KeyKind::Switch, _) => self.refuse(&span, format!("{key}: write true or false")),
            (KeyKind::Count, _) => match number(found).filter(|it| (0..=MAX_COUNT).contains(it)) {
                Some(times) => Some((0..times).map(|_| format!("--{key}")).collect()),
                None => self.refuse(&span, format!("{key}: write a number from 0 to {MAX_COUNT}")),
            },
            // An empty list looks like "nothing", and would mean the default.
            (KeyKind::Many, DeValue::Array(values)) if values.is_empty() => self.refuse(
                &span,
                format!("{key} is an empty list: write its values, or leave it out"),
            ),
            (KeyKind::Many, DeValue::Array(values)) => self.all_args(key, values.iter()),
            (KeyKind::One, DeValue::Array(_)) => self
                .refuse(&span, format!("{key} takes one value, not a list: remove the brackets")),
            (KeyKind::One | KeyKind::Many, _) => self.all_args(key, [value]),
        }
    }

    /// Returns the arguments for the values of a key, or `None` after a fault in one of them.
    fn all_args<'v>(
        &mut self,
        key: &str,
        values: impl IntoIterator<Item = &'v Spanned<DeValue<'v>>>,
    ) -> Option<Vec<String>> {
        let (mut spans, mut texts, mut is_right) = (Vec::new(), Vec::new(), true);
        for value in values {
            match self.text(key, value) {
                Some(text) => {
                    spans.push(value.span());
                    texts.push(text);
                }
                None => is_right = false,
            }
        }
        let wrong = self.keys.wrong_of(key, &texts);
        for (at, why) in &wrong {
            let text = format!("invalid value {:?} for {key}: {why}", texts[*at]);
            self.list.add(&spans[*at], text);
        }
        is_right &= wrong.is_empty();
        is_right.then(|| texts.iter().map(|text| format!("--{key}={text}")).collect())
    }

    /// Returns what follows the flag for one value.
    fn text(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<String> {
        let span = value.span();
        Some(match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(_) => match number(value.get_ref()) {
                Some(number) => number.to_string(),
                None => return self.refuse(&span, format!("{key}: the number is too large")),
            },
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Boolean(is_true) => is_true.to_string(),
            DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                return self.refuse(&span, format!("{key}: write the value as a text in quotes"));
            }
        })
    }

    /// Sets the groups of a table: `[group.NAME]`.
    fn set_groups(&mut self, at: &Range<usize>, value: &Spanned<DeValue<'_>>) {
        let DeValue::Table(groups) = value.get_ref() else {
            return self.list.add(at, "write a table for each group: [group.NAME]");
        };
        for (name, group) in groups {
            let DeValue::Table(settings) = group.get_ref() else {
                self.list.add(&name.span(), "write a table for each group: [group.NAME]");
                continue;
            };
            if let Err(why) = check_group_name(name.get_ref()) {
                self.list.add(&name.span(), why);
                continue;
            }
            if settings.is_empty() {
                let text = format!("group {} is empty: fill it, or remove it", name.get_ref());
                self.list.add(&name.span(), text);
            }
            for (key, value) in settings {
                if self.list.is_full() {
                    return;
                }
                if !GROUP_KEYS.contains(&key.get_ref().as_ref()) {
                    self.list.add(&key.span(), explain_unknown_of_group(key.get_ref()));
                    continue;
                }
                let args = self.group_args(name.get_ref(), key.get_ref(), value);
                let setting = group_key(name.get_ref(), key.get_ref());
                self.insert(&setting, &key.span(), KeyKind::Many, args);
            }
        }
    }

    fn group_args(&mut self, name: &str, key: &str, value: &Spanned<DeValue<'_>>) -> Vec<String> {
        let values = match value.get_ref() {
            DeValue::Array(values) => values.iter().collect(),
            _ => vec![value],
        };
        if values.is_empty() {
            let text = format!("{key} is an empty list: write its values, or leave it out");
            self.list.add(&value.span(), text);
        }
        if is_limit(key) && matches!(value.get_ref(), DeValue::Array(_)) {
            let text = format!("{key} takes one value, not a list: remove the brackets");
            self.list.add(&value.span(), text);
            return Vec::new();
        }
        let (mut spans, mut texts) = (Vec::new(), Vec::new());
        for value in values {
            let text = match value.get_ref() {
                DeValue::String(text) => text.to_string(),
                found if is_limit(key) && number(found).is_some() => {
                    number(found).unwrap_or_default().to_string()
                }
                _ => {
                    self.list.add(&value.span(), format!("{key}: write a text in quotes"));
                    continue;
                }
            };
            spans.push(value.span());
            texts.push(text);
        }
        let lines: Vec<_> = texts.iter().map(|text| group_line(name, key, text)).collect();
        for (at, why) in self.keys.wrong_of(GROUP_FLAG, &lines) {
            let text = format!("invalid value {:?} for {key} of group {name}: {why}", texts[at]);
            self.list.add(&spans[at], text);
        }
        lines.iter().map(|line| format!("--{GROUP_FLAG}={line}")).collect()
    }

    fn refuse<T>(&mut self, span: &Range<usize>, text: String) -> Option<T> {
        self.list.add(span, text);
        None
    }
}

fn number(value: &DeValue<'_>) -> Option<i64> {
    let DeValue::Integer(number) = value else { return None };
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}
