//! `etcp reload`.

use eternaltcp::control::{ReloadOutcome, Request, Response};

use crate::cli::ReloadArgs;
use crate::exit::ExitError;
use crate::{message, print, running};

pub(crate) fn run(args: &ReloadArgs) -> Result<(), ExitError> {
    let proxy = running::one(args.which.control.as_ref())?;
    let Response::Reloaded(answer) = running::tell(&proxy, &Request::Reload {})? else {
        return Err(ExitError::Failed(format!("{}: its answer is not about a reload", proxy.name)));
    };
    if !answer.faults.is_empty() {
        answer.faults.iter().for_each(|fault| message::complain(fault));
        return Err(ExitError::Failed(format!("{}: nothing was changed", proxy.name)));
    }
    let read = match answer.is_without_files {
        true => "its keys again; it was started without --config",
        false => "its files again",
    };
    let mut text = format!("{} has read {read}\n", proxy.name);
    for change in answer.changes {
        text += &format!("  {}: {}\n", change.key, outcome_text(change.outcome));
    }
    print::lines(&text)
}

/// Describes whether a new value applies.
pub(crate) fn outcome_text(outcome: ReloadOutcome) -> &'static str {
    match outcome {
        ReloadOutcome::Applied => "applied",
        ReloadOutcome::NewTunnels => "applied to new tunnels",
        ReloadOutcome::NeedsUpgrade => "not applied: run etcp upgrade",
        ReloadOutcome::NeedsRestart => "not applied: it needs a restart, which ends the sessions",
    }
}
