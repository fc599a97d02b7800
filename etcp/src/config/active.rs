//! The settings in force, and the changes that a reload makes to them.

use std::collections::{BTreeMap, BTreeSet};

use eternaltcp::control::{ReloadOutcome, ReloadedKey};

use super::fault::{ConfigFault, ConfigPlace};
use super::settings::{Setting, Settings};
use super::{FullLine, ParseError, UserLine, files, servers};
use crate::cli::{GROUP_FLAG, NO_HOLDER, is_group_key, is_limit};
use crate::message;

/// The keys whose values a program can change while it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReloadKeys {
    /// The keys whose new values apply to existing tunnels too.
    pub(crate) applied: &'static [&'static str],
    /// The keys whose new values apply to new tunnels only.
    pub(crate) for_new_tunnels: &'static [&'static str],
}

impl ReloadKeys {
    /// Panics unless each of them is a flag of a command.
    #[cfg(test)]
    pub(crate) fn assert_flags_of(self, command: &str) {
        let mut cli = <crate::cli::Cli as clap::CommandFactory>::command();
        cli.build();
        let command = cli.find_subcommand(command).unwrap();
        for key in self.applied.iter().chain(self.for_new_tunnels) {
            assert!(command.get_arguments().any(|flag| flag.get_long() == Some(key)), "{key}");
        }
    }

    fn outcome(&self, key: &str) -> ReloadOutcome {
        let own = key.rsplit_once('.').map_or("", |(_, own)| own);
        let key = match key {
            // A limit of a group applies as that of the server.
            key if is_group_key(key) && is_limit(own) => own,
            key if is_group_key(key) => GROUP_FLAG,
            key => servers::split_key(key).map_or(key, |(_, own)| own),
        };
        match key {
            key if self.applied.contains(&key) => ReloadOutcome::Applied,
            key if self.for_new_tunnels.contains(&key) => ReloadOutcome::NewTunnels,
            // A program with a holder cannot continue without one.
            NO_HOLDER => ReloadOutcome::NeedsRestart,
            _ => ReloadOutcome::NeedsUpgrade,
        }
    }
}

/// The user's arguments, and the settings of the files that are in force.
#[derive(Clone, Debug)]
pub(crate) struct ActiveConfig {
    line: UserLine,
    settings: Settings,
}

impl ActiveConfig {
    pub(super) fn new(line: UserLine, settings: Settings) -> Self {
        Self { line, settings }
    }

    /// Returns where a file has set a key.
    pub(crate) fn place(&self, key: &str) -> Option<&ConfigPlace> {
        self.settings.get(key).map(|setting| &setting.place)
    }

    /// Reads the files again. Returns the line with which the program continues, and the keys whose
    /// values in the files differ from those in force. A value that cannot be changed while the
    /// program runs stays, except that of a server in `ended`, which is started again.
    pub(crate) fn reread(
        &self,
        keys: ReloadKeys,
        ended: &BTreeSet<String>,
    ) -> Result<(FullLine, Vec<ReloadedKey>), Vec<ConfigFault>> {
        let texts = files::read(&self.line.path)?;
        let new = self.line.read_settings(&texts)?;
        let [before, after] = [&self.settings, &new].map(servers::names);
        if before.is_empty() != after.is_empty() {
            let text = "a running cproxy has either one server or tables of servers: restart it";
            return Err(vec![ConfigFault::new(ConfigPlace::whole(&self.line.path), text)]);
        }
        let is_whole = |key: &str| {
            let name = servers::split_key(key)?.0;
            let is_other = before.contains(name) != after.contains(name);
            (is_other || ended.contains(name)).then(|| servers::whole(name))
        };
        // The files must be right as a whole, whatever can be applied now.
        self.parse(new.clone())?;
        let mut changes = Vec::new();
        let mut next = new.clone();
        let all =
            self.settings.keys().chain(new.keys().filter(|key| !self.settings.contains_key(*key)));
        for key in all {
            let (before, after) = (self.settings.get(key), new.get(key));
            if args_of(before) == args_of(after) {
                continue;
            }
            if let Some(key) = is_whole(key) {
                changes.push(ReloadedKey { key, outcome: ReloadOutcome::Applied });
                continue;
            }
            let outcome = keys.outcome(key);
            changes.push(ReloadedKey { key: key.clone(), outcome });
            if matches!(outcome, ReloadOutcome::NeedsUpgrade | ReloadOutcome::NeedsRestart) {
                next.remove(key);
                next.extend(before.map(|setting| (key.clone(), setting.clone())));
            }
        }
        changes.sort_by(|a, b| a.key.cmp(&b.key));
        changes.dedup();
        Ok((self.parse(next)?, changes))
    }

    /// Returns the settings as bytes, which another process of this program reads.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let args: BTreeMap<_, _> = self.settings.iter().map(|(key, it)| (key, &it.args)).collect();
        // A map of texts can always be written.
        serde_json::to_vec(&args).unwrap_or_default()
    }

    /// Returns the line with these settings instead of the present ones.
    pub(crate) fn with_bytes(&self, bytes: &[u8]) -> Result<FullLine, String> {
        let args: BTreeMap<String, Vec<String>> =
            serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let place = ConfigPlace::whole(&self.line.path);
        let settings =
            args.into_iter().map(|(key, args)| (key, Setting { args, place: place.clone() }));
        self.parse(settings.collect())
            .map_err(|faults| faults.first().map(ToString::to_string).unwrap_or_default())
    }

    fn parse(&self, settings: Settings) -> Result<FullLine, Vec<ConfigFault>> {
        self.line.clone().parse_with(settings).map_err(|error| match error {
            ParseError::Config(faults) => faults,
            ParseError::Usage(error) => {
                let text = message::in_one_line(&error.to_string());
                vec![ConfigFault::new(ConfigPlace::whole(&self.line.path), text)]
            }
        })
    }
}

fn args_of(setting: Option<&Setting>) -> &[String] {
    setting.map(|setting| setting.args.as_slice()).unwrap_or_default()
}
