//! Sums over all tunnels that are shown.

use eternaltcp::control::ProcessStatus;
use eternaltcp::report::{bytes, counted};
use eternaltcp::status::TunnelCondition;
use serde::Serialize;

use super::rates::{ByteRate, Rates};

/// The sums.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub(super) struct Totals {
    processes: usize,
    tunnels: usize,
    attached_tunnels: usize,
    sessions: usize,
    sent_bytes: u64,
    received_bytes: u64,
    queued_bytes: u64,
    undelivered_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent_bytes_per_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_bytes_per_s: Option<u64>,
}

impl Totals {
    pub(super) fn of(processes: &[ProcessStatus], rates: Option<&Rates>) -> Self {
        let mut totals = Self { processes: processes.len(), ..Self::default() };
        for process in processes {
            for tunnel in &process.tunnels {
                let is_attached =
                    matches!(tunnel.state, TunnelCondition::Attached | TunnelCondition::Doubted);
                totals.tunnels += 1;
                totals.attached_tunnels += usize::from(is_attached);
                totals.sessions += tunnel.sessions.len();
                totals.sent_bytes += tunnel.sent_bytes;
                totals.received_bytes += tunnel.received_bytes;
                totals.queued_bytes += tunnel.queued_bytes;
                totals.undelivered_bytes += tunnel.undelivered_bytes;
                if let Some(rate) = rates.and_then(|rates| rates.of_tunnel(process, tunnel)) {
                    totals.add(rate);
                }
            }
        }
        totals
    }

    fn add(&mut self, rate: ByteRate) {
        *self.sent_bytes_per_s.get_or_insert(0) += rate.sent;
        *self.received_bytes_per_s.get_or_insert(0) += rate.received;
    }

    /// Returns the line below the table, if there is more than one tunnel.
    pub(super) fn line(&self) -> Option<String> {
        if self.tunnels < 2 {
            return None;
        }
        let away = match self.tunnels - self.attached_tunnels {
            0 => String::new(),
            away => format!(" ({away} not attached)"),
        };
        let with = |count: u64, rate: Option<u64>| match rate {
            Some(rate) => format!("{} ({}/s)", bytes(count), bytes(rate)),
            None => bytes(count),
        };
        Some(format!(
            "total: {}, {}{away}, {}; {} sent, {} received, {} queued out, {} queued in",
            counted(self.processes, "program", "programs"),
            counted(self.tunnels, "tunnel", "tunnels"),
            counted(self.sessions, "session", "sessions"),
            with(self.sent_bytes, self.sent_bytes_per_s),
            with(self.received_bytes, self.received_bytes_per_s),
            bytes(self.queued_bytes),
            bytes(self.undelivered_bytes)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::samples::{process, tunnel};
    use super::*;

    #[test]
    fn sums_are_shown_below_several_tunnels() {
        let mut away = tunnel();
        (away.state, away.queued_bytes) = (TunnelCondition::Detached, 1000);
        let one = [process(vec![tunnel()])];
        assert_eq!(Totals::of(&one, None).line(), None);
        let all = [process(vec![tunnel(), away]), process(Vec::new())];
        let line = "total: 2 programs, 2 tunnels (1 not attached), 4 sessions; 24 MB sent, \
                    680 MB received, 1.0 kB queued out, 0 B queued in";
        assert_eq!(Totals::of(&all, None).line().as_deref(), Some(line));
    }
}
