//! `etcp status`.

mod table;

use std::io::{IsTerminal, stdout};
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use eternaltcp::control::{AskError, FoundSocket, ProcessStatus, VERSION};
use eternaltcp::policy::user_name;
use serde::Serialize;

use crate::cli::StatusArgs;
use crate::exit::ExitError;
use crate::logging::escape_json;
use crate::message::complain;
use crate::{print, running};

/// Interval between two updates.
const TICK: Duration = Duration::from_secs(1);

pub(crate) fn run(args: StatusArgs) -> Result<(), ExitError> {
    let mut text = show(&args)?;
    if !args.watch {
        return print::all(&text).map(drop);
    }
    loop {
        let screen = if stdout().is_terminal() && !args.json { redraw(&text) } else { text };
        if !print::all(&screen)? {
            return Ok(());
        }
        sleep(TICK);
        text = match show(&args) {
            Ok(text) => text,
            // They may come back.
            Err(_) if args.json => json(&[])?,
            Err(failure) => format!("{}\n", failure.text()),
        };
    }
}

fn show(args: &StatusArgs) -> Result<String, ExitError> {
    let processes = collect(args.which.control.as_ref())?;
    if args.json {
        return json(&processes);
    }
    Ok(table::render(&processes, SystemTime::now(), args.all))
}

/// The output of `--json`.
#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    processes: &'a [ProcessStatus],
}

fn json(processes: &[ProcessStatus]) -> Result<String, ExitError> {
    let document = Document { version: VERSION, processes };
    let line = serde_json::to_string(&document).map_err(ExitError::failed)?;
    Ok(format!("{}\n", escape_json(&line)))
}

/// Queries every proxy. A proxy that does not answer causes a message, and is a failure only if no
/// other proxy answers.
fn collect(control: Option<&PathBuf>) -> Result<Vec<ProcessStatus>, ExitError> {
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
    failures.iter().for_each(|failure| complain(failure.text()));
    Ok(processes)
}

/// Returns the name of a program's user, if that is not this one.
fn other_user(proxy: &FoundSocket) -> Option<String> {
    let user = proxy.user.filter(|user| *user != rustix::process::geteuid().as_raw())?;
    Some(user_name(user).unwrap_or_else(|| user.to_string()))
}

/// Returns the text that replaces the terminal's contents, as far as it fits.
fn redraw(text: &str) -> String {
    let size = rustix::termios::tcgetwinsize(stdout());
    let (rows, columns) = size.map_or((0, 0), |size| (size.ws_row, size.ws_col));
    let room = |cells: u16| if cells > 1 { usize::from(cells) } else { usize::MAX };
    format!("\x1b[H{}\x1b[J", fitting(text, room(rows) - 1, room(columns)))
}

/// Cuts `text` to a number of rows and columns; a longer row would wrap. Each row clears the rest
/// of its line.
fn fitting(text: &str, rows: usize, columns: usize) -> String {
    let cut = |line: &str| line.chars().take(columns).collect::<String>();
    text.lines().take(rows).map(|line| format!("{}\x1b[K\n", cut(line))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_do_not_fit_the_terminal_are_cut() {
        let text = "one\nzwölf\nthree\n";
        assert_eq!(fitting(text, 2, 4), "one\x1b[K\nzwöl\x1b[K\n");
        assert_eq!(fitting(text, usize::MAX, usize::MAX).lines().count(), 3);
    }
}
