//! `etcp reconnect`.

use eternaltcp::control::Request;

use crate::cli::ReconnectArgs;
use crate::exit::ExitError;
use crate::{print, running};

pub(crate) fn run(args: ReconnectArgs) -> Result<(), ExitError> {
    let control = args.which.control.as_ref();
    let found = match args.server {
        // Only a cproxy has servers with names.
        Some(_) => vec![running::one(control)?],
        None => running::clients(control)?,
    };
    for proxy in found {
        running::tell(&proxy, &Request::Reconnect { server: args.server.clone() })?;
        let to = args.server.as_ref().map_or_else(String::new, |server| format!(" to {server}"));
        print::line(&format!("{} connects again{to}", proxy.name))?;
    }
    Ok(())
}
