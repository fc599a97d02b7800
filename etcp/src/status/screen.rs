//! The terminal during `etcp status --watch`: its other screen, and its keys.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;

use eternaltcp_sys::readable;
use rustix::fs::OFlags;
use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::unix::AsyncFd;

use super::pager::{Room, Scroll};
use crate::stdio;

/// Uses the other screen and hides the cursor; the opposite.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// The longest sequence of a key.
const KEYS: usize = 64;

/// A request of the user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ScreenKey {
    Quit,
    Suspend,
    Scroll(Scroll),
}

/// A terminal that is as before when this is dropped.
#[derive(Debug)]
pub(super) struct WatchScreen {
    /// Its own descriptor: the shell's must not become non-blocking. `None` without a controlling
    /// terminal.
    keys: Option<AsyncFd<OwnedFd>>,
    saved: Option<Termios>,
}

impl WatchScreen {
    /// Takes the terminal, on the current runtime.
    pub(super) fn open() -> Self {
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let file =
            File::options().read(true).custom_flags(flags.bits().cast_signed()).open("/dev/tty");
        let keys = file.and_then(|file| readable(file.into())).ok();
        let mut screen = Self { keys, saved: None };
        screen.enter();
        screen
    }

    fn enter(&mut self) {
        if let Some(keys) = &self.keys
            && let Ok(modes) = tcgetattr(keys)
        {
            let mut single = modes.clone();
            // Keys arrive one by one, and are not shown. ^C and ^Z are keys, too, so that the
            // terminal can be left in order.
            single.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
            if tcsetattr(keys, OptionalActions::Now, &single).is_ok() {
                self.saved = Some(modes);
            }
        }
        let _ = stdio::write_stdout(ENTER.as_bytes());
    }

    fn leave(&mut self) {
        let _ = stdio::write_stdout(LEAVE.as_bytes());
        if let (Some(keys), Some(saved)) = (&self.keys, self.saved.take()) {
            let _ = tcsetattr(keys, OptionalActions::Drain, &saved);
        }
    }

    /// Stops this process, as ^Z does, and takes the terminal again when it continues.
    pub(super) fn suspend(&mut self) {
        self.leave();
        let _ = kill_process(getpid(), Signal::TSTP);
        self.enter();
    }

    /// Returns the size of the terminal.
    pub(super) fn room() -> Room {
        let size = tcgetwinsize(io::stdout());
        size.map_or(Room::of(0, 0), |size| Room::of(size.ws_row, size.ws_col))
    }

    /// Waits for keys that mean something. Cancel-safe.
    pub(super) async fn keys(&self) -> Vec<ScreenKey> {
        let Some(terminal) = &self.keys else { return std::future::pending().await };
        loop {
            let Ok(mut ready) = terminal.readable().await else { return vec![ScreenKey::Quit] };
            let mut buffer = [0; KEYS];
            match ready.try_io(|terminal| Ok(rustix::io::read(terminal, &mut buffer)?)) {
                // The terminal is gone.
                Ok(Ok(0)) => return vec![ScreenKey::Quit],
                Ok(Ok(count)) => {
                    let keys = parse(buffer.get(..count).unwrap_or_default());
                    if !keys.is_empty() {
                        return keys;
                    }
                }
                Ok(Err(error)) if error.kind() != ErrorKind::Interrupted => {
                    return vec![ScreenKey::Quit];
                }
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }
}

impl Drop for WatchScreen {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Returns the requests that these bytes stand for. A sequence of a key arrives in one piece.
fn parse(mut bytes: &[u8]) -> Vec<ScreenKey> {
    const SEQUENCES: [(&[u8], Scroll); 12] = [
        (b"\x1b[A", Scroll::Lines(-1)),
        (b"\x1bOA", Scroll::Lines(-1)),
        (b"\x1b[B", Scroll::Lines(1)),
        (b"\x1bOB", Scroll::Lines(1)),
        (b"\x1b[5~", Scroll::Pages(-1)),
        (b"\x1b[6~", Scroll::Pages(1)),
        (b"\x1b[H", Scroll::Start),
        (b"\x1bOH", Scroll::Start),
        (b"\x1b[1~", Scroll::Start),
        (b"\x1b[F", Scroll::End),
        (b"\x1bOF", Scroll::End),
        (b"\x1b[4~", Scroll::End),
    ];
    let mut keys = Vec::new();
    while let [first, rest @ ..] = bytes {
        if let Some((sequence, scroll)) = SEQUENCES.iter().find(|(it, _)| bytes.starts_with(it)) {
            keys.push(ScreenKey::Scroll(*scroll));
            bytes = &bytes[sequence.len()..];
            continue;
        }
        match first {
            // The sequence of another key.
            b'\x1b' => return keys,
            // ^C and ^\.
            b'q' | b'Q' | 3 | 28 => keys.push(ScreenKey::Quit),
            26 => keys.push(ScreenKey::Suspend),
            b'j' | b'\r' | b'\n' => keys.push(ScreenKey::Scroll(Scroll::Lines(1))),
            b'k' => keys.push(ScreenKey::Scroll(Scroll::Lines(-1))),
            b' ' | b'f' => keys.push(ScreenKey::Scroll(Scroll::Pages(1))),
            b'b' => keys.push(ScreenKey::Scroll(Scroll::Pages(-1))),
            b'g' => keys.push(ScreenKey::Scroll(Scroll::Start)),
            b'G' => keys.push(ScreenKey::Scroll(Scroll::End)),
            _ => {}
        }
        bytes = rest;
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_a_pager_and_others_are_ignored() {
        assert_eq!(parse(b"q"), [ScreenKey::Quit]);
        assert_eq!(parse(b"\x03"), [ScreenKey::Quit]);
        assert_eq!(parse(b"\x1a"), [ScreenKey::Suspend]);
        assert_eq!(
            parse(b"x\x1b[Bxk"),
            [Scroll::Lines(1), Scroll::Lines(-1)].map(ScreenKey::Scroll)
        );
        assert_eq!(
            parse(b" \x1b[5~G"),
            [Scroll::Pages(1), Scroll::Pages(-1), Scroll::End].map(ScreenKey::Scroll)
        );
        assert_eq!(parse(b"\x1b[24~q"), [], "F12 is one key");
    }
}
