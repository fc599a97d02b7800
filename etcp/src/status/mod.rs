//! `etcp status`.

mod document;
mod filter;
mod pager;
mod rates;
mod screen;
mod table;
mod totals;
mod watch;

use std::path::PathBuf;
use std::time::SystemTime;

use eternaltcp::control::{AskError, FoundSocket, ProcessStatus};
use eternaltcp::policy::user_name;

use crate::cli::StatusArgs;
use crate::exit::ExitError;
use crate::message::complain;
use crate::{print, running};
use rates::Rates;
use totals::Totals;

pub(crate) fn run(args: StatusArgs) -> Result<(), ExitError> {
    let answers = collect(&args)?;
    answers.failures.iter().for_each(|failure| complain(failure));
    let text = show(&args, &answers.processes, None)?;
    if args.watch { watch::run(args, text) } else { print::all(&text).map(drop) }
}

/// Returns the text for these answers.
fn show(
    args: &StatusArgs,
    processes: &[ProcessStatus],
    rates: Option<&Rates>,
) -> Result<String, ExitError> {
    if args.json {
        return document::json(processes, rates);
    }
    if processes.is_empty() {
        return Ok("no tunnel matches\n".to_owned());
    }
    let mut text = table::render(processes, SystemTime::now(), args.all, rates);
    if let Some(line) = Totals::of(processes, rates).line() {
        text += &format!("\n{line}\n");
    }
    Ok(text)
}

/// The answers of all programs.
struct CollectedStatus {
    processes: Vec<ProcessStatus>,
    /// Messages about programs that do not answer.
    failures: Vec<String>,
}

/// Queries every program, and returns what the user asks for.
fn collect(args: &StatusArgs) -> Result<CollectedStatus, ExitError> {
    let mut answers = query(args.which.control.as_ref())?;
    filter::apply(&args.filter, &mut answers.processes);
    Ok(answers)
}

/// Queries every program. One that does not answer is a failure of the command only if no other one
/// answers.
fn query(control: Option<&PathBuf>) -> Result<CollectedStatus, ExitError> {
    let mut processes = Vec::new();
    let (mut failures, mut denied) = (Vec::new(), None);
    for (proxy, answer) in running::statuses(&running::all_users(control)) {
        match answer {
            Ok(status) => processes.push(ProcessStatus { user: other_user(&proxy), ..status }),
            Err(AskError::Gone) if control.is_none() => {}
            // The socket belongs to a service, which only its user and root may query.
            Err(error @ AskError::Denied) if control.is_none() => {
                denied = Some(running::failure(&proxy, &error));
            }
            Err(error) => failures.push(running::failure(&proxy, &error)),
        }
    }
    if processes.is_empty() {
        return Err(failures.pop().or(denied).unwrap_or_else(running::nothing));
    }
    let failures = failures.iter().map(|failure| failure.text().to_owned()).collect();
    Ok(CollectedStatus { processes, failures })
}

/// Returns the name of a program's user, if that is not this one.
fn other_user(proxy: &FoundSocket) -> Option<String> {
    let user = proxy.user.filter(|user| *user != rustix::process::geteuid().as_raw())?;
    Some(user_name(user).unwrap_or_else(|| user.to_string()))
}
