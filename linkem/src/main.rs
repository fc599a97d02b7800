//! `linkem`: a link between two network namespaces, with the requested delay and faults.
//!
//! `main` reads the command line and dispatches. `link` decides what one direction does to its
//! packets, without clocks or devices; everything around it is plumbing.

mod carry;
mod cli;
mod control;
mod counters;
mod ctl;
mod device;
mod emulator;
mod endpoint;
mod link;
mod netns;
mod random;
mod run;
mod setting;
mod tun;
mod units;

use std::process::ExitCode;

use clap::Parser;

use cli::{Command, LinkemArgs};

fn main() -> ExitCode {
    let cli = LinkemArgs::parse();
    let result = match cli.command {
        Some(Command::Ctl(args)) => ctl::run(&args),
        None => run::run(&cli.run).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        complain(&error);
        ExitCode::FAILURE
    })
}

#[expect(clippy::print_stderr, reason = "this is where the program speaks to its user")]
fn complain(text: &str) {
    eprintln!("linkem: {text}");
}
