//! Limits the log lines about clients and strangers to a rate that an operator can read.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tracing::{debug, info};

use super::accept_failure::AcceptFailure;
use super::source_limits::SourceLimits;
use crate::log_limit::{Admit, BURST, LogLimit};
use crate::report::counted;

/// The limits of the log lines of all sources.
#[derive(Default, Debug)]
pub(super) struct SourceLog(Mutex<SourceLimits>);

/// The limit of one source.
pub(super) struct OfSource<'a>(&'a SourceLog, IpAddr);

impl Admit for OfSource<'_> {
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut limits = self.0.lock();
        match limits.clients_at(self.1) {
            Some(own) => own.admit(now),
            None => limits.all_strangers().admit(now),
        }
    }
}

impl SourceLog {
    /// Returns the limit of lines about clients at an address.
    pub(super) fn of(&self, address: IpAddr) -> OfSource<'_> {
        OfSource(self, address)
    }

    /// Logs that a connection did not become a carrier. `is_known` says whether its key is that of a
    /// client: anybody can cause the other refusals.
    pub(super) fn rejected(&self, peer: SocketAddr, why: &AcceptFailure, is_known: bool) {
        let now = Instant::now();
        if why.refusal().is_none() {
            debug!("no carrier from {peer}: {why}");
            return;
        }
        let admitted = match is_known {
            false => self.lock().admit_stranger(peer.ip(), now).then_some(0),
            true => self.of(peer.ip()).admit(now),
        };
        match admitted {
            Some(0) => info!("refused {peer}: {why}"),
            Some(not_shown) => info!(not_shown, "refused {peer}: {why}"),
            None => debug!("refused {peer}: {why}"),
        }
    }

    /// Logs how many lines were suppressed. Must be called each second.
    pub(super) fn tick(&self) {
        let (clients, hidden) = self.left_out(Instant::now());
        for (source, count) in clients {
            let lines = counted(count, "more line", "more lines");
            let are = if count == 1 { "is" } else { "are" };
            info!("{lines} about clients at {source} {are} not shown");
        }
        if hidden > 0 {
            let connections = counted(hidden, "more connection", "more connections");
            info!("refused {connections} of strangers");
        }
    }

    /// Returns how many lines about each source and about strangers were suppressed. Removes
    /// entries that are equivalent to new ones.
    fn left_out(&self, now: Instant) -> (Vec<(IpAddr, u64)>, u64) {
        let mut limits = self.lock();
        let told = limits.clients().filter_map(|(at, it)| Some((at, it.left_out(now)?))).collect();
        limits.forget_rested(now);
        let is_due = limits.has_hidden() && limits.begin_summary(now);
        (told, if is_due { limits.take_hidden() } else { 0 })
    }

    fn lock(&self) -> MutexGuard<'_, SourceLimits> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The limit of lines about one tunnel: its own, and that of its source.
#[derive(Debug)]
pub(super) struct TunnelLog {
    own: LogLimit,
    sources: Arc<SourceLog>,
    from: Mutex<IpAddr>,
}

impl TunnelLog {
    pub(super) fn new(sources: Arc<SourceLog>, from: IpAddr) -> Self {
        Self { own: LogLimit::new(BURST), sources, from: Mutex::new(from) }
    }

    /// Sets the source of its carriers.
    pub(super) fn set_from(&self, from: IpAddr) {
        *self.from.lock().unwrap_or_else(PoisonError::into_inner) = from;
    }

    /// Logs how many lines were suppressed. Must be called each second.
    pub(super) fn tick(&self) {
        if let Some(count) = self.own.left_out(Instant::now()) {
            let lines = counted(count, "more line is", "more lines are");
            info!("{lines} not shown");
        }
    }
}

impl Admit for TunnelLog {
    fn admit(&self, now: Instant) -> Option<u64> {
        let before = self.own.admit(now)?;
        let from = *self.from.lock().unwrap_or_else(PoisonError::into_inner);
        self.sources.of(from).admit(now).map(|of_source| before + of_source)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::source_limits::SUMMARY;
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn there(number: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 | number).into())
    }

    #[test]
    fn a_source_of_strangers_is_logged_a_few_times_and_then_as_a_number() {
        let (log, start) = (SourceLog::default(), Instant::now());
        let shown = (0..1000).filter(|_| log.lock().admit_stranger(HERE, start)).count();
        assert_eq!(shown, 5);
        assert!(log.lock().admit_stranger(there(1), start), "others are logged still");
        assert_eq!(log.left_out(start).1, 995);
        assert!(!log.lock().admit_stranger(HERE, start));
        assert_eq!(log.left_out(start + Duration::from_secs(1)).1, 0, "not each second");
        assert_eq!(log.left_out(start + SUMMARY).1, 1);
    }

    #[test]
    fn strangers_from_everywhere_cause_few_lines_and_bounded_memory() {
        let (log, start) = (SourceLog::default(), Instant::now());
        let at = |number: u32| start + Duration::from_millis(number.into());
        let shown = (0..60_000).filter(|it| log.lock().admit_stranger(there(*it), at(*it))).count();
        assert!(shown <= 60, "{shown} lines in a minute");
        assert!(log.lock().tracked().1 <= 1024);
        log.left_out(start + SUMMARY * 10);
        assert_eq!(log.lock().tracked().1, 0, "they are forgotten");
    }

    #[test]
    fn a_tunnel_has_one_line_a_second_and_its_source_no_more_for_a_thousand_of_them() {
        let (sources, start) = (Arc::new(SourceLog::default()), Instant::now());
        let log = TunnelLog::new(Arc::clone(&sources), HERE);
        let admitted = |log: &TunnelLog, at| (0..500).filter(|_| log.admit(at).is_some()).count();
        assert_eq!(admitted(&log, start), 10);
        assert_eq!(admitted(&log, start + Duration::from_secs(1)), 1);
        let many: Vec<_> = (0..1000).map(|_| TunnelLog::new(Arc::clone(&sources), HERE)).collect();
        let of_all: usize = many.iter().map(|log| admitted(log, start)).sum();
        assert_eq!(of_all, 200 - 11);
        let (told, _) = sources.left_out(start + Duration::from_secs(300));
        assert_eq!(told, [(HERE, 10_000 - 189)]);
        assert_eq!(sources.left_out(start + Duration::from_secs(900)).0, []);
        assert_eq!(sources.lock().tracked().0, 0);
    }
}
