//! Writing lines to stderr, whatever state it is in.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, write};

use super::queue::LogItem;

/// The number of bytes that are written at once if writing must not block. A pipe that poll(2)
/// reports as writable takes them all (`PIPE_BUF`), and a terminal usually does.
const PIECE: usize = 512;

/// Whether a write may wait for the reader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wait {
    /// Waits as long as necessary: only for the writer thread.
    Forever,
    /// Never waits: what is not taken now stays in the buffer.
    Never,
}

/// The output end of the log: the rest of a line, and the count of lost lines.
#[derive(Default, Debug)]
pub(super) struct LogOutput {
    /// `None`: stderr.
    to: Option<OwnedFd>,
    /// Bytes that are not written yet.
    rest: Vec<u8>,
    /// Whether `rest` contains a line of the log.
    has_line: bool,
    /// Whether the beginning of `rest` was written.
    is_begun: bool,
    /// The end of the previous write is missing.
    is_torn: bool,
    /// Lost lines that are not reported yet.
    lost: u64,
}

impl LogOutput {
    #[cfg(test)]
    pub(super) fn to(fd: impl Into<OwnedFd>) -> Self {
        Self { to: Some(fd.into()), ..Self::default() }
    }

    /// Writes the next entry once the previous one is written. Returns whether all of it is
    /// written. A line that cannot be written is lost. `notice` creates the line that reports the
    /// number of lost lines, which precedes the next line that can be written.
    pub(super) fn write(
        &mut self,
        entry: LogItem,
        wait: Wait,
        notice: impl FnOnce(u64) -> Vec<u8>,
    ) -> bool {
        let line = match entry {
            LogItem::Line(line) => Some(line),
            LogItem::Lost(count) => {
                self.lost += count;
                None
            }
        };
        let mut text = if self.lost > 0 { notice(self.lost) } else { Vec::new() };
        self.has_line = line.is_some();
        text.extend(line.unwrap_or_default());
        if self.is_torn && !text.is_empty() {
            text.insert(0, b'\n');
        }
        (self.rest, self.is_begun) = (text, false);
        self.flush(wait)
    }

    /// Writes the rest. Returns whether all of it is written or lost.
    pub(super) fn flush(&mut self, wait: Wait) -> bool {
        if self.rest.is_empty() {
            return true;
        }
        while !self.rest.is_empty() {
            match self.write_some(wait) {
                Ok(count) => {
                    self.rest.drain(..count);
                    self.is_begun = true;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if wait == Wait::Never => return false,
                Err(Errno::AGAIN) => {}
                Err(_) => {
                    self.is_torn |= self.is_begun;
                    self.lost += u64::from(self.has_line);
                    self.rest = Vec::new();
                    return true;
                }
            }
        }
        (self.lost, self.is_torn) = (0, false);
        true
    }

    fn write_some(&self, wait: Wait) -> Result<usize, Errno> {
        match wait {
            Wait::Never => {
                self.poll(Some(&Timespec::default()))?;
                write(self.fd(), self.rest.get(..PIECE).unwrap_or(&self.rest))
            }
            // Another process may have made stderr non-blocking, because it is often shared.
            Wait::Forever => match write(self.fd(), &self.rest) {
                Err(Errno::AGAIN) => self.poll(None).and(Err(Errno::AGAIN)),
                result => result,
            },
        }
    }

    /// Waits until something can be written.
    fn poll(&self, limit: Option<&Timespec>) -> Result<(), Errno> {
        let mut fds = [PollFd::from_borrowed_fd(self.fd(), PollFlags::OUT)];
        match poll(&mut fds, limit)? {
            0 => Err(Errno::AGAIN),
            _ => Ok(()),
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match &self.to {
            Some(fd) => fd.as_fd(),
            None => rustix::stdio::stderr(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::Read;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    fn line(text: &str) -> LogItem {
        LogItem::Line(format!("{text}\n").into_bytes())
    }

    fn notice(count: u64) -> Vec<u8> {
        format!("{count} lost\n").into_bytes()
    }

    #[test]
    fn lost_lines_are_counted_and_reported_before_the_next_line() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut output = LogOutput::to(full);
        for text in ["a", "b"] {
            assert!(output.write(line(text), Wait::Forever, notice));
        }
        assert!(output.write(LogItem::Lost(3), Wait::Forever, notice));
        let (read, write) = rustix::pipe::pipe().unwrap();
        output.to = Some(write);
        output.write(line("c"), Wait::Forever, notice);
        output.write(line("d"), Wait::Forever, notice);
        drop(output);
        let mut text = String::new();
        File::from(read).read_to_string(&mut text).unwrap();
        assert_eq!(text, "5 lost\nc\nd\n");
    }

    #[test]
    fn a_gap_is_reported_without_another_line() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let mut output = LogOutput::to(write);
        output.write(line("a"), Wait::Forever, notice);
        output.write(LogItem::Lost(7), Wait::Forever, notice);
        drop(output);
        let mut text = String::new();
        File::from(read).read_to_string(&mut text).unwrap();
        assert_eq!(text, "a\n7 lost\n");
    }

    #[test]
    fn a_pipe_that_is_full_keeps_a_line_for_later_and_none_is_torn() {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        let mut output = LogOutput::to(write);
        let long = "x".repeat(1000);
        let mut written = 0;
        while output.write(line(&long), Wait::Never, notice) {
            written += 1;
        }
        assert!(written > 1 && !output.flush(Wait::Never));
        let mut reader = File::from(read);
        let mut text = vec![0; 10 * 1001];
        reader.read_exact(&mut text).unwrap();
        assert!(output.flush(Wait::Never));
        output.write(line("end"), Wait::Never, notice);
        drop(output);
        reader.read_to_end(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.lines().filter(|line| **line == *long).count(), written + 1);
        assert_eq!(text.lines().last(), Some("end"));
    }

    #[test]
    fn a_stderr_that_others_made_non_blocking_loses_nothing() {
        const LINES: usize = 1000;
        let (read, write) = pipe_with(PipeFlags::empty()).unwrap();
        rustix::io::ioctl_fionbio(&write, true).unwrap();
        let writing = std::thread::spawn(move || {
            let mut output = LogOutput::to(write);
            (0..LINES).for_each(|n| {
                output.write(line(&format!("{n:1000}")), Wait::Forever, notice);
            });
        });
        let mut text = String::new();
        File::from(read).read_to_string(&mut text).unwrap();
        writing.join().unwrap();
        let numbers = text.lines().map(|line| line.trim().parse::<usize>().unwrap());
        assert!(numbers.eq(0..LINES));
    }

    #[test]
    fn a_line_after_one_that_was_torn_begins_a_line_of_its_own() {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        let mut output = LogOutput::to(write);
        while output.write(line(&"x".repeat(1500)), Wait::Never, notice) {}
        assert!(output.is_begun);
        // The reader goes away in the middle of a line, and another one comes.
        drop(read);
        assert!(output.flush(Wait::Never));
        let (read, write) = rustix::pipe::pipe().unwrap();
        output.to = Some(write);
        output.write(line("next"), Wait::Forever, notice);
        drop(output);
        let mut text = String::new();
        File::from(read).read_to_string(&mut text).unwrap();
        assert_eq!(text, "\n1 lost\nnext\n");
    }
}
