//! A small message beside bulk: its time while another session fills the path.

use std::thread;
use std::time::Duration;

use crate::LoadOutcome;
use crate::bulk::{self, BulkDirection};
use crate::echo;
use crate::opening::LoadOpener;
use crate::{ping, times};

/// Time that the bulk has the path for itself at first, to fill it.
const HEAD_START: Duration = Duration::from_secs(2);
const INTERVAL: Duration = Duration::from_millis(20);

pub(crate) fn run(opener: &LoadOpener, way: BulkDirection, time: Duration) -> LoadOutcome {
    let mut stream = opener.echo()?;
    echo::exchange(&mut stream, 0)?;
    let (measured, arrived) = thread::scope(|scope| {
        let bulk = scope.spawn(|| bulk::one(opener, way, HEAD_START + time));
        thread::sleep(HEAD_START);
        let measured = ping::measure(stream, time, INTERVAL)?;
        let arrived = bulk.join().map_err(|_| "the bulk's thread ended")??;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((measured, arrived))
    })?;
    println!(
        r#"{{{}, "bytes_per_second": {:.0}}}"#,
        times::summary(measured),
        arrived.bytes_per_second()
    );
    Ok(())
}
