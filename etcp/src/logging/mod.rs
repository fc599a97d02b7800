//! The log on stderr.
//!
//! - `queue`: lines that wait, bounded and counted;
//! - `writer`: the thread that writes them, so that nothing else waits for stderr;
//! - `filter`: what is logged, by `RUST_LOG`;
//! - `output`: writing, whatever state stderr is in;
//! - `plain`: what no value may do to a log.

mod filter;
mod output;
mod plain;
mod queue;
mod writer;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal, stderr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, registry};

use crate::cli::{LogArgs, LogFormat};
use crate::exit::Failure;
use writer::Writer;

pub(crate) use plain::escape_json;

/// How long the program's end waits for what is still to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// All that this process writes to stderr.
static WRITER: OnceLock<Arc<Writer>> = OnceLock::new();

/// What is logged without `-v`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Level {
    Info,
    Warn,
    Error,
}

/// Starts the log. What `RUST_LOG` says of this program goes before `-v`.
pub(crate) fn start(args: &LogArgs, level: Level) -> Result<(), Failure> {
    let text = std::env::var("RUST_LOG").unwrap_or_default();
    let (filter, odd) = filter::read(&text, default_filter(args.verbose, level));
    // What cannot be formatted is said to nobody: that would be a write that waits.
    let layer = fmt::layer().log_internal_errors(false);
    match args.log_format {
        LogFormat::Json => {
            let layer = layer.json().flatten_event(true).with_writer(Lines { is_json: true });
            registry().with(filter).with(layer).init();
        }
        LogFormat::Text => {
            let layer = layer
                .fmt_fields(plain::fields())
                .with_ansi(stderr().is_terminal())
                .with_target(false)
                .with_writer(Lines { is_json: false });
            registry().with(filter).with(layer).init();
        }
    }
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = Backtrace::capture();
        let trace = match backtrace.status() {
            BacktraceStatus::Captured => format!("{backtrace}"),
            _ => String::new(),
        };
        say(&format!("etcp {panic}\n{trace}"));
    }));
    if let Some(odd) = odd {
        tracing::warn!("RUST_LOG: {odd:?} is not understood, and passed over");
    }
    Ok(())
}

/// Says something on stderr, after what was logged before, and waits a moment until it
/// is out.
pub(crate) fn say(text: &str) {
    show(text);
    finish();
}

/// Shows something on stderr. It does not wait for whoever reads it.
pub(crate) fn show(text: &str) {
    writer().push_urgent(text);
}

/// Waits until what was logged is written: for a second at most, as nobody may read it.
pub(crate) fn finish() {
    if let Some(writer) = WRITER.get() {
        writer.finish(LAST_LINES);
    }
}

fn writer() -> &'static Arc<Writer> {
    WRITER.get_or_init(Arc::default)
}

/// Makes a line of each event.
struct Lines {
    is_json: bool,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { is_json: self.is_json }
    }
}

/// An event, which comes in one piece.
struct Line {
    is_json: bool,
}

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_json {
            let text = String::from_utf8_lossy(bytes);
            writer().push(escape_json(&text).as_bytes());
        } else {
            writer().push(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
