//! Flags that several subcommands share.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use eternaltcp::Mptcp;
use eternaltcp::duration::parse_duration;

use crate::paths;

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum MptcpArg {
    /// If this system has it
    Auto,
    /// If this system has it, with a warning if it does not
    On,
    /// Never
    Off,
}

impl From<MptcpArg> for Mptcp {
    fn from(arg: MptcpArg) -> Self {
        match arg {
            MptcpArg::Auto => Self::Auto,
            MptcpArg::On => Self::On,
            MptcpArg::Off => Self::Off,
        }
    }
}

/// Settings of the protocol for both sides.
#[derive(Debug, Args)]
pub(crate) struct TunnelArgs {
    /// Send a heartbeat when nothing else was sent for this long
    #[arg(
        long,
        value_parser = parse_positive,
        default_value = "1s",
        value_name = "DURATION",
        help_heading = "Connection"
    )]
    pub(crate) heartbeat: Duration,
    /// Close a connection after this much silence
    #[arg(
        long,
        value_parser = parse_positive,
        default_value = "3s",
        value_name = "DURATION",
        help_heading = "Connection"
    )]
    pub(crate) dead_after: Duration,
    /// Send a heartbeat only this often on a connection that is idle (at most 5m), or off. The
    /// client decides; sproxy only looks for off
    #[arg(
        long,
        value_parser = parse_quiet,
        default_value = "20s",
        value_name = "DURATION",
        help_heading = "Connection"
    )]
    pub(crate) quiet_heartbeat: QuietInterval,
    /// A connection on which nothing but heartbeats passed for this long is idle
    #[arg(
        long,
        value_parser = parse_positive,
        default_value = "30s",
        value_name = "DURATION",
        help_heading = "Connection"
    )]
    pub(crate) quiet_after: Duration,
}

/// The interval of heartbeats on an idle connection; `None` if idle connections are not treated
/// differently.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct QuietInterval(pub(crate) Option<Duration>);

/// The longest interval of heartbeats to which a server agrees.
const MAX_QUIET: Duration = Duration::from_secs(5 * 60);

/// Parses the interval of heartbeats on an idle connection.
fn parse_quiet(text: &str) -> Result<QuietInterval, String> {
    if text == "off" {
        return Ok(QuietInterval(None));
    }
    match parse_positive(text)? {
        interval if interval > MAX_QUIET => Err("it must be at most 5m, or off".to_owned()),
        interval => Ok(QuietInterval(Some(interval))),
    }
}

/// The name of the flag for a configuration file, without its dashes.
pub(crate) const CONFIG_FLAG: &str = "config";

/// The configuration file of a proxy.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Read flags from this file (TOML), then from *.toml in the folder FILE.d; or from *.toml in
    /// this folder. A key is a flag without its dashes
    #[arg(long, value_parser = parse_path(), value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// The recovery of a proxy from its own death.
#[derive(Debug, Default, Args)]
pub(crate) struct HolderArgs {
    /// Serve in the main process. By default, on Linux, the main process only keeps connections and
    /// memory for the process that serves, and starts another one when it dies
    #[arg(long, help_heading = "Control")]
    no_holder: bool,
    /// Only report whether this program could take over from the one that started it
    #[arg(long, hide = true)]
    check_store: bool,
}

/// The flag that leaves the holder out, without its dashes.
pub(crate) const NO_HOLDER: &str = "no-holder";

/// The flag with which a program asks another one whether that could take over.
pub(crate) const CHECK_FLAG: &str = "--check-store";

impl HolderArgs {
    pub(crate) fn is_wanted(&self) -> bool {
        !self.no_holder
    }

    pub(crate) fn is_check(&self) -> bool {
        self.check_store
    }
}

/// Time for which a command that runs once waits for its server.
#[derive(Debug, Args)]
pub(crate) struct FirstContactArgs {
    /// Exit if the server is not reached for the first time within this time
    #[arg(
        long,
        value_parser = parse_positive,
        default_value = "10s",
        value_name = "DURATION",
        help_heading = "Connection"
    )]
    pub(crate) connect_timeout: Duration,
}

/// Parses the path of a file.
pub(super) fn parse_path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(at_home)
}

/// Replaces `~` at the start by the home folder, as ssh does: after `--flag=`, and in the unit of a
/// service, no shell has done so.
pub(super) fn at_home(path: PathBuf) -> PathBuf {
    match (path.strip_prefix("~"), paths::home()) {
        (Ok(inside), Ok(home)) => home.join(inside),
        _ => path,
    }
}

/// Parses a duration longer than zero.
pub(super) fn parse_positive(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    if duration.is_zero() {
        return Err("it must be longer than zero".to_owned());
    }
    Ok(duration)
}
