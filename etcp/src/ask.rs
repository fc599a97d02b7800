//! Asking the user, on the terminal, whether to trust a server.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::sync::{Mutex, PoisonError};

use eternaltcp::client::UnknownServer;

/// Held while a question is on the terminal: several servers may be new.
static ASKING: Mutex<()> = Mutex::new(());

/// Asks as ssh does, one question after the other. Without a terminal the answer is no.
pub(crate) fn ask(unknown: &UnknownServer) -> bool {
    let _asking = ASKING.lock().unwrap_or_else(PoisonError::into_inner);
    ask_terminal(unknown).unwrap_or(false)
}

/// Returns whether there is a terminal to ask on.
pub(crate) fn can_ask() -> bool {
    OpenOptions::new().read(true).write(true).open("/dev/tty").is_ok()
}

fn ask_terminal(unknown: &UnknownServer) -> std::io::Result<bool> {
    let mut terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    let fingerprint = unknown.key.fingerprint();
    write!(
        terminal,
        "The server {} is not known.\nIts key is {fingerprint}.\n\
         Connect, and keep the key in {}? (yes/no/[fingerprint]) ",
        unknown.server,
        unknown.known_hosts.display()
    )?;
    let mut answers = BufReader::new(terminal.try_clone()?).lines();
    loop {
        match answers.next().transpose()?.as_deref().map(str::trim) {
            Some("yes") => return Ok(true),
            // The user typed or pasted the fingerprint from a trusted source.
            Some(answer) if answer == fingerprint => return Ok(true),
            Some("no") | None => return Ok(false),
            Some(_) => write!(terminal, "Please type yes, no or the fingerprint: ")?,
        }
    }
}
