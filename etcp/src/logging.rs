//! The log on stderr.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;

use crate::cli::{LogArgs, LogFormat};
use crate::exit::Failure;

/// What is logged without `-v`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Level {
    Info,
    Warn,
    Error,
}

/// Starts the log. `RUST_LOG` goes before `-v`.
pub(crate) fn start(args: &LogArgs, level: Level) -> Result<(), Failure> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text)
            .map_err(|error| Failure::Usage(format!("RUST_LOG={text}: {error}")))?,
        _ => EnvFilter::new(default_filter(args.verbose, level)),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    match args.log_format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.with_ansi(stderr().is_terminal()).with_target(false).init(),
    }
    Ok(())
}

fn default_filter(verbose: u8, level: Level) -> &'static str {
    match (verbose, level) {
        (0, Level::Error) => "error",
        (0, Level::Warn) => "warn",
        (0, Level::Info) | (1, Level::Warn | Level::Error) => "info",
        (1, Level::Info) | (2, _) => "debug",
        _ => "trace",
    }
}
