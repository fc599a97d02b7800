//! `etcp check`: reports whether a proxy could be started with a configuration file, and what the
//! file configures.
//!
//! The files that it names are read, too, but nothing is listened on, connected or created.

use std::fs::File;
use std::path::{Path, PathBuf};

use eternaltcp::address::Listen;
use eternaltcp::policy::{StrictModes, load_authorized_keys};
use eternaltcp::report::counted;
use eternaltcp::tls::{Identity, PrivateFile};

use crate::cli::{
    AuditPlace, CheckArgs, CliCommand, CproxyArgs, GroupLine, GroupSetting, NamedServer,
    SproxyArgs, YesNo, group_key, settings_of_groups,
};
use crate::config::{self, ConfigFault, ConfigPlace, Origins};
use crate::exit::ExitError;
use crate::metrics::check_address;
use crate::proxy::ProxyChoice;
use crate::{audit, cproxy, message, paths, print, sproxy};

pub(crate) fn run(args: &CheckArgs) -> Result<(), ExitError> {
    let path = &args.file;
    let checked = config::inspect(path).and_then(|line| {
        let mut findings = Findings {
            path,
            origins: line.origins,
            server: None,
            faults: Vec::new(),
            lines: Vec::new(),
        };
        let name = match line.cli.command {
            CliCommand::Sproxy(args) => findings.check_server(args).map(|()| "sproxy"),
            CliCommand::Cproxy(args) => findings.check_clients(args).map(|()| "cproxy"),
            _ => Ok("neither"),
        };
        match name {
            Ok(name) if findings.faults.is_empty() => Ok(findings.summary(name)),
            Ok(_) => Err(findings.faults),
            Err(error) => {
                findings.add_error("", error);
                Err(findings.faults)
            }
        }
    });
    match checked {
        Ok(lines) => print::lines(&lines),
        Err(faults) => {
            message::faults(&faults);
            Err(ExitError::Ended(1))
        }
    }
}

/// The findings about a configuration file so far.
struct Findings<'a> {
    path: &'a Path,
    origins: Origins,
    /// The server of several that is being checked.
    server: Option<String>,
    faults: Vec<ConfigFault>,
    /// Lines that describe the effect of the file.
    lines: Vec<String>,
}

