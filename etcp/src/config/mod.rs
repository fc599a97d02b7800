//! The configuration file of a proxy.
//!
//! A file is another way to write the command line: each key is a flag by its long name, and its
//! value is parsed by that flag. The arguments of the user come first, and replace those of the
//! file.
//!
//! - `active`: the settings in force, and what a reload changes in them;
//! - `files`: which files are read, and their limits;
//! - `keys`: the keys, from the definition of the command line;
//! - `servers`: the tables of several servers;
//! - `settings`: the contents of the files as arguments;
//! - `fault`: the positions and texts of faults.

mod active;
mod fault;
mod files;
mod keys;
mod servers;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, Parser};
use eternaltcp::process::PRIVATE_VARIABLE;

use crate::cli::{self, CONFIG_FLAG, Cli, CliCommand, NamedServer, is_group_key};
use crate::exit::ExitError;
use crate::message;
pub(crate) use active::{ActiveConfig, ReloadKeys};
pub(crate) use fault::{ConfigFault, ConfigPlace};
use files::ConfigText;
use keys::{COMMANDS, ConfigKeys, KeyKind};
pub(crate) use servers::MAX_SERVERS;
use settings::Settings;

/// The reason why there is no command line.
#[derive(Debug)]
pub(crate) enum ParseError {
    /// The arguments are wrong, or ask for the help.
    Usage(clap::Error),
    /// The configuration files are wrong.
    Config(Vec<ConfigFault>),
}

impl From<clap::Error> for ParseError {
    fn from(error: clap::Error) -> Self {
        Self::Usage(error)
    }
}

/// The command line together with the configuration files that it names.
#[derive(Debug)]
pub(crate) struct FullLine {
    pub(crate) cli: Cli,
    pub(crate) origins: Origins,
    /// The settings that a reload compares with the new ones, if the command line names
    /// configuration files.
    pub(crate) active: Option<ActiveConfig>,
}

/// The keys that configuration files have set, and their places.
#[derive(Debug, Default)]
pub(crate) struct Origins(BTreeMap<String, ConfigPlace>);

impl Origins {
    fn of(settings: &Settings) -> Self {
        let places = settings.iter().map(|(key, setting)| (key.clone(), setting.place.clone()));
        Self(places.collect())
    }

    /// Names the place in a file before an error about a flag that is set there.
    pub(crate) fn locate(&self, error: ExitError) -> ExitError {
        match error {
            ExitError::Usage(text) => ExitError::Usage(self.located(text)),
            other => other,
        }
    }

    /// Returns the place of a key, if a file has set it.
    pub(crate) fn find(&self, key: &str) -> Option<&ConfigPlace> {
        self.0.get(key)
    }

    /// Returns the place of a key that a file has set, or that of the file itself.
    pub(crate) fn place(&self, key: &str, path: &Path) -> ConfigPlace {
        self.find(key).cloned().unwrap_or_else(|| ConfigPlace::whole(path))
    }

    /// Returns how many files have set something.
    pub(crate) fn files(&self) -> usize {
        self.0.values().map(ConfigPlace::path).collect::<BTreeSet<_>>().len()
    }

    fn located(&self, text: String) -> String {
        match self.place_of_flag_in(&text) {
            Some(place) => format!("{place}: {text}"),
            None => text,
        }
    }

    /// Returns the place of the first flag in a text that a file has set.
    pub(crate) fn place_of_flag_in(&self, text: &str) -> Option<&ConfigPlace> {
        let is_end = |c: char| !(c.is_ascii_alphanumeric() || c == '-');
        let names = text.split("--").skip(1).filter_map(|rest| rest.split(is_end).next());
        // An error of one of several servers begins with its name.
        let server = text.strip_prefix("server ").and_then(|rest| rest.split(':').next());
        let find = |name| {
            let own = server.and_then(|server| self.0.get(&format!("server.{server}.{name}")));
            own.or_else(|| self.0.get(name))
        };
        names.filter_map(find).next()
    }

    /// Returns an error of the parser as a fault of the file, if a key of the file caused it.
    fn into_error(self, error: clap::Error) -> ParseError {
        let line = message::in_one_line(&error.to_string());
        match self.place_of_flag_in(&line).cloned() {
            Some(place) => ParseError::Config(vec![ConfigFault::new(place, line)]),
            None => ParseError::Usage(error),
        }
    }
}

