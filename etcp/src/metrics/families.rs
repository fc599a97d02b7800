//! The metrics of a proxy. Each label has a fixed set of values: none is a key, a name or an address.

use std::fmt;
use std::time::SystemTime;

use eternaltcp::metrics::{DURATION_BOUNDS, DurationHistogram, ProxyLevels, ProxyTotals};
use eternaltcp::process::supervised;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::FigureSource;
use super::process::ProcessFigures;
use crate::logging;

/// A count with a word.
type LabelledCounts<'a> = &'a [(&'static str, u64)];

/// The name of the counter of deaths, which the program itself keeps, because it outlives a worker.
pub(super) const RESTARTS: &str = "etcp_restarts";

impl Collector for FigureSource {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (totals, levels) = (self.subject.totals(), self.subject.levels());
        let mut page = Families(encoder);
        self.encode_program(&mut page, &totals, &levels)?;
        encode_tunnels(&mut page, &totals, &levels)?;
        encode_carriers(&mut page, &totals)?;
        if self.subject.role().is_client() {
            encode_client(&mut page, &totals, &levels)?;
        } else {
            encode_server(&mut page, &totals)?;
            let help = "Records (--audit-log) that were dropped or could not be written";
            page.counter("etcp_records_lost", help, self.audit.lost())?;
        }
        encode_limits(&mut page, &levels)
    }
}

impl FigureSource {
    fn encode_program(
        &self,
        page: &mut Families<'_>,
        totals: &ProxyTotals,
        levels: &ProxyLevels,
    ) -> fmt::Result {
        let role = self.subject.role().to_string();
        let labels = [("version", env!("CARGO_PKG_VERSION")), ("role", role.as_str())];
        page.begin("etcp_build", "The program", MetricType::Info)?.encode_info(&labels)?;
        let help = "Start of the main process, in seconds of Unix time";
        page.gauge("etcp_start_time_seconds", help, unix_seconds(self.started_at))?;
        let help = "Start of the process that serves, in seconds of Unix time";
        page.gauge("process_start_time_seconds", help, unix_seconds(totals.since))?;
        if let Some(figures) = ProcessFigures::now() {
            let help = "Processor time of the process that serves, in seconds";
            let mut encoder = page.begin("process_cpu_seconds", help, MetricType::Counter)?;
            let seconds = figures.processor.as_secs_f64();
            encoder.encode_counter::<NoLabelSet, _, u64>(&seconds, None)?;
            let help = "Resident memory of the process that serves";
            page.gauge("process_resident_memory_bytes", help, figures.resident_bytes as f64)?;
        }
        let restarts = supervised().map_or(0, |process| process.restarts);
        page.counter(RESTARTS, "Workers that died and were replaced", restarts)?;
        let help = "Lines of the log that were dropped because nobody read them in time";
        page.counter("etcp_log_lines_lost", help, logging::lost())?;
        let help = "Whether no new sessions are accepted";
        page.gauge("etcp_draining", help, flag(levels.is_draining))?;
        let help =
            "Whether it is neither draining nor without keys (at a client: without a tunnel)";
        page.gauge("etcp_ready", help, flag(levels.has_keys && !levels.is_draining))
    }
}

fn encode_tunnels(
    page: &mut Families<'_>,
    totals: &ProxyTotals,
    levels: &ProxyLevels,
) -> fmt::Result {
    let count = |count: usize| count as f64;
    let states = [("attached", count(levels.attached)), ("detached", count(levels.detached))];
    page.gauges("etcp_tunnels", "Tunnels, with or without a carrier", "state", &states)?;
    page.counter("etcp_tunnels_started", "New tunnels", totals.tunnels)?;
    page.gauge("etcp_sessions", "Sessions", count(levels.sessions))?;
    page.counter("etcp_sessions_opened", "Sessions that either side opened", totals.sessions)?;
    let help = "Sessions that could not be resumed";
    page.counter("etcp_sessions_unresumed", help, totals.unresumed)?;
    let help = "Payload sent to the other side, each byte counted once";
    page.counter("etcp_sent_bytes", help, totals.sent_bytes)?;
    let help = "Payload of the other side that applications or targets took";
    page.counter("etcp_received_bytes", help, totals.received_bytes)?;
    let help = "Payload that was sent again after an attach";
    page.counter("etcp_replayed_bytes", help, totals.replayed_bytes)?;
    let help = "Payload in the queues of all tunnels, with 128 bytes for each packet";
    page.gauge("etcp_held_bytes", help, levels.held_bytes as f64)
}

fn encode_carriers(page: &mut Families<'_>, totals: &ProxyTotals) -> fmt::Result {
    page.counter("etcp_attaches", "Carriers that were attached", totals.attaches)?;
    let help = "Carriers that ended, by the reason";
    page.counters("etcp_carriers_ended", help, "reason", &totals.carrier_ends)?;
    let help = "Carriers that the server refused, by the reason";
    page.counters("etcp_refusals", help, "reason", &totals.refusals)?;
    let help = "Times without a carrier, from its loss until the next one was attached";
    page.histogram("etcp_outage_seconds", help, &totals.outages)?;
    let help = "Times for which a carrier could not be used, from its last sign of life until the \
                next one was attached";
    page.histogram("etcp_pause_seconds", help, &totals.pauses)
}

fn encode_client(
    page: &mut Families<'_>,
    totals: &ProxyTotals,
    levels: &ProxyLevels,
) -> fmt::Result {
    page.counter("etcp_dials", "Dials that were started", totals.dials)?;
    page.counter("etcp_doubts", "Doubts about a carrier", totals.doubts)?;
    let help = "Doubts that the carrier itself refuted";
    page.counter("etcp_false_alarms", help, totals.false_alarms)?;
    let help = "Servers of several whose tunnels have ended for good, while others continue";
    page.gauge("etcp_servers_ended", help, levels.ended as f64)
}

fn encode_server(page: &mut Families<'_>, totals: &ProxyTotals) -> fmt::Result {
    let help = "Sessions that were not connected to their target, by the reason";
    page.counters("etcp_session_refusals", help, "reason", &totals.session_refusals)?;
    let help = "Connections that became no carrier, and were not refused, by the reason";
    page.counters("etcp_failed_handshakes", help, "reason", &totals.failed_handshakes)?;
    let help = "Times that a limit was reached, by its flag";
    page.counters("etcp_limit_hits", help, "limit", &totals.limit_hits)
}

fn encode_limits(page: &mut Families<'_>, levels: &ProxyLevels) -> fmt::Result {
    let limits = levels.limits.iter();
    let most: Vec<_> = limits.clone().map(|limit| (limit.name, limit.max as f64)).collect();
    let used: Vec<_> = limits.map(|limit| (limit.name, limit.used as f64)).collect();
    page.gauges("etcp_limit", "The most that may be in use", "limit", &most)?;
    page.gauges("etcp_limit_used", "How much of each limit is in use", "limit", &used)
}

fn flag(is_set: bool) -> f64 {
    f64::from(u8::from(is_set))
}

/// Returns a time in seconds of Unix time, to the millisecond.
pub(super) fn unix_seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as f64 / 1e3
}

