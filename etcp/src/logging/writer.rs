//! The only place that writes to stderr while the program works: a thread behind a queue.
//!
//! A terminal in Ctrl-S, a pipe without a reader and a hanging disk block every writer.
//! Here only this thread blocks. If no thread can be started, lines are written as far as that does
//! not block, and starting the thread is tried again.

use std::cell::RefCell;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use eternaltcp::process::write_from_background;
use tracing::warn;

use super::output::{LogOutput, Wait};
use super::queue::LogQueue;

/// The writer thread's stack: it formats at most one line.
const STACK: usize = 256 << 10;

/// Interval at which starting the thread is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Interval at which `finish` checks whether everything is written, if there is no thread.
const LOOK: Duration = Duration::from_millis(10);

/// Lines on their way to stderr.
#[derive(Default, Debug)]
pub(super) struct LogWriter {
    state: Mutex<WriterState>,
    /// Notified when there is something to write.
    filled: Condvar,
    /// Notified when everything is written.
    drained: Condvar,
    /// Locked while something is written.
    output: Mutex<LogOutput>,
}

#[derive(Default, Debug)]
struct WriterState {
    queue: LogQueue,
    /// Something is being written.
    is_busy: bool,
    thread: Thread,
}

#[derive(Default, Debug)]
enum Thread {
    #[default]
    None,
    /// The process must not have threads.
    Held,
    Failed(Instant),
    Runs,
}

