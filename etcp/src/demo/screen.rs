//! The output for the user: lines that stay, and one live line on a terminal.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use eternaltcp::report::bytes;
use rustix::stdio::stdout;

use crate::exit::ExitError;
use crate::{print, stdio};

/// Interval at which the live line is drawn.
const FRAME: Duration = Duration::from_millis(80);

/// Cells of the progress bar.
const BAR: usize = 16;

/// Returns to the line's first column, and clears the line.
const CLEAR: &str = "\r\x1b[K";

/// A text's colour, where colours are available.
#[derive(Clone, Copy, Debug)]
pub(super) enum Paint {
    Plain,
    Good,
    Bad,
}

/// The progress of the demo.
#[derive(Clone, Copy, Debug)]
pub(super) struct DemoProgress<'a> {
    /// Deaths so far, and in total.
    pub(super) done: usize,
    pub(super) planned: usize,
    /// Correct bytes that arrived at the target and at the application.
    pub(super) received: [u64; 2],
    /// The current state.
    pub(super) state: &'a str,
}

/// The standard output. The demo continues if nobody reads it; if it cannot be written,
/// [`Self::check`] reports that.
#[derive(Debug)]
pub(super) struct Screen {
    is_terminal: bool,
    has_colours: bool,
    drawn: Option<Instant>,
    /// The first write that failed.
    trouble: Option<io::Error>,
}

impl Screen {
    /// Uses a live line only on a terminal, and colours unless `NO_COLOR` is set.
    pub(super) fn new() -> Self {
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            is_terminal: stdout().is_terminal() && !is_dumb,
            has_colours: stdio::has_colours(stdout()),
            drawn: None,
            trouble: None,
        }
    }

    /// Prints a line that stays.
    pub(super) fn line(&mut self, paint: Paint, text: &str) {
        let clear = if self.drawn.take().is_some() { CLEAR } else { "" };
        let (before, after) = match paint {
            Paint::Good if self.has_colours => ("\x1b[32m", "\x1b[0m"),
            Paint::Bad if self.has_colours => ("\x1b[31m", "\x1b[0m"),
            _ => ("", ""),
        };
        self.write(&format!("{clear}{before}{text}{after}\n"));
    }

    fn write(&mut self, text: &str) {
        if self.trouble.is_none() {
            self.trouble = stdio::write_stdout(text.as_bytes()).err();
        }
    }

    /// Fails if some output could not be written.
    pub(super) fn check(&mut self) -> Result<(), ExitError> {
        print::is_read(self.trouble.take().map_or(Ok(()), Err)).map(drop)
    }

    /// Draws the live line if there is one and it is due.
    pub(super) fn progress(&mut self, progress: &DemoProgress<'_>) {
        if !self.is_terminal || self.drawn.is_some_and(|at| at.elapsed() < FRAME) {
            return;
        }
        self.drawn = Some(Instant::now());
        let size = rustix::termios::tcgetwinsize(stdout());
        // A full last column would wrap.
        let width = size.map_or(80, |size| usize::from(size.ws_col).max(2)) - 1;
        let text: String = draw(progress).chars().take(width).collect();
        self.write(&format!("{CLEAR}{text}"));
    }
}

fn draw(progress: &DemoProgress<'_>) -> String {
    let DemoProgress { done, planned, received: [up, down], state } = *progress;
    let filled = (BAR * done).checked_div(planned).unwrap_or(BAR).min(BAR);
    format!(
        "[{}{}] {done}/{planned}  up {}, down {}  {state}",
        "#".repeat(filled),
        ".".repeat(BAR - filled),
        bytes(up),
        bytes(down),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills_up() {
        let at = |done| {
            let progress = DemoProgress { done, planned: 14, received: [1_000_000, 0], state: "" };
            draw(&progress)
        };
        assert_eq!(at(0), format!("[{}] 0/14  up 1.0 MB, down 0 B  ", ".".repeat(BAR)));
        assert!(at(7).starts_with("[########........] 7/14"));
        assert!(at(14).starts_with(&format!("[{}]", "#".repeat(BAR))));
    }
}
