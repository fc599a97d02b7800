//! `etcp status --watch`.

use std::io::{IsTerminal, stdout};
use std::thread;
use std::time::{Duration, Instant};

use eternaltcp::clean;
use tokio::signal::unix::SignalKind;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::pager::Pager;
use super::rates::Rates;
use super::screen::{ScreenKey, WatchScreen};
use super::{CollectedStatus, collect, document, show};
use crate::cli::StatusArgs;
use crate::exit::ExitError;
use crate::signals::{Hangup, Listened, SignalRequest, Signals};
use crate::{print, runtime};

/// Interval between two updates.
const TICK: Duration = Duration::from_secs(1);

pub(super) fn run(args: StatusArgs, first: String) -> Result<(), ExitError> {
    if stdout().is_terminal() && !args.json {
        return runtime::block_on(on_terminal(args, first))?;
    }
    let (mut text, mut rates) = (first, Rates::default());
    while print::all(&text)? {
        thread::sleep(TICK);
        text = update(&args, collect(&args), &mut rates)?;
    }
    Ok(())
}

/// Returns the next text.
fn update(
    args: &StatusArgs,
    collected: Result<CollectedStatus, ExitError>,
    rates: &mut Rates,
) -> Result<String, ExitError> {
    match collected {
        Ok(CollectedStatus { processes, failures }) => {
            rates.take(&processes, Instant::now());
            let mut text = show(args, &processes, Some(rates))?;
            if !args.json {
                failures.iter().for_each(|failure| text += &format!("{}\n", clean(failure)));
            }
            Ok(text)
        }
        // The programs may come back.
        Err(_) if args.json => document::json(&[], None),
        Err(failure) => Ok(format!("{}\n", clean(failure.text()))),
    }
}

/// Shows the status on the terminal's other screen until a key or a signal ends it.
async fn on_terminal(args: StatusArgs, first: String) -> Result<(), ExitError> {
    let mut signals = Signals::listen(Hangup::Ends)?;
    let mut resized = Listened::to(SignalKind::window_change())?;
    let (mut text, mut rates, mut pager) = (first, Rates::default(), Pager::default());
    let mut screen = WatchScreen::open();
    let args = std::sync::Arc::new(args);
    let next = |wait: Duration| {
        let args = std::sync::Arc::clone(&args);
        async move {
            sleep(wait).await;
            spawn_blocking(move || collect(&args)).await
        }
    };
    let mut collecting = Box::pin(next(TICK));
    loop {
        if !print::all(&pager.page(&text, WatchScreen::room()))? {
            return Ok(());
        }
        tokio::select! {
            collected = &mut collecting => {
                let collected = collected.map_err(ExitError::failed)?;
                text = update(&args, collected, &mut rates)?;
                collecting.set(next(TICK));
            }
            keys = screen.keys() => {
                for key in keys {
                    match key {
                        ScreenKey::Quit => return Ok(()),
                        ScreenKey::Suspend => screen.suspend(),
                        ScreenKey::Scroll(by) => pager.scroll(by, WatchScreen::room()),
                    }
                }
            }
            request = signals.next() => {
                if let SignalRequest::Stop(stop) = request {
                    return Err(ExitError::Ended(stop.exit_code()));
                }
            }
            () = resized.recv() => {}
        }
    }
}