/// Parses the command line, and the configuration files that it names.
pub(crate) fn parse(args: &[OsString]) -> Result<FullLine, ParseError> {
    let args = cli::separate(args.to_vec());
    let Some(line) = UserLine::parse(&args)? else {
        let cli = Cli::try_parse_from(args)?;
        return Ok(FullLine { cli, origins: Origins::default(), active: None });
    };
    let texts = files::read(&line.path).map_err(ParseError::Config)?;
    line.complete(&texts)
}

/// Parses configuration files as if they were named on a command line without other arguments. The
/// command is the one whose keys they have.
pub(crate) fn inspect(path: &Path) -> Result<FullLine, Vec<ConfigFault>> {
    let texts = files::read(path)?;
    let command = command_of(&texts);
    let args: [OsString; 4] =
        ["etcp".into(), command.into(), format!("--{CONFIG_FLAG}").into(), path.into()];
    let whole = |text: String| vec![ConfigFault::new(ConfigPlace::whole(path), text)];
    let line = UserLine::parse(&args).map_err(|error| whole(error.to_string()))?;
    let Some(line) = line else { return Err(whole("there is no such command".to_owned())) };
    line.complete(&texts).map_err(|error| match error {
        ParseError::Config(faults) => faults,
        ParseError::Usage(error) if error.kind() == ErrorKind::MissingRequiredArgument => {
            let text =
                "cproxy needs a server: write server = \"HOST\", or name it on each command line";
            whole(text.to_owned())
        }
        ParseError::Usage(error) => whole(message::in_one_line(&error.to_string())),
    })
}

/// Returns the command whose keys the files have. If the files have as many keys of each command,
/// `server` decides, because only a client has it.
fn command_of(texts: &[ConfigText]) -> &'static str {
    let counts = COMMANDS.map(|name| settings::count_known(texts, &ConfigKeys::of(name)));
    let names_server = settings::have(texts, "server");
    let is_client = counts[1] > counts[0] || (counts[1] == counts[0] && names_server);
    COMMANDS[usize::from(is_client)]
}

/// The arguments of the user, which name a configuration file.
#[derive(Clone, Debug)]
struct UserLine {
    args: Vec<OsString>,
    /// The name of the command.
    command: String,
    path: PathBuf,
    matches: ArgMatches,
}

impl UserLine {
    /// Returns `None` if the arguments name no configuration file.
    fn parse(args: &[OsString]) -> Result<Option<Self>, clap::Error> {
        let flag = format!("--{CONFIG_FLAG}");
        let is_flag = |arg: &OsString| {
            arg.to_str()
                .and_then(|arg| arg.strip_prefix(&flag))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        };
        if !args.iter().any(is_flag) {
            return Ok(None);
        }
        // What is missing may be in the file.
        let optional =
            Cli::command().mut_subcommands(|command| command.mut_args(|flag| flag.required(false)));
        let mut matches = optional.try_get_matches_from(args)?;
        let Some((command, matches)) = matches.remove_subcommand() else { return Ok(None) };
        // The doctor reads the file of another command.
        if !COMMANDS.contains(&command.as_str()) {
            return Ok(None);
        }
        let path = matches.try_get_one::<PathBuf>(CONFIG_FLAG).ok().flatten().cloned();
        Ok(path.map(|path| Self { args: args.to_vec(), command, path, matches }))
    }

    /// Adds the settings of the files to the arguments, and parses them together.
    fn complete(self, texts: &[ConfigText]) -> Result<FullLine, ParseError> {
        let settings = self.read_settings(texts).map_err(ParseError::Config)?;
        self.parse_with(settings)
    }

    /// Returns the settings of the files that the user's arguments do not replace.
    fn read_settings(&self, texts: &[ConfigText]) -> Result<Settings, Vec<ConfigFault>> {
        let keys = ConfigKeys::of(&self.command);
        let mut settings = settings::read(texts, &keys)?;
        settings.retain(|key, _| !self.replaces(key, &keys));
        self.check_servers(&settings)?;
        Ok(settings)
    }

