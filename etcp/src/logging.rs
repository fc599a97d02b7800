//! The log on stderr.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, registry};

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
        Ok(text) if !text.is_empty() => text
            .parse::<Targets>()
            .map_err(|error| Failure::Usage(format!("RUST_LOG={text}: {error}")))?,
        _ => Targets::new().with_default(default_filter(args.verbose, level)),
    };
    let layer = fmt::layer().with_writer(stderr);
    match args.log_format {
        LogFormat::Json => {
            registry().with(filter).with(layer.json().flatten_event(true)).init();
        }
        LogFormat::Text => {
            let layer = layer.with_ansi(stderr().is_terminal()).with_target(false);
            registry().with(filter).with(layer).init();
        }
    }
    Ok(())
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