thread_local! {
    /// Lines that the writer thread itself logs.
    static OWN: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

impl WriterState {
    /// Returns whether the thread has something left to write.
    fn is_pending(&mut self) -> bool {
        self.is_busy || !self.queue.is_empty()
    }
}

impl LogWriter {
    /// Sets whether no thread may be started now. A running thread continues.
    pub(super) fn hold_thread(&self, is_held: bool) {
        let mut state = self.lock();
        state.thread = match (&state.thread, is_held) {
            (Thread::None, true) => Thread::Held,
            (Thread::Held, false) => Thread::None,
            _ => return,
        };
    }

    /// Adds a line of the log. Never waits for the reader of the log.
    pub(super) fn push(self: &Arc<Self>, line: &[u8]) {
        let is_own = OWN.with_borrow_mut(|own| match own {
            Some(own) => {
                own.extend_from_slice(line);
                true
            }
            None => false,
        });
        if !is_own {
            self.add(|queue| queue.push(line.to_vec()));
        }
    }

    /// Adds a line of the program itself, even if the log is full.
    pub(super) fn push_urgent(self: &Arc<Self>, line: &str) {
        self.add(|queue| queue.push_urgent(line.as_bytes().to_vec()));
    }

    fn add(self: &Arc<Self>, push: impl FnOnce(&mut LogQueue)) {
        let mut state = self.lock();
        push(&mut state.queue);
        if !matches!(state.thread, Thread::Runs) {
            self.start_thread(&mut state);
        }
        let has_thread = matches!(state.thread, Thread::Runs);
        drop(state);
        if has_thread {
            self.filled.notify_one();
        } else {
            self.write_without_waiting();
        }
    }

    fn start_thread(self: &Arc<Self>, state: &mut WriterState) {
        match state.thread {
            Thread::Held => return,
            Thread::Failed(since) if since.elapsed() < AGAIN => return,
            _ => {}
        }
        let writer = Arc::clone(self);
        let thread = thread::Builder::new().name("log".to_owned()).stack_size(STACK);
        state.thread = match thread.spawn(move || writer.run()) {
            Ok(_) => Thread::Runs,
            Err(_) => Thread::Failed(Instant::now()),
        };
    }

    /// Runs the thread.
    fn run(&self) {
        write_from_background();
        let mut state = self.lock();
        loop {
            state.is_busy = false;
            if state.queue.is_empty() {
                self.drained.notify_all();
            }
            let Some(entry) = state.queue.pop() else {
                state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.is_busy = true;
            drop(state);
            let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
            // Data whose write began before the thread existed.
            output.flush(Wait::Forever);
            output.write(entry, Wait::Forever, notice);
            drop(output);
            state = self.lock();
        }
    }

    /// Writes as much as stderr takes now. Returns whether everything is written: a line that left
    /// the queue may still be held back by the output.
    fn write_without_waiting(&self) -> bool {
        // The thread that holds the lock writes this too.
        let Ok(mut output) = self.output.try_lock() else { return false };
        write_from_background();
        while output.flush(Wait::Never) {
            let Some(entry) = self.lock().queue.pop() else { return true };
            output.write(entry, Wait::Never, notice);
        }
        false
    }

    /// Returns how many lines were lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.lock().queue.lost()
    }

    /// Waits at most `limit` until everything is written. Returns whether everything is written.
    pub(super) fn finish(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let state = self.lock();
            if matches!(state.thread, Thread::Runs) {
                let waited = self.drained.wait_timeout_while(state, left, WriterState::is_pending);
                let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
                return !state.is_pending();
            }
            drop(state);
            if self.write_without_waiting() {
                return true;
            }
            if left.is_zero() {
                return false;
            }
            thread::sleep(LOOK.min(left));
        }
    }

    fn lock(&self) -> MutexGuard<'_, WriterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the line that reports lost lines, in the format of the log. It is empty if warnings are
/// not logged.
fn notice(count: u64) -> Vec<u8> {
    OWN.set(Some(Vec::new()));
    let lines = if count == 1 { "line" } else { "lines" };
    warn!("{count} log {lines} lost: stderr did not accept them");
    OWN.take().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::OwnedFd;

    use rustix::pipe::{fcntl_setpipe_size, pipe};

    use super::*;

    /// Creates a writer to the smallest pipe; `thread` is the state of its thread.
    fn writer(thread: Thread) -> (Arc<LogWriter>, File) {
        let (read, write): (OwnedFd, OwnedFd) = pipe().unwrap();
        fcntl_setpipe_size(&write, 4096).unwrap();
        let writer = LogWriter { output: Mutex::new(LogOutput::to(write)), ..LogWriter::default() };
        writer.lock().thread = thread;
        (Arc::new(writer), read.into())
    }

    fn no_thread() -> Thread {
        // Prevents another attempt within the test.
        Thread::Failed(Instant::now() + Duration::from_secs(600))
    }

    /// Reads everything that was written; the pipe ends with the writer.
    fn read_all(mut pipe: File) -> String {
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn lines_go_through_the_thread_in_order_and_the_end_waits_for_them() {
        let (writer, pipe) = writer(Thread::None);
        let reader = thread::spawn(move || {
            let mut pipe = std::io::BufReader::new(pipe);
            let mut lines = Vec::new();
            for _ in 0..1001 {
                let mut line = String::new();
                std::io::BufRead::read_line(&mut pipe, &mut line).unwrap();
                lines.push(line);
            }
            lines
        });
        (0..1000).for_each(|number| writer.push(format!("{number}\n").as_bytes()));
        writer.push_urgent("the end\n");
        assert!(writer.finish(LONG));
        let lines = reader.join().unwrap();
        assert!(lines[..1000].iter().enumerate().all(|(n, line)| *line == format!("{n}\n")));
        assert_eq!(lines[1000], "the end\n");
    }

    #[test]
    fn a_stalled_reader_delays_neither_lines_nor_the_end() {
        let (writer, _pipe) = writer(Thread::None);
        for _ in 0..5000 {
            writer.push(&[b'x'; 1000]);
        }
        assert!(!writer.finish(Duration::from_millis(20)));
    }

    #[test]
    fn without_a_thread_lines_are_written_and_nothing_waits() {
        let (writer, mut pipe) = writer(no_thread());
        writer.push(b"first\n");
        let mut text = [0; 6];
        pipe.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"first\n");
        for _ in 0..5000 {
            writer.push(b"more, and more, than the pipe can hold\n");
        }
        assert!(!writer.finish(Duration::from_millis(20)));
        let reader = thread::spawn(move || read_all(pipe));
        writer.push_urgent("the end\n");
        assert!(writer.finish(LONG));
        drop(writer);
        let text = reader.join().unwrap();
        assert_eq!(text.lines().count(), 5001);
        assert_eq!(text.lines().last(), Some("the end"));
    }

    #[test]
    fn a_thread_that_is_held_starts_later_and_writes_what_was_left() {
        let (writer, mut pipe) = writer(Thread::None);
        writer.hold_thread(true);
        writer.push(b"first\n");
        assert!(matches!(writer.lock().thread, Thread::Held));
        let mut text = [0; 6];
        pipe.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"first\n");
        // The pipe is full.
        while writer.lock().queue.is_empty() {
            writer.push(b"a line\n");
        }
        writer.hold_thread(false);
        writer.push(b"last\n");
        assert!(matches!(writer.lock().thread, Thread::Runs));
        let mut text = String::new();
        let mut lines = std::io::BufReader::new(pipe);
        while text != "last\n" {
            text.clear();
            std::io::BufRead::read_line(&mut lines, &mut text).unwrap();
        }
    }

    #[test]
    fn the_end_waits_for_the_line_that_the_output_holds_back() {
        let (writer, pipe) = writer(no_thread());
        // The pipe is full when the last of many lines has left the queue.
        while writer.lock().queue.is_empty() {
            writer.push(b"a line\n");
        }
        writer.lock().queue = LogQueue::default();
        assert!(!writer.finish(Duration::ZERO));
        let reader = thread::spawn(move || read_all(pipe));
        assert!(writer.finish(LONG));
        drop(writer);
        assert!(reader.join().unwrap().ends_with("a line\n"));
    }
}