impl Findings<'_> {
    /// Adds a fault at the key that caused it.
    fn add(&mut self, key: &str, text: impl Into<String>) {
        let place = self.place(key);
        self.faults.push(ConfigFault::new(place, self.of_server(text.into())));
    }

    fn place(&self, key: &str) -> ConfigPlace {
        let own = self.server.as_ref().map(|name| format!("server.{name}.{key}"));
        let own = own.and_then(|own| self.origins.find(&own).cloned());
        own.unwrap_or_else(|| self.origins.place(key, self.path))
    }

    /// Returns a text with the name of the server that it is about.
    fn of_server(&self, text: String) -> String {
        match &self.server {
            Some(name) => format!("server {name}: {text}"),
            None => text,
        }
    }

    /// Adds a fault that the proxy would report, at the first flag that its text names, or else at
    /// `key`.
    fn add_error(&mut self, key: &str, error: ExitError) {
        let text = self.of_server(error.text().to_owned());
        let place = self.origins.place_of_flag_in(&text).cloned();
        let place = place.unwrap_or_else(|| self.place(key));
        self.faults.push(ConfigFault::new(place, text));
    }

    fn take<T>(&mut self, key: &str, result: Result<T, ExitError>) -> Option<T> {
        result.map_err(|error| self.add_error(key, error)).ok()
    }

    fn check_server(&mut self, args: SproxyArgs) -> Result<(), ExitError> {
        self.take("dead-after", sproxy::tunnel_config(&args.tunnel));
        self.take("listen", sproxy::carrier_addresses(&args.listen));
        self.lines
            .push(format!("listens on {}; the default target is {}", args.listen, args.target));
        self.lines.push(match joined(&args.permit).as_str() {
            "" => "permits no other target".to_owned(),
            permits => format!("permits {permits}"),
        });
        let listens = joined(&args.permit_listen);
        if !listens.is_empty() {
            self.lines.push(format!("permits listening (-R) on {listens}"));
        }
        self.take("metrics", check_address(args.operator.metrics.as_ref(), [&args.listen]));
        self.add_metrics(args.operator.metrics.as_ref());
        let is_strict = args.strict_modes == YesNo::Yes;
        for keys in sproxy::key_files(&args)? {
            self.check_authorized("authorized-keys", &keys, is_strict);
        }
        if let Some(command) = &args.authorized_keys_command {
            self.lines.push(format!("admits keys that {command:?} prints"));
        }
        self.check_groups(&args.group, is_strict);
        let own = args.identity.clone().map_or_else(paths::server_identity, Ok)?;
        // Whoever checks the file is often not the user of the service.
        let whose =
            if args.identity.is_some() { "" } else { " (a service: in its own state folder)" };
        self.check_server_key(&own, whose);
        let records = &args.audit.audit_log;
        if self.take("audit-log", audit::inspect(records)).is_some() && !records.is_empty() {
            // A relative path is relative to the folder in which the server is started.
            let is_relative =
                |place: &AuditPlace| matches!(place, AuditPlace::File(path) if path.is_relative());
            let whose = match records.iter().any(is_relative) {
                true => " (a service: in its own log folder)",
                false => "",
            };
            self.lines.push(format!("records what it does in {}{whose}", joined(records)));
        }
        if self.faults.is_empty() {
            for command in self.take("", sproxy::check(args)).unwrap_or_default() {
                if let Err(error) = command.check() {
                    self.add(&command.key(), error.to_string());
                }
            }
        }
        Ok(())
    }

    fn add_metrics(&mut self, metrics: Option<&Listen>) {
        self.lines.extend(metrics.map(|at| format!("serves metrics on {at}")));
    }

    /// Checks the admitted keys. As for sproxy, a line that admits nobody is no fault: it may be meant
    /// for sshd.
    fn check_authorized(&mut self, key: &str, path: &Path, is_strict: bool) {
        let modes = is_strict.then(StrictModes::of_this_user);
        match load_authorized_keys(path, modes.as_ref()) {
            Ok(keys) => {
                for warning in keys.warnings() {
                    let (path, line) = (path.display(), warning.line);
                    message::complain(&format!("warning: {path}:{line}: {}", warning.reason));
                }
                let count = counted(keys.len(), "key", "keys");
                self.lines.push(format!("admits {count} of {}", path.display()));
            }
            Err(error) => self.add(key, error.to_string()),
        }
    }

    fn check_groups(&mut self, lines: &[GroupLine], is_strict: bool) {
        for (name, settings) in settings_of_groups(lines) {
            let (mut keys, mut permits, mut limits) = (0, Vec::new(), String::new());
            for setting in settings {
                match setting {
                    GroupSetting::Key(_) => keys += 1,
                    GroupSetting::KeyFile(path) => {
                        self.check_authorized(&group_key(name, "key-files"), path, is_strict);
                    }
                    GroupSetting::Command(line) => {
                        self.lines.push(format!("group {name}: keys that {line:?} prints"));
                    }
                    GroupSetting::Permit(permit) => permits.push(permit.to_string()),
                    GroupSetting::Listen(permit) => permits.push(format!("-R {permit}")),
                    GroupSetting::Limit(limit) => limits += &format!("; {}", limit.text),
                }
            }
            let (count, permits) = (counted(keys, "key", "keys"), permits.join(", "));
            let permits = if permits.is_empty() { "nothing more" } else { &permits };
            self.lines
                .push(format!("group {name}: {count} in the file; permits {permits}{limits}"));
        }
    }

    fn check_server_key(&mut self, path: &Path, whose: &str) {
        let shown = format!("{}{whose}", path.display());
        if !path.exists() {
            return self.lines.push(format!("creates its key at its first start: {shown}"));
        }
        match Identity::load(path) {
            Ok(own) => {
                self.lines
                    .push(format!("its key is {} of {shown}", own.public_key().fingerprint()));
            }
            Err(error) => self.add("identity", error.to_string()),
        }
    }

    fn check_clients(&mut self, args: CproxyArgs) -> Result<(), ExitError> {
        let metrics = args.operator.metrics.clone();
        self.check_each_client(args)?;
        self.add_metrics(metrics.as_ref());
        Ok(())
    }

    fn check_each_client(&mut self, args: CproxyArgs) -> Result<(), ExitError> {
        if args.tables.is_empty() {
            return self.check_client(&args);
        }
        for NamedServer { name, args } in &args.tables {
            self.lines.push(format!("server {name}:"));
            self.server = Some(name.clone());
            let first = self.lines.len();
            self.check_client(args)?;
            self.lines[first..].iter_mut().for_each(|line| line.insert_str(0, "  "));
        }
        self.server = None;
        if self.faults.is_empty() {
            self.take("server", cproxy::check(args));
        }
        Ok(())
    }

    fn check_client(&mut self, args: &CproxyArgs) -> Result<(), ExitError> {
        self.take("dead-after", sproxy::tunnel_config(&args.server.tunnel));
        self.take("congestion", sproxy::check_congestion(args.server.congestion.as_ref()));
        self.take("proxy", ProxyChoice::of(args.server.proxy.as_deref()));
        self.lines.push(format!("connects to {}", joined(&args.server.server)));
        if let Some(lines) = self.take("remote-forward", cproxy::describe_forwards(args)) {
            self.lines.extend(lines);
        }
        for path in &args.server.identity {
            // A passphrase is asked for only at the start.
            if let Err(error) = PrivateFile::read(path) {
                self.add("identity", error.to_string());
            }
        }
        let none = PathBuf::from("none");
        let config = args.server.ssh_config.as_ref().filter(|path| **path != none);
        for (key, path) in
            [("known-hosts", args.server.known_hosts.as_ref()), ("ssh-config", config)]
        {
            if let Some((path, error)) = path.and_then(|path| Some((path, File::open(path).err()?)))
            {
                self.add(key, format!("cannot read {}: {error}", path.display()));
            }
        }
        Ok(())
    }

    fn summary(&self, name: &str) -> String {
        let count = self.origins.files();
        let more = if count > 1 { format!(" ({count} files)") } else { String::new() };
        let mut text = format!("{}{more} is right. With it, etcp {name}:\n", self.path.display());
        self.lines.iter().for_each(|line| text += &format!("  {line}\n"));
        text
    }
}

fn joined<T: ToString>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
