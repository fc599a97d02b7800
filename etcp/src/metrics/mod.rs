//! `--metrics`: figures for Prometheus, answers to health checks, and a page for people, over HTTP.
//!
//! - `service`: the listener, which a reload can change, and which the next worker gets;
//! - `http`: the connections, and their limits;
//! - `answer`: the paths, and what each answers;
//! - `families`: the metrics; `text` is their two forms;
//! - `page`: the page; `feed` sends it `state` and `pauses`; `body` is what is sent;
//! - `process`: the figures of the process itself.
//!
//! Nothing here is on the path of data: the figures are atomics that the tunnels' tasks add to once a
//! second, and no lock is held while an answer is sent. The page asks a limited number of tunnels, once
//! a second. `docs/metrics.md` describes all metrics.

mod answer;
mod body;
mod families;
mod feed;
mod http;
mod page;
mod pauses;
mod process;
mod service;
mod state;
mod text;

use std::time::SystemTime;

use eternaltcp::address::Listen;
use eternaltcp::control::Subject;

use crate::audit::AuditLog;
use crate::cli::CliCommand;
use crate::exit::ExitError;
pub(crate) use service::MetricsService;

/// The source of the figures.
#[derive(Clone, Debug)]
pub(crate) struct FigureSource {
    pub(crate) subject: Subject,
    pub(crate) audit: AuditLog,
    /// The start of the main process.
    pub(crate) started_at: SystemTime,
}

/// Returns the address of a proxy's metrics.
pub(crate) fn address_of(command: &CliCommand) -> Option<&Listen> {
    match command {
        CliCommand::Sproxy(args) => args.operator.metrics.as_ref(),
        CliCommand::Cproxy(args) => args.operator.metrics.as_ref(),
        _ => None,
    }
}

/// Checks that the metrics have an address that the proxy's other listeners leave free.
pub(crate) fn check_address<'a>(
    metrics: Option<&Listen>,
    others: impl IntoIterator<Item = &'a Listen>,
) -> Result<(), ExitError> {
    let Some(metrics) = metrics else { return Ok(()) };
    match others.into_iter().find(|other| metrics.overlaps(other)) {
        None => Ok(()),
        Some(other) => Err(ExitError::Usage(format!(
            "--metrics {metrics}: the proxy itself listens on {other}: choose another port"
        ))),
    }
}
