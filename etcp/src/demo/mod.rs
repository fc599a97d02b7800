//! `etcp demo`: the main use in one command.
//!
//! It starts a target, sproxy, a relay that acts as a bad network, and cproxy, all on loopback. It
//! moves a checked stream both ways, and breaks the carrier again and again. The proxies are those
//! of the library, over real sockets and TLS, with keys made for this run.
//!
//! With `--server`, sproxy is at another machine, and the network is real.
//!
//! - `stage`, `remote`: the programs of the demo and their keys;
//! - `relay`, `link`, `record`, `death`: the bad network;
//! - `talk`, `pattern`: the application and the target, and the bytes that they send;
//! - `director`: the sequence of events;
//! - `screen`, `table`, `outcome`: the output, and what it proves;
//! - `watchdog`: ends the process if nothing else does.

mod death;
mod director;
mod link;
mod outcome;
mod pattern;
mod record;
mod relay;
mod remote;
mod screen;
mod stage;
mod table;
mod talk;
mod watchdog;

use std::path::Path;
use std::time::Duration;

use eternaltcp::report::duration;
use tokio::time::{Instant, timeout};

use crate::cli::DemoArgs;
use crate::exit::ExitError;
use crate::paths::temporary_folder;
use crate::runtime;
use crate::signals::{Hangup, Signals};
use director::Director;
use outcome::DemoOutcome;
use remote::DemoServer;
use screen::{Paint, Screen};
use stage::DemoSetup;
use watchdog::Watchdog;

/// The demo ends after this time, with a table of its results: on this machine, and over a network.
const SHOW_LIMIT: Duration = Duration::from_secs(16);
const REMOTE_SHOW_LIMIT: Duration = Duration::from_secs(120);

/// Time to close the proxies in order.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// The process ends after this time in any case.
const HARD_LIMIT: Duration = Duration::from_millis(19_500);
const REMOTE_HARD_LIMIT: Duration = Duration::from_secs(140);

pub(crate) fn run(args: &DemoArgs) -> Result<(), ExitError> {
    // ssh may ask for a password here.
    let server = args.is_remote().then(|| remote::find(args)).transpose()?;
    let place = server.as_ref().map(|server| (server, args));
    let limit = if place.is_some() { REMOTE_HARD_LIMIT } else { HARD_LIMIT };
    let start = std::time::Instant::now();
    let folder = temporary_folder("etcp-demo-", eternaltcp::paths::temporary())?;
    let _watchdog = Watchdog::start(limit, folder.path().to_owned())?;
    let runtime = runtime::on_all_processors()?;
    let mut screen = Screen::new();
    let outcome = runtime.block_on(play(folder.path(), place, &mut screen));
    runtime.shutdown_background();
    judge(&mut screen, &outcome?, start.elapsed())
}

/// Runs the demo until its end, or until the user stops it.
async fn play(
    folder: &Path,
    place: Option<(&DemoServer, &DemoArgs)>,
    screen: &mut Screen,
) -> Result<DemoOutcome, ExitError> {
    let limit = if place.is_some() { REMOTE_SHOW_LIMIT } else { SHOW_LIMIT };
    let deadline = Instant::now() + limit;
    let stop = Signals::listen(Hangup::Ends)?.stop();
    let stage = match place {
        None => DemoSetup::build(folder).await?,
        Some((server, args)) => DemoSetup::at(server, args).await?,
    };
    introduce(screen, place.map(|(server, _)| server.name.as_str()));
    screen.check()?;
    let outcome = tokio::select! {
        outcome = Director::new(&stage, screen, deadline).run() => Ok(outcome),
        stop = stop => Err(ExitError::Ended(stop.exit_code())),
    };
    // Whatever is still open then ends with the process.
    let _ = timeout(CLOSE_LIMIT, stage.close()).await;
    if outcome.is_err() {
        screen.line(Paint::Plain, "Stopped before the end: nothing is proved.");
    }
    outcome
}

fn introduce(screen: &mut Screen, server: Option<&str>) {
    let network = "application <-> cproxy <-- carriers over a bad network --> sproxy <-> target";
    screen.line(Paint::Plain, network);
    if let Some(server) = server {
        let text = format!(
            "sproxy is at {server}. The target is here again, by a listener there: every byte\n\
             crosses the network twice. Faults are added here, before it."
        );
        screen.line(Paint::Plain, &text);
    }
    for text in ["", "A checked stream flows both ways. Its carriers die:", ""] {
        screen.line(Paint::Plain, text);
    }
}

/// Prints the result.
fn judge(screen: &mut Screen, outcome: &DemoOutcome, time: Duration) -> Result<(), ExitError> {
    screen.line(Paint::Plain, "");
    for line in table::table(outcome) {
        screen.line(Paint::Plain, &line);
    }
    screen.line(Paint::Plain, "");
    if let Err(why) = outcome.verdict() {
        screen.line(Paint::Bad, "FAILED");
        return Err(ExitError::Failed(format!("the demo failed: {why}")));
    }
    let (deaths, kinds, time) = (outcome.deaths.len(), outcome.kinds(), duration(time));
    let text = format!(
        "OK: {deaths} carriers died in {kinds} ways; every byte arrived, once and in order ({time})"
    );
    screen.line(Paint::Good, &text);
    screen.check()
}
