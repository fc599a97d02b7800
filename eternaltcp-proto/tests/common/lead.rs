//! Inputs and outputs of a tunnel on its lead, for tests with one carrier.

use bytes::Bytes;
use eternaltcp_proto::{PathReport, Time, Transmit, Tunnel, Violation};

/// A tunnel of which only the lead matters. Without a lead, input belongs to an earlier one.
pub(crate) trait OnLead {
    /// Handles plaintext of the lead.
    fn lead_input(&mut self, now: Time, chunk: Bytes) -> Result<(), Violation>;
    /// Returns the next packet for the lead.
    fn lead_transmit(&mut self, now: Time) -> Option<Transmit>;
    /// Handles a read from the lead's socket.
    fn lead_heard(&mut self, now: Time);
    /// Handles a report about the lead.
    fn lead_report(&mut self, now: Time, report: PathReport);
}

impl OnLead for Tunnel {
    fn lead_input(&mut self, now: Time, chunk: Bytes) -> Result<(), Violation> {
        self.lead().map_or(Ok(()), |lead| self.handle_input(now, lead, chunk))
    }

    fn lead_transmit(&mut self, now: Time) -> Option<Transmit> {
        self.poll_transmit(now, self.lead()?)
    }

    fn lead_heard(&mut self, now: Time) {
        if let Some(lead) = self.lead() {
            self.handle_heard(now, lead);
        }
    }

    fn lead_report(&mut self, now: Time, report: PathReport) {
        if let Some(lead) = self.lead() {
            self.handle_path_report(now, lead, report);
        }
    }
}
