//! Measurements of a carrier: its round trip, its speed, the pause after a cut, large packets.

use std::time::Duration;

use eternaltcp::address::Target;
use eternaltcp::client::Client;
use eternaltcp::report::bytes;
use eternaltcp::status::{CarrierStatus, EventKind};
use tokio::time::{Instant, timeout, timeout_at};

use super::network::millis;
use super::report::DoctorReport;
use crate::path_loop::{BulkResult, PathLoop};

/// The length of the bulk, and the maximum number of bytes.
const BULK: Duration = Duration::from_secs(3);
const MAX_BULK: u64 = 256 << 20;

/// The number of small messages of which the median counts.
const ECHOES: usize = 9;

/// Time for a target to be connected.
const TARGET: Duration = Duration::from_secs(15);

/// Time for a carrier after a cut.
const NEXT_CARRIER: Duration = Duration::from_secs(20);

/// A number of bytes that needs large packets, and proves that they pass.
const MANY: u64 = 256 * 1024;

/// The conclusion from the measured speed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BulkOutcome {
    /// Nothing was sent.
    Unknown,
    /// Large packets pass in both directions.
    Whole,
    /// Large packets vanish.
    Hole,
}

/// Reports the carrier's round trip, as the kernel measures it.
pub(super) async fn round_trip(report: &mut DoctorReport, client: &Client) {
    let Some(CarrierStatus { round_trip, deviation, .. }) = carrier(client).await else { return };
    let Some(round_trip) = round_trip else { return };
    let deviation = deviation.unwrap_or_default();
    let (trip, around) = (millis(round_trip), millis(deviation));
    let text = format!("{trip:.1} ms, give or take {around:.1} ms");
    report.measured("round trip", text, &[("round_trip_ms", trip), ("deviation_ms", around)]);
}

async fn carrier(client: &Client) -> Option<CarrierStatus> {
    client.status().await?.carrier
}

/// Opens a session to the target that the user named, and closes it.
pub(super) async fn try_target(report: &mut DoctorReport, client: &Client, target: &Target) {
    let start = Instant::now();
    let connected = async {
        let mut session = client.open(target.clone()).await.map_err(|error| error.to_string())?;
        session.connected().await.map_err(|error| error.to_string())
    };
    match timeout(TARGET, connected).await {
        Ok(Ok(())) => {
            let took = millis(start.elapsed());
            let text = format!("{target} is connected after {took:.1} ms");
            report.measured("target", text, &[("target_ms", took)]);
        }
        Ok(Err(why)) => report.fail(
            "target",
            format!("{target}: {why}"),
            "see that it runs, and that --permit of sproxy and permitopen= of your key allow it",
        ),
        Err(_) => {
            let advice = "the server waits for it: see that it can be reached from there";
            report.fail("target", format!("{target} does not answer the server"), advice);
        }
    }
}

/// Measures the speed through a loop at the server, if that is permitted.
pub(super) async fn speed(report: &mut DoctorReport, client: &Client) -> BulkOutcome {
    match measure_speed(client).await {
        Ok((idle, bulk)) => {
            report_speed(report, idle, bulk);
            let is_small = carrier(client).await.is_some_and(|carrier| carrier.small_segments);
            match bulk.bytes {
                _ if is_small => BulkOutcome::Hole,
                MANY.. => BulkOutcome::Whole,
                _ => BulkOutcome::Unknown,
            }
        }
        Err(why) => {
            let text = format!("{why}: it needs a server that permits localhost as target");
            report.skip("speed", text);
            BulkOutcome::Unknown
        }
    }
}

async fn measure_speed(client: &Client) -> Result<(Duration, BulkResult), String> {
    let path = PathLoop::open(client).await?;
    let failed = |error: std::io::Error| format!("the loop failed: {error}");
    let mut beside = path.session(client).await?;
    let session = path.session(client).await?;
    let mut trips = Vec::new();
    for _ in 0..ECHOES {
        trips.push(beside.echo().await.map_err(failed)?);
    }
    trips.sort_unstable();
    let idle = trips.get(ECHOES / 2).copied().unwrap_or_default();
    let bulk = session.bulk(&mut beside, BULK, MAX_BULK).await.map_err(failed)?;
    Ok((idle, bulk))
}

fn report_speed(report: &mut DoctorReport, idle: Duration, bulk: BulkResult) {
    let BulkResult { bytes: count, took, round_trips } = bulk;
    let megabits = count as f64 * 8.0 / 1e6 / took.as_secs_f64().max(0.001);
    let mut text = format!(
        "{megabits:.1} Mbit/s in each direction, both at once ({} in {:.1} s)",
        bytes(count),
        took.as_secs_f64()
    );
    let mut values = vec![("mbit_per_s", megabits), ("idle_echo_ms", millis(idle))];
    text += &format!("; a small message takes {:.1} ms", millis(idle));
    if let Some((median, longest)) = round_trips {
        let (median, longest) = (millis(median), millis(longest));
        text += &format!(", and {median:.1} ms beside that (at most {longest:.1} ms)");
        values.extend([("loaded_echo_ms", median), ("longest_echo_ms", longest)]);
    }
    report.measured("speed", text, &values);
}

/// Cuts the carrier, and measures how long the tunnel is without one.
pub(super) async fn pause(report: &mut DoctorReport, client: &Client) {
    let monitor = client.monitor();
    let mut events = monitor.events();
    monitor.cut().await;
    let deadline = Instant::now() + NEXT_CARRIER;
    while let Ok(Ok(event)) = timeout_at(deadline, events.recv()).await {
        if event.kind == EventKind::Back {
            let pause = millis(event.outage.unwrap_or_default());
            let text = format!("{pause:.0} ms without a connection after a cut; then it continued");
            return report.measured("pause", text, &[("pause_ms", pause)]);
        }
    }
    let text = format!(
        "no new connection within {} s after a cut of the first one",
        NEXT_CARRIER.as_secs()
    );
    let advice = "a firewall may limit new connections, or the path has just failed: try again";
    report.fail("pause", text, advice);
}
