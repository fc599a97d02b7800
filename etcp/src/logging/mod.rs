//! The log on stderr.
//!
//! - `queue`: lines that wait, bounded and counted;
//! - `writer`: the thread that writes them, so that nothing else waits for stderr;
//! - `filter`: which lines are logged, by `RUST_LOG`;
//! - `layer`: turns an event and its spans into a line;
//! - `journal`: what is different if systemd's journal reads stderr;
//! - `output`: writing, whatever state stderr is in;
//! - `plain`: removes from a log what must not be in it.

mod filter;
mod journal;
mod layer;
mod output;
mod plain;
mod queue;
mod writer;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{IsTerminal, stderr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, registry, reload};

use crate::cli::{LogArgs, LogFormat};
use crate::exit::ExitError;
use layer::{Format, Lines};
use writer::LogWriter;

pub(crate) use plain::escape_json;
pub(crate) use queue::{LogItem, LogQueue};

/// Time that the program waits at its end for lines that are not written yet.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Everything that this process writes to stderr.
static WRITER: OnceLock<Arc<LogWriter>> = OnceLock::new();

/// The level without `-v`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Level {
    Info,
    Warn,
    Error,
}

/// Replaces the filter of the log.
static FILTER: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Whether each line of the log is a JSON object.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// Whether systemd's journal reads the log.
static IS_JOURNAL: AtomicBool = AtomicBool::new(false);

/// Starts the log. Directives of `RUST_LOG` for this program override `-v`.
pub(crate) fn start(args: &LogArgs, level: Level) -> Result<(), ExitError> {
    let text = std::env::var("RUST_LOG").unwrap_or_default();
    let (filter, odd) = filter::read(&text, default_filter(args.verbose, level));
    let format = match args.log_format {
        LogFormat::Json => Format::Json,
        LogFormat::Text => Format::Text { has_colors: stderr().is_terminal() },
    };
    IS_JSON.store(format == Format::Json, Ordering::Relaxed);
    let is_journal = journal::is_stderr();
    IS_JOURNAL.store(is_journal, Ordering::Relaxed);
    let lines = Lines::new(format, is_journal, |line| writer().push(line));
    let (filter, handle) = reload::Layer::new(filter);
    let _ = FILTER.set(handle);
    registry().with(filter).with(lines).init();
    std::panic::set_hook(Box::new(|panic| {
        eternaltcp::recovery::note_panic();
        let backtrace = Backtrace::capture();
        let trace = match backtrace.status() {
            BacktraceStatus::Captured => format!("{backtrace}"),
            _ => String::new(),
        };
        say(&format!("etcp {panic}\n{trace}"));
        // A release build aborts too: the other threads would continue without the task that has
        // panicked.
        std::process::abort();
    }));
    if let Some(odd) = odd {
        tracing::warn!("RUST_LOG: {odd:?} is not understood, and ignored");
    }
    Ok(())
}

/// Changes the level of the log. Directives of `RUST_LOG` still override it.
pub(crate) fn set_level(args: &LogArgs, level: Level) {
    let text = std::env::var("RUST_LOG").unwrap_or_default();
    let (filter, _) = filter::read(&text, default_filter(args.verbose, level));
    if let Some(handle) = FILTER.get() {
        // An error means that the log has ended.
        let _ = handle.reload(filter);
    }
}

/// Prints a line on stderr, after the lines that were logged before, and waits briefly until it is
/// written.
pub(crate) fn say(text: &str) {
    show(text);
    finish();
}

/// Prints a message of the program itself in the form of the log, and waits briefly until it is
/// written.
pub(crate) fn say_message(text: &str) {
    show_message(text);
    finish();
}

/// Prints a message of the program itself in the form of the log, without waiting for the reader.
pub(crate) fn show_message(text: &str) {
    if IS_JSON.load(Ordering::Relaxed) {
        tracing::error!("{text}");
    } else {
        let is_journal = IS_JOURNAL.load(Ordering::Relaxed);
        let prefix = if is_journal { journal::prefix(tracing::Level::ERROR) } else { "" };
        show(&format!("{prefix}etcp: {text}\n"));
    }
}

/// Prints a text on stderr without waiting for the reader.
pub(crate) fn show(text: &str) {
    writer().push_urgent(text);
}

/// Returns how many lines of the log were lost so far.
pub(crate) fn lost() -> u64 {
    WRITER.get().map_or(0, |writer| writer.lost())
}

/// Waits until the log is written, at most for a second, because there may be no reader.
pub(crate) fn finish() {
    if let Some(writer) = WRITER.get() {
        writer.finish(LAST_LINES);
    }
}

/// Writes without a thread from now on, as far as that does not block: a process that starts workers
/// must not have threads.
pub(crate) fn hold_thread() {
    writer().hold_thread(true);
}

/// Lets a thread write from now on.
pub(crate) fn start_thread() {
    writer().hold_thread(false);
}

fn writer() -> &'static Arc<LogWriter> {
    WRITER.get_or_init(Arc::default)
}

fn default_filter(verbose: u8, level: Level) -> LevelFilter {
    match (verbose, level) {
        (0, Level::Error) => LevelFilter::ERROR,
        (0, Level::Warn) => LevelFilter::WARN,
        (0, Level::Info) | (1, Level::Warn | Level::Error) => LevelFilter::INFO,
        (1, Level::Info) | (2, _) => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}
