//! `etcp upgrade`.

use std::thread::sleep;
use std::time::{Duration, Instant};

use eternaltcp::control::{
    AskError, FaultCode, FoundSocket, Request, Response, UpgradeAnswer, UpgradeState, ask,
};

use crate::cli::UpgradeArgs;
use crate::exit::ExitError;
use crate::{print, running};

/// The interval at which the state of the upgrade is queried.
const TICK: Duration = Duration::from_millis(50);

/// The time allowed for an upgrade: a check, a start, and a return to the old program.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn run(args: &UpgradeArgs) -> Result<(), ExitError> {
    let proxy = running::one(args.which.control.as_ref())?;
    let program = args.program.as_ref().map(std::path::absolute).transpose();
    let program = program.map_err(ExitError::failed)?.map(|path| {
        path.into_os_string().into_string().map_err(|path| {
            ExitError::Usage(format!("--program {}: the path is not UTF-8", path.display()))
        })
    });
    let request = Request::Upgrade { program: program.transpose()?, check: args.check };
    let until = Instant::now() + PATIENCE;
    while let Followed::Lost = follow(&proxy, begin(&proxy, &request)?)? {
        if Instant::now() >= until {
            return Err(ExitError::Failed(format!("{}: other upgrades go first", proxy.name)));
        }
    }
    Ok(())
}

/// Asks for the upgrade.
fn begin(proxy: &FoundSocket, request: &Request) -> Result<UpgradeAnswer, ExitError> {
    let before = look(proxy)?;
    match ask(&proxy.path, request) {
        Ok(Response::Upgrade(begun)) => Ok(begun),
        Ok(_) => Err(not_understood(proxy)),
        // The process that was asked is gone already.
        Err(AskError::NoAnswer(_) | AskError::Io(_)) => {
            let (number, state) = (before.number + 1, UpgradeState::Checking);
            Ok(UpgradeAnswer { number, state, text: None, ..before })
        }
        Err(error) => Err(running::failure(proxy, &error)),
    }
}

/// The result of a request.
enum Followed {
    /// It was carried out.
    Done,
    /// The process that was asked was replaced before it could pass the request on.
    Lost,
}

/// Returns the progress of the last upgrade.
fn look(proxy: &FoundSocket) -> Result<UpgradeAnswer, ExitError> {
    let until = Instant::now() + PATIENCE;
    loop {
        match ask(&proxy.path, &Request::UpgradeStatus {}) {
            Ok(Response::Upgrade(found)) => return Ok(found),
            Ok(_) => return Err(not_understood(proxy)),
            // One process closes the connection, and the next one answers.
            Err(AskError::NoAnswer(_) | AskError::Io(_) | AskError::Silent)
                if Instant::now() < until =>
            {
                sleep(TICK);
            }
            Err(AskError::Refused(fault))
                if fault.code == FaultCode::Busy && Instant::now() < until =>
            {
                sleep(TICK);
            }
            Err(error) => return Err(running::failure(proxy, &error)),
        }
    }
}

/// Prints the progress of the upgrade until it is over.
fn follow(proxy: &FoundSocket, begun: UpgradeAnswer) -> Result<Followed, ExitError> {
    let until = Instant::now() + PATIENCE;
    let (number, mut shown, mut now) = (begun.number, None, begun);
    let failed = |text: &str| Err(ExitError::Failed(format!("{}: {text}", proxy.name)));
    loop {
        let text = now.text.as_deref().unwrap_or_default();
        if shown.replace(now.state) != Some(now.state) {
            match now.state {
                UpgradeState::Checking => say(proxy, "the new program is checked")?,
                UpgradeState::Replacing => say(proxy, text)?,
                UpgradeState::Checked | UpgradeState::Done => {
                    return say(proxy, text).map(|()| Followed::Done);
                }
                UpgradeState::Failed => return failed(&format!("not upgraded: {text}")),
                UpgradeState::None => return failed("it knows of no upgrade"),
            }
        }
        if Instant::now() >= until {
            return failed(&format!("the upgrade was not over after {PATIENCE:?}"));
        }
        sleep(TICK);
        now = look(proxy)?;
        if now.number < number {
            return Ok(Followed::Lost);
        }
        if now.number > number {
            return failed("another upgrade followed: see etcp status");
        }
    }
}

fn say(proxy: &FoundSocket, text: &str) -> Result<(), ExitError> {
    if text.is_empty() { Ok(()) } else { print::line(&format!("{}: {text}", proxy.name)) }
}

fn not_understood(proxy: &FoundSocket) -> ExitError {
    ExitError::Failed(format!("{}: its answer is not about an upgrade", proxy.name))
}
