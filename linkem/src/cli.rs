//! The command line and its help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::endpoint::Endpoint;
use crate::setting::Assignment;

/// Emulate a link between two network namespaces, without netem.
///
/// It makes two TUN devices and carries packets between them with the delay,
/// loss, rate and faults that the settings say, until SIGTERM or SIGINT. When
/// packets flow it prints "ready". It needs root and the program ip (iproute2).
#[derive(Debug, Parser)]
#[command(
    name = "linkem",
    version,
    max_term_width = 100,
    after_help = SETTINGS,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub(crate) struct LinkemArgs {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: EmulatorArgs,
}

const SETTINGS: &str = "\
Settings, for both directions, or one with up: (left to right) or down: (right to left) before it:
  delay=20ms      time on the way                      jitter=2ms      of it, more or less; keeps order
  loss=0.5%       packets lost by chance               reorder=1%      packets that skip the delay
  rate=100mbit    kbit, mbit, gbit or off              queue=100ms     or 64kb; a fuller one drops; off: 10mb
  hole=1300       larger packets vanish; off           silence=on      everything vanishes; off
  mtu=1400        of both devices, without a direction

Example:
  linkem --left a:tun0=10.0.0.1/24 --right b:tun0=10.0.0.2/24 --control /run/link delay=20ms rate=50mbit
  linkem ctl /run/link set up:silence=on";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Ask a running linkem: set SETTING..., show, quit
    Ctl(CtlArgs),
}

#[derive(Debug, Args)]
pub(crate) struct EmulatorArgs {
    /// One end of the link; an empty NETNS is linkem's own namespace
    #[arg(long, required = true, value_name = "NETNS:DEV=ADDR/PREFIX,...")]
    pub(crate) left: Option<Endpoint>,
    /// The other end
    #[arg(long, required = true, value_name = "NETNS:DEV=ADDR/PREFIX,...")]
    pub(crate) right: Option<Endpoint>,
    /// Listen here, on a Unix socket, for changes while it runs
    #[arg(long, value_name = "PATH")]
    pub(crate) control: Option<PathBuf>,
    /// Seed of the random numbers: the same packets at the same times meet the same fate
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) seed: u64,
    /// End also when stdin ends, as it does with the program at its other side
    #[arg(long)]
    pub(crate) exit_with_stdin: bool,
    /// The state of the link at first
    #[arg(value_name = "SETTING")]
    pub(crate) settings: Vec<Assignment>,
}

#[derive(Debug, Args)]
pub(crate) struct CtlArgs {
    /// The control socket
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// set SETTING..., show or quit
    #[arg(required = true, value_name = "REQUEST")]
    pub(crate) request: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        LinkemArgs::command().debug_assert();
    }

    #[test]
    fn a_link_and_a_request_are_told_apart() {
        let link = ["linkem", "--left", "a:t=10.0.0.1/24", "--right", ":t=fd00::2/64", "delay=1ms"];
        let cli = LinkemArgs::try_parse_from(link).unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.run.settings.len(), 1);
        let cli =
            LinkemArgs::try_parse_from(["linkem", "ctl", "/x", "set", "up:silence=on"]).unwrap();
        let Some(Command::Ctl(args)) = cli.command else { panic!("not ctl") };
        assert_eq!(args.request, ["set", "up:silence=on"]);
        assert!(LinkemArgs::try_parse_from(["linkem", "--left", "a:t=10.0.0.1/24"]).is_err());
        assert!(LinkemArgs::try_parse_from([&link[..], &["delay=soon"]].concat()).is_err());
    }
}
