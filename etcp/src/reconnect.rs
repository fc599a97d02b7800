//! `etcp reconnect`.

use eternaltcp::control::Request;

use crate::cli::ReconnectArgs;
use crate::exit::ExitError;
use crate::{print, running};

pub(crate) fn run(args: ReconnectArgs) -> Result<(), ExitError> {
    for proxy in running::clients(args.which.control.as_ref())? {
        running::tell(&proxy, &Request::Reconnect {})?;
        print::line(&format!("{} connects again", proxy.name))?;
    }
    Ok(())
}
