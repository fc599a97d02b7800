//! The servers that are examined: that of the command line, or those of a configuration file.

use std::path::{Path, PathBuf};

use eternaltcp::address::ServerAddress;

use crate::cli::{CliCommand, NamedServer, ServerArgs};
use crate::config::{self, ConfigFault};
use crate::exit::ExitError;

/// A server that is examined.
#[derive(Debug)]
pub(super) struct Patient {
    /// Its name in the configuration file, if that has several.
    pub(super) name: Option<String>,
    pub(super) server: ServerArgs,
}

/// Returns the server of the command line, or those of the configuration file that it names.
pub(super) fn all(
    config: Option<PathBuf>,
    host: Option<ServerAddress>,
    mut server: ServerArgs,
) -> Result<Vec<Patient>, ExitError> {
    let Some(path) = config else {
        server.server.splice(0..0, host);
        return Ok(vec![Patient { name: None, server }]);
    };
    let all = of_file(&path)?;
    choose(all, &server.server, &path)
}

/// Returns the servers of a configuration file of cproxy.
fn of_file(path: &Path) -> Result<Vec<Patient>, ExitError> {
    let line = config::inspect(path).map_err(|faults| {
        let faults: Vec<_> = faults.iter().map(ConfigFault::to_string).collect();
        ExitError::Usage(faults.join("; "))
    })?;
    let CliCommand::Cproxy(args) = line.cli.command else {
        return Err(ExitError::Usage(format!("{} configures no cproxy", path.display())));
    };
    if args.tables.is_empty() {
        return Ok(vec![Patient { name: None, server: args.server }]);
    }
    let named = args.tables.into_iter();
    let patient = |NamedServer { name, args }| Patient { name: Some(name), server: args.server };
    Ok(named.map(patient).collect())
}

/// Returns the servers with these names, or all if no name is given.
fn choose(
    all: Vec<Patient>,
    wanted: &[ServerAddress],
    path: &Path,
) -> Result<Vec<Patient>, ExitError> {
    let known: Vec<_> = all.iter().filter_map(|patient| patient.name.as_deref()).collect();
    let file = path.display();
    for ServerAddress { host, .. } in wanted {
        if known.is_empty() {
            let text = format!("{file} has no tables of servers: --server has nothing to choose");
            return Err(ExitError::Usage(text));
        }
        if !known.contains(&host.as_str()) {
            let known = known.join(", ");
            let text = format!("{file} has no server {host}: it has {known}");
            return Err(ExitError::Usage(text));
        }
    }
    let is_wanted = |patient: &Patient| {
        wanted.is_empty() || wanted.iter().any(|it| Some(&it.host) == patient.name.as_ref())
    };
    Ok(all.into_iter().filter(is_wanted).collect())
}
