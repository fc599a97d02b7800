//! The servers of a command line, and everything that a client of each needs.

use std::collections::BTreeMap;

use eternaltcp::client::{ClientConfig, MOVE_WITHIN, RemoteForward};
use tracing::error;

use super::addresses::TakenAddresses;
use super::forwards::Rule;
use super::{client_config, remotes, rules};
use crate::cli::{CproxyArgs, NamedServer};
use crate::exit::ExitError;

/// A server of the command line, whose settings are right as far as the command line shows.
pub(super) struct ServerPlan {
    /// Its name, if there are several.
    pub(super) name: Option<String>,
    /// Forwards whose listeners are on this machine.
    pub(super) rules: Vec<Rule>,
    /// Forwards whose listeners are at the server.
    pub(super) remotes: Vec<RemoteForward>,
    args: CproxyArgs,
}

/// A server, and the configuration of its client.
pub(super) struct ServerSetup {
    pub(super) name: Option<String>,
    pub(super) rules: Vec<Rule>,
    pub(super) remotes: Vec<RemoteForward>,
    pub(super) config: ClientConfig,
    /// The settings that the configuration was made of.
    origin: String,
}

impl ServerPlan {
    /// Returns all servers, whose forwards have different addresses.
    pub(super) fn all(mut args: CproxyArgs) -> Result<Vec<Self>, ExitError> {
        let tables = std::mem::take(&mut args.tables);
        if tables.is_empty() {
            return Ok(vec![Self::new(None, args)?]);
        }
        let mut plans: Vec<Self> = Vec::new();
        for NamedServer { name, args } in tables {
            let plan = Self::new(Some(name.clone()), args);
            plans.push(plan.map_err(|error| named(Some(&name), error))?);
        }
        Self::check_apart(&plans)?;
        Ok(plans)
    }

    fn new(name: Option<String>, args: CproxyArgs) -> Result<Self, ExitError> {
        let (rules, remotes) = (rules(&args)?, remotes(&args)?);
        Ok(Self { name, rules, remotes, args })
    }

    /// Checks that no two servers listen on the same address.
    fn check_apart(plans: &[Self]) -> Result<(), ExitError> {
        let mut taken = TakenAddresses::new();
        for Self { name, rules, .. } in plans {
            let name = name.as_deref().unwrap_or_default();
            for Rule { listen, kind } in rules {
                if let Some((_, other)) = taken.find(listen) {
                    let flag = kind.flag();
                    let error = ExitError::Usage(format!(
                        "{flag} {listen}: server {other} listens there already: give each its own address"
                    ));
                    return Err(named(Some(name), error));
                }
            }
            rules.iter().for_each(|rule| taken.add(&rule.listen, name));
        }
        Ok(())
    }

    /// Makes the configuration of the client: this may ask ssh. Errors name the server.
    pub(super) fn set_up(self) -> Result<ServerSetup, ExitError> {
        let origin = self.origin();
        let Self { name, rules, remotes, args } = self;
        let local = rules.iter().map(|rule| rule.listen.to_string());
        let remote = remotes.iter().map(|remote| format!("R:{}", remote.forward.listen));
        let own_name = local.chain(remote).collect::<Vec<_>>().join(",");
        let config = client_config(args.server, own_name);
        let mut config = config.map_err(|error| named(name.as_deref(), error))?;
        (config.max_waiting, config.wait) = (args.max_waiting, args.wait);
        config.move_within = Some(MOVE_WITHIN);
        Ok(ServerSetup { name, rules, remotes, config, origin })
    }

    /// Returns a text that identifies the settings of the connection: equal settings have equal
    /// texts.
    fn origin(&self) -> String {
        format!("{:?} {} {:?}", self.args.server, self.args.max_waiting, self.args.wait)
    }
}

/// Returns the servers with the settings that an earlier worker has reloaded. `first` are those of the
/// start of the program: their configurations are used again, because nothing of them was asked since.
pub(super) fn reloaded(
    args: CproxyArgs,
    first: Vec<ServerSetup>,
) -> Result<Vec<ServerSetup>, ExitError> {
    let mut first: BTreeMap<_, _> =
        first.into_iter().map(|setup| (setup.name.clone(), setup)).collect();
    let mut setups = Vec::new();
    for plan in ServerPlan::all(args)? {
        let origin = plan.origin();
        let known = first.remove(&plan.name);
        match known.filter(|known| plan.name.is_none() || known.origin == origin) {
            Some(known) => {
                let ServerPlan { rules, remotes, .. } = plan;
                setups.push(ServerSetup { rules, remotes, ..known });
            }
            // The other servers must not wait for this one.
            None => match plan.set_up() {
                Ok(setup) => setups.push(setup),
                Err(error) => error!("{}; the other servers continue", error.text()),
            },
        }
    }
    Ok(setups)
}

/// Returns an error of a server with its name.
pub(super) fn named(name: Option<&str>, error: ExitError) -> ExitError {
    let Some(name) = name else { return error };
    let text = format!("server {name}: {}", error.text());
    match error {
        ExitError::Usage(_) => ExitError::Usage(text),
        ExitError::Refused(_) => ExitError::Refused(text),
        ExitError::NotStarted(_, code) => ExitError::NotStarted(text, code),
        other @ ExitError::Ended(_) => other,
        ExitError::Failed(_) => ExitError::Failed(text),
    }
}
