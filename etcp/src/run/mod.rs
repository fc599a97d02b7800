//! `etcp run`: a program in a network that it can leave only through the tunnel.
//!
//! This process keeps its network and drives the tunnel. A child process makes the namespaces
//! (`inside`), passes the sockets that listen there to this process (`handover`), waits until the
//! tunnel is attached, and becomes the program.

mod dns;
mod handover;
mod inside;
mod mounts;
mod names;
mod namespace;
mod network;
mod program;
mod refused;
mod sessions;
mod tools;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use eternaltcp::client::{Client, ClientConfig};
use eternaltcp::control::{ProxyKind, Subject};
use tokio::task::yield_now;
use tokio::time::sleep;
use tracing::warn;

use crate::cli::{AccessArgs, RunArgs};
use crate::cproxy::client_config;
use crate::exit::{ExitError, of_client};
use crate::operator::Operator;
use crate::runtime;
use handover::InnerSockets;
use names::ResolvedNames;
use program::{ChildSignals, Helper, ProgramEvent};

pub(crate) use inside::run as run_inside;

pub(crate) fn run(args: RunArgs) -> Result<(), ExitError> {
    let name = format!("run {}", std::process::id());
    let mut config = client_config(args.server, name)?;
    config.connect_timeout = Some(args.first_contact.connect_timeout);
    // Before the limit of descriptors is raised: the program keeps the original one.
    let (helper, sockets) = Helper::start(&args.command.words)?;
    runtime::raise_descriptors()?;
    // Its arguments may hold secrets.
    let about = args.command.words.first().map(|word| word.to_string_lossy().into_owned());
    let carried =
        ProgramRun { helper, sockets, linger: args.linger, operator: args.operator, about };
    runtime::block_on(carry(config, carried))?
}

/// The program, and what belongs to its run.
struct ProgramRun {
    helper: Helper,
    sockets: InnerSockets,
    linger: Duration,
    operator: AccessArgs,
    /// The name of the program.
    about: Option<String>,
}

/// Runs the program once the tunnel is attached, and the tunnel while the program runs. Returns the
/// program's exit code.
async fn carry(config: ClientConfig, carried: ProgramRun) -> Result<(), ExitError> {
    let ProgramRun { helper, sockets, linger, operator, about } = carried;
    let mut signals = ChildSignals::listen()?;
    let mut client = Client::start(config).map_err(ExitError::failed)?;
    let subject = Subject::client(client.monitor()).in_role(ProxyKind::Run, about);
    let operator = Operator::of_command(operator, subject, Vec::new())?;
    let mut program = helper.program;
    tokio::select! {
        attached = client.attached() => attached.or_else(of_client)?,
        code = program.ended_early(&mut signals) => {
            client.close().await;
            client.ended().await;
            return Err(ExitError::Ended(code));
        }
    }
    let names = Arc::new(Mutex::new(ResolvedNames::default()));
    sessions::start(sockets, &client.opener(), &names).map_err(ExitError::failed)?;
    handover::give_stdin(&helper.line).map_err(ExitError::failed)?;
    let mut end = None;
    let code = loop {
        tokio::select! {
            event = program.next(&mut signals) => match event {
                ProgramEvent::Again => client.reconnect().await,
                ProgramEvent::Ended(code) => break code,
            },
            why = client.ended(), if end.is_none() => {
                warn!("nothing is forwarded any more: {why}");
                end = Some(why);
            }
        }
    };
    if end.is_none() {
        finish(client, linger, &mut signals).await;
    }
    operator.end().await;
    Err(ExitError::Ended(code))
}

/// Gives the program's remaining sessions some time to end in order, then closes the tunnel.
async fn finish(mut client: Client, linger: Duration, signals: &mut ChildSignals) {
    // The program's last connections may wait to be accepted. Each turn asks the system for ready
    // sockets, and then runs the tasks that waited for them.
    for _ in 0..4 {
        yield_now().await;
    }
    client.finish().await;
    tokio::select! {
        _ = client.ended() => return,
        () = signals.stop() => {}
        () = sleep(linger) => {
            warn!("connections that the command left behind did not end within {linger:?}, and are reset");
        }
    }
    client.close().await;
    client.ended().await;
}
