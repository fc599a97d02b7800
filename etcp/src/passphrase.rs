//! Asks for a passphrase, on the terminal without echo or with `$SSH_ASKPASS`.

use std::env;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use eternaltcp::process::as_started;
use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use zeroize::Zeroizing;

/// The longest passphrase.
const MAX_PASSPHRASE: usize = 1023;
/// The byte that Ctrl-C sends.
const INTERRUPT: u8 = 3;

/// A terminal whose echo is off, and its previous settings.
static CHANGED: Mutex<Option<(File, Termios)>> = Mutex::new(None);

/// Asks for a passphrase, as ssh does. Returns `None` if there is no way to ask.
///
/// # Errors
/// The terminal or the program fails, or its user cancels.
pub(crate) fn ask(prompt: &str) -> io::Result<Option<Zeroizing<String>>> {
    let require = env::var("SSH_ASKPASS_REQUIRE").unwrap_or_default();
    let has_screen = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| env::var_os(name).is_some());
    let program = env::var_os("SSH_ASKPASS").filter(|_| require != "never");
    let is_forced = require == "force";
    let is_first = is_forced || require == "prefer";
    if let Some(program) = program.as_ref().filter(|_| is_first) {
        return ask_program(program, prompt).map(Some);
    }
    if let Some(terminal) = open_terminal().filter(|_| !is_forced) {
        return ask_terminal(terminal, prompt).map(Some);
    }
    match program {
        Some(program) if has_screen => ask_program(&program, prompt).map(Some),
        _ => Ok(None),
    }
}

/// Turns the terminal's echo on again if the program ends while it asks.
pub(crate) fn restore() {
    let changed = CHANGED.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some((terminal, before)) = changed {
        // The requester is gone.
        let _ = tcsetattr(&terminal, OptionalActions::Flush, &before);
    }
}

/// Opens the terminal of this process, if it has one.
pub(crate) fn open_terminal() -> Option<File> {
    OpenOptions::new().read(true).write(true).open("/dev/tty").ok()
}

fn ask_program(program: &std::ffi::OsStr, prompt: &str) -> io::Result<Zeroizing<String>> {
    let failed = |error: io::Error| {
        io::Error::new(error.kind(), format!("SSH_ASKPASS={}: {error}", program.display()))
    };
    let mut command = Command::new(program);
    command.arg(prompt).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = as_started(&mut command).spawn().map_err(failed)?;
    let answer = match child.stdout.take() {
        Some(pipe) => read_line(pipe),
        None => Ok(Zeroizing::default()),
    };
    match child.wait().map_err(failed)?.success() {
        true => answer,
        false => Err(failed(io::Error::other("it was cancelled"))),
    }
}

/// Reads from the terminal. Ctrl-C ends the line here, so that the terminal is never left without
/// echo.
fn ask_terminal(mut terminal: File, prompt: &str) -> io::Result<Zeroizing<String>> {
    let before = tcgetattr(&terminal)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
    silent.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
    *CHANGED.lock().unwrap_or_else(PoisonError::into_inner) = Some((terminal.try_clone()?, before));
    let result = tcsetattr(&terminal, OptionalActions::Flush, &silent)
        .map_err(io::Error::from)
        .and_then(|()| terminal.write_all(prompt.as_bytes()))
        .and_then(|()| read_line(&terminal));
    restore();
    let _ = terminal.write_all(b"\n");
    if matches!(&result, Err(error) if error.kind() == io::ErrorKind::Interrupted) {
        // Raise the signal that Ctrl-C means everywhere else.
        let _ = kill_process(getpid(), Signal::INT);
    }
    result
}

/// Reads one line, without its end.
fn read_line(mut from: impl Read) -> io::Result<Zeroizing<String>> {
    // Allocated at full size: growing would leave copies in memory.
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_PASSPHRASE));
    let mut byte = Zeroizing::new([0]);
    loop {
        match from.read(byte.as_mut_slice()) {
            Ok(0) => break,
            Ok(_) if byte[0] == b'\n' => break,
            Ok(_) if byte[0] == INTERRUPT => {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted"));
            }
            Ok(_) if line.len() == MAX_PASSPHRASE => {
                return Err(io::Error::other("a passphrase has at most 1023 bytes"));
            }
            Ok(_) => line.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let text = std::str::from_utf8(&line).map_err(io::Error::other)?;
    Ok(Zeroizing::new(text.trim_end_matches('\r').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_is_one_line_of_bounded_length() {
        let read = |text: &[u8]| read_line(text).map(|line| line.to_string());
        assert_eq!(read(b"se cret\nmore").unwrap(), "se cret");
        assert_eq!(read(b"cut off").unwrap(), "cut off");
        assert_eq!(read(b"windows\r\n").unwrap(), "windows");
        assert_eq!(read(b"half\x03").unwrap_err().kind(), io::ErrorKind::Interrupted);
        assert!(read(&[b'x'; 2000]).is_err() && read(b"\xff\n").is_err());
    }
}