    /// Checks the tables of servers as a whole.
    fn check_servers(&self, settings: &Settings) -> Result<(), Vec<ConfigFault>> {
        let names = servers::names(settings);
        let whole = |text: String| vec![ConfigFault::new(ConfigPlace::whole(&self.path), text)];
        if names.len() > MAX_SERVERS {
            let text = format!("there are more than {MAX_SERVERS} servers: use another cproxy");
            return Err(whole(text));
        }
        if names.is_empty() {
            return Ok(());
        }
        if let Some(setting) = settings.get(settings::SERVER_KEY) {
            let text = "server stands outside the tables of servers: write it into one of them";
            return Err(vec![ConfigFault::new(setting.place.clone(), text)]);
        }
        let nameless: Vec<_> = names
            .iter()
            .filter_map(|name| servers::without_address(settings, name))
            .map(|(name, place)| {
                let text = format!("server {name} has no address: write server = \"HOST\"");
                ConfigFault::new(place.clone(), text)
            })
            .collect();
        if !nameless.is_empty() {
            return Err(nameless);
        }
        let keys = ConfigKeys::of(&self.command);
        let is_given = |key: &&str| {
            let flag = keys.find(key).map(|(flag, _)| flag.get_id().as_str());
            let source = flag.and_then(|id| self.matches.value_source(id));
            source == Some(ValueSource::CommandLine)
        };
        match servers::OF_SERVER.into_iter().find(is_given) {
            Some(key) => Err(whole(format!(
                "the configuration has tables of servers: write {key} into one of them, instead of --{key} on the command line"
            ))),
            None => Ok(()),
        }
    }

    /// Parses the user's arguments together with these settings.
    fn parse_with(self, settings: Settings) -> Result<FullLine, ParseError> {
        let names = servers::names(&settings);
        let cli = match names.first() {
            None => self.parse_line(&settings)?,
            Some(first) => {
                let mut cli = self.parse_server(&settings, first)?;
                if let CliCommand::Cproxy(args) = &mut cli.command {
                    args.tables = self.parse_servers(&settings)?;
                }
                cli
            }
        };
        let origins = Origins::of(&settings);
        let active = Some(ActiveConfig::new(self, settings));
        Ok(FullLine { cli, origins, active })
    }

    fn parse_line(&self, settings: &Settings) -> Result<Cli, ParseError> {
        let end = self.args.iter().position(|arg| arg == "--").unwrap_or(self.args.len());
        let mut all = self.args.clone();
        let added = settings.values().flat_map(|setting| &setting.args).map(OsString::from);
        all.splice(end..end, added);
        Cli::try_parse_from(all).map_err(|error| Origins::of(settings).into_error(error))
    }

    /// Parses the user's arguments once for each server that has a table.
    fn parse_servers(&self, settings: &Settings) -> Result<Vec<NamedServer>, ParseError> {
        let mut all = Vec::new();
        for name in servers::names(settings) {
            if let CliCommand::Cproxy(args) = self.parse_server(settings, &name)?.command {
                all.push(NamedServer { name, args });
            }
        }
        Ok(all)
    }

    /// Parses the user's arguments for one server.
    fn parse_server(&self, settings: &Settings, name: &str) -> Result<Cli, ParseError> {
        let parsed = self.parse_line(&servers::settings_of(settings, name));
        parsed.map_err(|error| match error {
            ParseError::Config(faults) => {
                ParseError::Config(faults.into_iter().map(|fault| fault.of_server(name)).collect())
            }
            other => other,
        })
    }

    /// Returns whether the user's arguments replace the key of a file. Lists are joined.
    fn replaces(&self, key: &str, keys: &ConfigKeys) -> bool {
        if is_group_key(key) {
            return false;
        }
        let key = servers::split_key(key).map_or(key, |(_, own)| own);
        let Some((flag, kind)) = keys.find(key) else { return true };
        let is_given = |flag: &clap::Arg| {
            self.matches.value_source(flag.get_id().as_str()) == Some(ValueSource::CommandLine)
        };
        // A password on the command line was moved to the environment.
        let is_hidden = key == "proxy" && std::env::var_os(PRIVATE_VARIABLE).is_some();
        (kind != KeyKind::Many && is_given(flag))
            || is_hidden
            || keys.conflicts(flag).into_iter().any(is_given)
    }
}