/// The page to which families are added.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn begin(
        &mut self,
        name: &'static str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'_>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, kind)
    }

    fn counter(&mut self, name: &'static str, help: &str, value: u64) -> fmt::Result {
        let mut encoder = self.begin(name, help, MetricType::Counter)?;
        encoder.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn counters(
        &mut self,
        name: &'static str,
        help: &str,
        label: &str,
        values: LabelledCounts<'_>,
    ) -> fmt::Result {
        let mut encoder = self.begin(name, help, MetricType::Counter)?;
        for (word, value) in values {
            let labels = [(label, *word)];
            let mut encoder = encoder.encode_family(&labels)?;
            encoder.encode_counter::<NoLabelSet, _, u64>(value, None)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &'static str, help: &str, value: f64) -> fmt::Result {
        self.begin(name, help, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn gauges(
        &mut self,
        name: &'static str,
        help: &str,
        label: &str,
        values: &[(&'static str, f64)],
    ) -> fmt::Result {
        let mut encoder = self.begin(name, help, MetricType::Gauge)?;
        for (word, value) in values {
            encoder.encode_family(&[(label, *word)])?.encode_gauge(value)?;
        }
        Ok(())
    }

    fn histogram(
        &mut self,
        name: &'static str,
        help: &str,
        found: &DurationHistogram,
    ) -> fmt::Result {
        let bounds = DURATION_BOUNDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(found.counts).collect();
        let mut encoder = self.begin(name, help, MetricType::Histogram)?;
        encoder.encode_histogram::<NoLabelSet>(found.sum, found.count(), &buckets, None)
    }
}
