//! A summary of many measured times.

use std::time::Duration;

/// Returns the median and the slow end of the measurements, as fields of JSON.
pub(crate) fn summary(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |part: f64| {
        let rank = (times.len() as f64 * part).ceil() as usize;
        times.get(rank.saturating_sub(1)).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    format!(
        r#""p50": {:.1}, "p99": {:.1}, "p999": {:.1}, "max": {:.1}, "count": {}"#,
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        times.len()
    )
}
