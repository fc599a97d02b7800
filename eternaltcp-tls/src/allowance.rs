//! Limits what a peer sends that is no data: such records cost work and bring nothing.

use super::fault::Fault;

/// So many records without data may come at once. A handshake costs as much work.
const AT_ONCE: u32 = 256;

/// So much data allows one more: to open it costs as much as to change a key.
const DATA_FOR_ONE: usize = 4096;

/// What a peer may still send that is no data: key updates, tickets, warnings,
/// parts of messages, and empty records.
///
/// It follows the data and no clock: a peer that is only slow owes nothing, and a
/// peer that sends nothing else soon has no connection.
pub(super) struct Allowance {
    left: u32,
    /// Data since the last one that they allowed.
    data: usize,
}

impl Allowance {
    pub(super) fn new() -> Self {
        Self { left: AT_ONCE, data: 0 }
    }

    /// Takes one, or says that there is none.
    pub(super) fn take(&mut self) -> Result<(), Fault> {
        let Some(left) = self.left.checked_sub(1) else {
            return Err(Fault::unexpected("records without data, without end"));
        };
        self.left = left;
        Ok(())
    }

    /// Data came.
    pub(super) fn earn(&mut self, data: usize) {
        self.data += data;
        let earned = u32::try_from(self.data / DATA_FOR_ONE).unwrap_or(AT_ONCE);
        self.data %= DATA_FOR_ONE;
        self.left = self.left.saturating_add(earned).min(AT_ONCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_give_back_what_records_without_data_took_and_no_more() {
        let mut allowance = Allowance::new();
        let takes = |allowance: &mut Allowance| {
            std::iter::from_fn(|| allowance.take().ok()).take(1000).count()
        };
        assert_eq!(takes(&mut allowance), 256);
        for _ in 0..4095 {
            allowance.earn(1);
        }
        assert_eq!(takes(&mut allowance), 0);
        allowance.earn(1);
        assert_eq!(takes(&mut allowance), 1);
        allowance.earn(16_384);
        assert_eq!(takes(&mut allowance), 4);
        for _ in 0..1000 {
            allowance.earn(16_384);
        }
        assert_eq!(takes(&mut allowance), 256);
    }
}
