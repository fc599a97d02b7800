//! `etcp`: TCP connections that survive changes of the network.
//!
//! `main` reads the command line and dispatches. The user's input (`cli`) and the configuration
//! that is ready to run (the library's) are separate types.

#![forbid(unsafe_code)]

mod activation;
mod ask;
mod audit;
mod check;
mod cli;
mod config;
mod connect;
mod cproxy;
mod credentials;
mod demo;
mod doctor;
mod drain;
mod exit;
mod holder;
mod hook;
mod install;
mod keygen;
mod logging;
mod man;
mod message;
mod metrics;
mod one_user;
mod operator;
mod page;
mod passphrase;
mod path_loop;
mod paths;
mod print;
mod proxy;
mod reconnect;
mod reload;
mod reloading;
mod run;
mod running;
mod runtime;
mod sessions;
mod signals;
mod source;
mod sproxy;
mod ssh;
mod ssh_config;
mod ssh_files;
mod status;
mod stdio;
mod taken;
mod talk;
mod title;
mod tunnels;
mod upgrade;
mod user_keys;
mod version;

use std::process::ExitCode;

use clap::Parser;
use eternaltcp::process;

use activation::ActivatedSockets;
use cli::{Cli, CliCommand, CproxyArgs, Internal, InternalCli, SproxyArgs};
use config::{ActiveConfig, ParseError};
use exit::ExitError;
use holder::MainProcess;
use logging::Level;

fn main() -> ExitCode {
    process::wait_for_children();
    process::survive_file_size_limit();
    let args: Vec<_> = std::env::args_os().collect();
    let parsed = if cli::is_internal(&args) {
        InternalCli::try_parse_from(&args).map(run_internal).map_err(ParseError::from)
    } else {
        config::parse(&args).map(|line| {
            proxy::hide_password(&line.cli, &args);
            run(line.cli, line.active).map_err(|error| line.origins.locate(error))
        })
    };
    let result = match parsed {
        Ok(result) => result,
        Err(ParseError::Usage(error)) => return message::usage(&error, &args).into(),
        Err(ParseError::Config(faults)) => return message::faults(&faults).into(),
    };
    message::finish(result).into()
}

/// If this variable is set, debuggers and core dumps can see the process.
const TRACEABLE: &str = "ETCP_TRACEABLE";

/// Hides keys from core dumps and from other processes of the user.
fn hide_keys() {
    if std::env::var_os(TRACEABLE).is_none() {
        // If the system refuses, the program still works.
        let _ = process::hide_memory();
    }
}

/// Checks that a program that could take over from a holder has one, too.
fn check_holder(command: &CliCommand) -> Result<(), ExitError> {
    match command {
        CliCommand::Sproxy(SproxyArgs { holder, .. })
        | CliCommand::Cproxy(CproxyArgs { holder, .. })
            if holder.is_check() && !holder.is_wanted() =>
        {
            let text = "--no-holder needs a restart, which ends the sessions: remove it to upgrade";
            Err(ExitError::Usage(text.to_owned()))
        }
        _ => Ok(()),
    }
}

/// Returns the main process for the command: a process that serves itself, or a holder.
fn main_process(command: &CliCommand) -> MainProcess {
    match command {
        CliCommand::Sproxy(SproxyArgs { holder, .. })
        | CliCommand::Cproxy(CproxyArgs { holder, .. })
            if holder.is_check() || holder.is_wanted() =>
        {
            if holder.is_check() {
                MainProcess::checking()
            } else {
                MainProcess::holder()
            }
        }
        _ => MainProcess::alone(),
    }
}

fn run(cli: Cli, active: Option<ActiveConfig>) -> Result<(), ExitError> {
    check_holder(&cli.command)?;
    let sockets = match cli.command {
        CliCommand::Sproxy(_) => ActivatedSockets::take()?,
        _ => ActivatedSockets::none(),
    };
    let process = main_process(&cli.command);
    hide_keys();
    let log = |level| logging::start(&cli.log, level);
    match cli.command {
        CliCommand::Sproxy(args) => {
            log(Level::Info)?;
            sproxy::run(args, process, sockets, active)
        }
        CliCommand::Cproxy(args) => {
            log(Level::Info)?;
            cproxy::run(args, process, active)
        }
        CliCommand::Check(args) => log(Level::Warn).and_then(|()| check::run(&args)),
        CliCommand::Connect(args) => log(Level::Warn).and_then(|()| connect::run(args)),
        CliCommand::Keygen(args) => log(Level::Warn).and_then(|()| keygen::run(args)),
        CliCommand::Run(args) => log(Level::Warn).and_then(|()| run::run(args)),
        CliCommand::Status(args) => status::run(args),
        CliCommand::Page(args) => page::run(&args),
        CliCommand::Sessions(args) => sessions::run(args),
        CliCommand::Tunnels(args) => tunnels::run(args),
        CliCommand::Reconnect(args) => reconnect::run(args),
        CliCommand::Reload(args) => reload::run(&args),
        CliCommand::Drain(args) => drain::run(args),
        CliCommand::Upgrade(args) => upgrade::run(&args),
        CliCommand::Ssh(args) => ssh::run(args, &cli.log),
        CliCommand::Doctor(args) => {
            // The report says what matters; -v shows the rest.
            log(Level::Error)?;
            doctor::run(args)
        }
        CliCommand::Demo(args) => log(Level::Warn).and_then(|()| demo::run(&args)),
        CliCommand::Completions(args) => install::completions(args),
        CliCommand::Man(args) => man::run(&args),
    }
}

/// Runs an internal command.
fn run_internal(cli: InternalCli) -> Result<(), ExitError> {
    // The command that runs inside has no keys, and writes to files in /proc/self, which belong to
    // root in a hidden process.
    if !matches!(cli.command, Internal::RunInside(_)) {
        hide_keys();
    }
    match cli.command {
        Internal::RunInside(args) => run::run_inside(&args),
        Internal::SshCarry(args) => {
            // ssh's terminal is not the place for a log, unless the user asks for it.
            logging::start(&cli.log, Level::Error)?;
            ssh::carry(args)
        }
        Internal::OneUser(args) => one_user::run(args),
        Internal::CompleteValues(args) => install::values(&args),
    }
}
