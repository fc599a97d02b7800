//! What more than one subcommand takes.

use std::time::Duration;

use clap::{Args, ValueEnum};
use eternaltcp::Mptcp;
use eternaltcp::duration::parse_duration;

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum MptcpArg {
    /// Where this system has it
    Auto,
    /// Where this system has it, with a warning where not
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

/// Settings of the protocol that both sides have.
#[derive(Debug, Args)]
pub(crate) struct TunnelArgs {
    /// Send a sign of life when nothing else was sent for this long
    #[arg(
        long,
        value_parser = parse_positive,
        default_value = "1s",
        value_name = "DURATION",
        help_heading = "Connection"
    )]
    pub(crate) heartbeat: Duration,
    /// Give a connection up after this much silence
    #[arg(
        long,
        value_parser = parse_positive,
        default_value = "3s",
        value_name = "DURATION",
        help_heading = "Connection"
    )]
    pub(crate) dead_after: Duration,
}

/// A duration longer than zero.
pub(super) fn parse_positive(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    if duration.is_zero() {
        return Err("it must be longer than zero".to_owned());
    }
    Ok(duration)
}
