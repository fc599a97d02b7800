//! Waiting for a path to come up.

use std::thread;
use std::time::{Duration, Instant};

use crate::LoadOutcome;
use crate::echo;
use crate::opening::LoadOpener;

const WITHIN: Duration = Duration::from_secs(20);
const INTERVAL: Duration = Duration::from_micros(500);

/// Retries until an echo has come back: every hop is up.
pub(crate) fn run(opener: &LoadOpener) -> LoadOutcome {
    let start = Instant::now();
    println!(r#"{{"waiting": true}}"#);
    loop {
        let tried = opener.echo().and_then(|mut stream| echo::exchange(&mut stream, 0));
        match tried {
            Ok(()) => break println!(r#"{{"ready": true}}"#),
            Err(error) if start.elapsed() > WITHIN => {
                return Err(format!("{} does not answer: {error}", opener.address).into());
            }
            Err(_) => thread::sleep(INTERVAL),
        }
    }
    Ok(())
}
