//! Changes the title of a terminal, and restores it.

use std::env;
use std::fs::File;
use std::io::{ErrorKind, IsTerminal, Write, stderr, stdin, stdout};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use eternaltcp::clean;
use rustix::fs::OFlags;
use rustix::process::getpgrp;
use rustix::termios::tcgetpgrp;

/// Terminals that have a title and keep a stack of titles, or ignore both requests: the beginnings of
/// `TERM`. The console of Linux, for example, would show parts of them.
const TITLED: [&str; 16] = [
    "xterm",
    "tmux",
    "rxvt",
    "alacritty",
    "foot",
    "kitty",
    "wezterm",
    "ghostty",
    "contour",
    "vte",
    "gnome",
    "konsole",
    "iterm",
    "mintty",
    "putty",
    "st-",
];

/// The longest name of a host that is shown.
const MAX_HOST: usize = 64;

/// Pushes the title on the terminal's stack of titles; pops it.
const SAVE: &str = "\x1b[22;0t";
const RESTORE: &str = "\x1b[23;0t";

/// Returns whether the user sits at a terminal with a title that ssh is about to use.
pub(crate) fn is_wanted() -> bool {
    let is_interactive = stdin().is_terminal() && stdout().is_terminal() && stderr().is_terminal();
    is_interactive
        && env::var("TERM").is_ok_and(|term| has_title(&term, env::var_os("TMUX").is_some()))
}

fn has_title(term: &str, is_tmux: bool) -> bool {
    // In GNU screen, a title cannot be restored. tmux may use the same name.
    let is_tmux = is_tmux && term.starts_with("screen");
    is_tmux || term == "st" || TITLED.iter().any(|name| term.starts_with(name))
}

/// The title of the controlling terminal.
#[derive(Debug)]
pub(crate) struct TerminalTitle {
    /// Its own descriptor, which does not block: a terminal that was stopped (^S) takes nothing.
    terminal: File,
    host: String,
    is_shown: bool,
    /// The rest of a sequence that the terminal took in part. It goes first.
    rest: Vec<u8>,
}

impl TerminalTitle {
    /// Returns the title of the controlling terminal, in which `host` is named, if there is one.
    pub(crate) fn open(host: &str) -> Option<Self> {
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let flags = flags.bits().cast_signed();
        let terminal = File::options().write(true).custom_flags(flags).open("/dev/tty").ok()?;
        Some(Self::of(terminal, host))
    }

    fn of(terminal: File, host: &str) -> Self {
        let host = clean(host).chars().take(MAX_HOST).collect();
        Self { terminal, host, is_shown: false, rest: Vec::new() }
    }

    /// Shows the time since the last contact.
    pub(super) fn show(&mut self, silence: Duration) {
        if !self.is_foreground() {
            return;
        }
        let save = if self.is_shown { "" } else { SAVE };
        let text = format!("{save}\x1b]2;{}\x07", text(silence, &self.host));
        self.is_shown |= self.write(&text);
    }

    /// Restores the title that the terminal had before, if it was changed.
    pub(super) fn restore(&mut self) {
        if self.is_shown {
            self.is_shown = !self.write(RESTORE);
        }
    }

    /// Returns whether this process belongs to the command that has the terminal now. ssh may have
    /// been suspended (`~^Z`): then the shell draws its prompt.
    fn is_foreground(&self) -> bool {
        tcgetpgrp(&self.terminal).is_ok_and(|group| group == getpgrp())
    }

    /// Writes a sequence at once. Returns whether the terminal took it: all of it, or its beginning,
    /// after which the rest follows before anything else.
    fn write(&mut self, sequence: &str) -> bool {
        let is_waiting = !self.rest.is_empty();
        let mut bytes = std::mem::take(&mut self.rest);
        bytes.extend_from_slice(sequence.as_bytes());
        match self.terminal.write(&bytes) {
            Ok(count @ 1..) => {
                self.rest = bytes.split_off(count);
                true
            }
            Ok(0) => self.keep(bytes, sequence, is_waiting),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.keep(bytes, sequence, is_waiting)
            }
            // The terminal is gone.
            Err(_) => false,
        }
    }

    /// Keeps the rest of an earlier sequence, without the new one.
    fn keep(&mut self, mut bytes: Vec<u8>, sequence: &str, is_waiting: bool) -> bool {
        if is_waiting {
            bytes.truncate(bytes.len() - sequence.len());
            self.rest = bytes;
        }
        false
    }
}

impl Drop for TerminalTitle {
    fn drop(&mut self) {
        self.restore();
    }
}

/// The title: the time first, because a narrow tab shows only the beginning.
fn text(silence: Duration, host: &str) -> String {
    let seconds = silence.as_secs();
    let ago = match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    };
    format!("last contact {ago} ago: {host}")
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::OwnedFd;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    fn title(host: &str) -> (TerminalTitle, File) {
        let (reader, writer): (OwnedFd, OwnedFd) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        (TerminalTitle::of(writer.into(), host), reader.into())
    }

    #[test]
    fn only_terminals_with_a_stack_of_titles_get_one() {
        for term in ["xterm-256color", "xterm-kitty", "tmux-256color", "foot", "st"] {
            assert!(has_title(term, false), "{term}");
        }
        for term in ["", "dumb", "linux", "vt100", "screen", "screen-256color", "stv52"] {
            assert!(!has_title(term, false), "{term}");
        }
        assert!(has_title("screen-256color", true));
        assert!(!has_title("dumb", true));
    }

    #[test]
    fn the_title_begins_with_the_time_and_has_no_control_characters() {
        let of = |seconds| text(Duration::from_secs(seconds), "me@host");
        assert_eq!(of(12), "last contact 12 s ago: me@host");
        assert_eq!(of(130), "last contact 2 min ago: me@host");
        assert_eq!(of(7300), "last contact 2 h ago: me@host");
        let (title, _reader) = title("a\x1b]2;b\x07c");
        assert!(!title.host.contains(['\x1b', '\x07']), "{:?}", title.host);
    }

    #[test]
    fn each_title_that_was_saved_is_restored_once() {
        let (mut title, mut reader) = title("host");
        title.is_shown |= title.write(SAVE);
        title.restore();
        title.restore();
        drop(title);
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        assert_eq!(said, format!("{SAVE}{RESTORE}"));
    }

    #[test]
    fn a_terminal_that_takes_nothing_is_not_waited_for_and_gets_no_half_sequence() {
        let (mut title, mut reader) = title("host");
        let full = vec![b'x'; 1 << 20];
        while title.terminal.write(&full).is_ok() {}
        assert!(!title.write("sequence"));
        title.rest = b"ce1".to_vec();
        assert!(!title.write("sequence2"));
        assert_eq!(title.rest, b"ce1", "only what was begun is completed");
        let mut buffer = vec![0; 2 << 20];
        while reader.read(&mut buffer).is_ok() {}
        assert!(title.write("sequence3"));
        let count = reader.read(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"ce1sequence3");
    }
}
