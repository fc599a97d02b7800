//! What the user sees: lines that stay, and one that lives on a terminal.

use std::io::{IsTerminal, Stdout, Write, stdout};
use std::time::{Duration, Instant};

use eternaltcp::report::bytes;

/// How often the live line is drawn.
const FRAME: Duration = Duration::from_millis(80);

/// Cells of the progress bar.
const BAR: usize = 16;

/// Returns to the line's first column, and clears the line.
const CLEAR: &str = "\r\x1b[K";

/// A text's colour, where there are colours.
#[derive(Clone, Copy, Debug)]
pub(super) enum Paint {
    Plain,
    Good,
    Bad,
}

/// How far the show is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress<'a> {
    /// Deaths so far, and in all.
    pub(super) done: usize,
    pub(super) planned: usize,
    /// Right bytes that arrived at the target and at the application.
    pub(super) received: [u64; 2],
    /// What is going on.
    pub(super) state: &'a str,
}

/// The standard output. Nobody may be there to read it: that is no reason to
/// stop, so errors are not looked at.
#[derive(Debug)]
pub(super) struct Screen {
    out: Stdout,
    is_terminal: bool,
    has_colours: bool,
    drawn: Option<Instant>,
}

impl Screen {
    /// A live line only on a terminal, and colours unless `NO_COLOR` is set.
    pub(super) fn new() -> Self {
        let out = stdout();
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let is_terminal = out.is_terminal() && !is_dumb;
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|text| !text.is_empty());
        Self { out, is_terminal, has_colours: is_terminal && !no_color, drawn: None }
    }

    /// A line that stays.
    pub(super) fn line(&mut self, paint: Paint, text: &str) {
        let clear = if self.drawn.take().is_some() { CLEAR } else { "" };
        let (before, after) = match paint {
            Paint::Good if self.has_colours => ("\x1b[32m", "\x1b[0m"),
            Paint::Bad if self.has_colours => ("\x1b[31m", "\x1b[0m"),
            _ => ("", ""),
        };
        let _ = writeln!(self.out, "{clear}{before}{text}{after}");
        let _ = self.out.flush();
    }

    /// Draws the live line, if there is one and it is time.
    pub(super) fn progress(&mut self, progress: &Progress<'_>) {
        if !self.is_terminal || self.drawn.is_some_and(|at| at.elapsed() < FRAME) {
            return;
        }
        self.drawn = Some(Instant::now());
        let size = rustix::termios::tcgetwinsize(&self.out);
        // A full last column would wrap.
        let width = size.map_or(80, |size| usize::from(size.ws_col).max(2)) - 1;
        let text: String = draw(progress).chars().take(width).collect();
        let _ = write!(self.out, "{CLEAR}{text}");
        let _ = self.out.flush();
    }
}

fn draw(progress: &Progress<'_>) -> String {
    let Progress { done, planned, received: [up, down], state } = *progress;
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
            let progress = Progress { done, planned: 14, received: [1_000_000, 0], state: "" };
            draw(&progress)
        };
        assert_eq!(at(0), format!("[{}] 0/14  up 1.0 MB, down 0 B  ", ".".repeat(BAR)));
        assert!(at(7).starts_with("[########........] 7/14"));
        assert!(at(14).starts_with(&format!("[{}]", "#".repeat(BAR))));
    }
}
