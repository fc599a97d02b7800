//! Bytes per second, from two answers of the same program.

use std::collections::HashMap;
use std::time::{Instant, SystemTime};

use eternaltcp::control::ProcessStatus;
use eternaltcp::status::{SessionStatus, TunnelStatus};

/// Bytes per second in both directions.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct ByteRate {
    pub(super) sent: u64,
    pub(super) received: u64,
}

/// A tunnel, or a session of it, as several answers name it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Counted {
    process: u32,
    started_at: SystemTime,
    tunnel: Option<String>,
    session: Option<u32>,
}

/// The bytes of the last answers, and the rates since those before.
#[derive(Debug, Default)]
pub(super) struct Rates {
    counts: HashMap<Counted, (u64, u64)>,
    rates: HashMap<Counted, ByteRate>,
    at: Option<Instant>,
}

impl Rates {
    /// Takes answers, which came now.
    pub(super) fn take(&mut self, processes: &[ProcessStatus], now: Instant) {
        let counts: HashMap<_, _> = processes.iter().flat_map(counts).collect();
        let passed = self.at.map_or(0, |at| now.saturating_duration_since(at).as_millis());
        self.rates.clear();
        if passed > 0 {
            let per_second = |now: u64, before: u64| {
                let rate = u128::from(now.saturating_sub(before)) * 1000 / passed;
                u64::try_from(rate).unwrap_or(u64::MAX)
            };
            let known = |it: &Counted| self.counts.get(it).copied();
            let rated = counts.iter().filter_map(|(it, (sent, received))| {
                let before = known(it)?;
                let (sent, received) =
                    (per_second(*sent, before.0), per_second(*received, before.1));
                Some((it.clone(), ByteRate { sent, received }))
            });
            self.rates = rated.collect();
        }
        (self.counts, self.at) = (counts, Some(now));
    }

    /// Returns the rate of a tunnel; `None` before its second answer.
    pub(super) fn of_tunnel(
        &self,
        process: &ProcessStatus,
        tunnel: &TunnelStatus,
    ) -> Option<ByteRate> {
        self.rates.get(&counted(process, tunnel, None)).copied()
    }

    /// Returns the rate of a session.
    pub(super) fn of_session(
        &self,
        process: &ProcessStatus,
        tunnel: &TunnelStatus,
        session: &SessionStatus,
    ) -> Option<ByteRate> {
        self.rates.get(&counted(process, tunnel, Some(session.session))).copied()
    }
}

fn counted(process: &ProcessStatus, tunnel: &TunnelStatus, session: Option<u32>) -> Counted {
    let (started_at, tunnel) = (process.started_at, tunnel.tunnel.clone());
    Counted { process: process.process, started_at, tunnel, session }
}

fn counts(process: &ProcessStatus) -> impl Iterator<Item = (Counted, (u64, u64))> {
    process.tunnels.iter().flat_map(move |tunnel| {
        let own = (counted(process, tunnel, None), (tunnel.sent_bytes, tunnel.received_bytes));
        let sessions = tunnel.sessions.iter().map(move |session| {
            let bytes = (session.sent_bytes, session.received_bytes);
            (counted(process, tunnel, Some(session.session)), bytes)
        });
        std::iter::once(own).chain(sessions)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::table::samples::{process, tunnel};
    use super::*;

    #[test]
    fn a_rate_is_the_difference_of_two_answers_over_the_time_between() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        let before = process(vec![tunnel()]);
        rates.take(std::slice::from_ref(&before), start);
        assert_eq!(rates.of_tunnel(&before, &before.tunnels[0]), None);
        let mut now = before.clone();
        now.tunnels[0].sent_bytes += 3000;
        now.tunnels[0].sessions[1].received_bytes += 500;
        let again = start + Duration::from_secs(2);
        rates.take(std::slice::from_ref(&now), again);
        let tunnel = &now.tunnels[0];
        assert_eq!(rates.of_tunnel(&now, tunnel), Some(ByteRate { sent: 1500, received: 0 }));
        let session = rates.of_session(&now, tunnel, &tunnel.sessions[1]);
        assert_eq!(session, Some(ByteRate { sent: 0, received: 250 }));
        // Another program with the same process id.
        now.started_at += Duration::from_secs(1);
        rates.take(std::slice::from_ref(&now), again + Duration::from_secs(1));
        assert_eq!(rates.of_tunnel(&now, &now.tunnels[0]), None);
    }
}
