//! Limits the records without data that a peer may send: they cost work and carry nothing.

use super::fault::TlsFault;

/// The number of records without data that may arrive at once. They cost about as much as a
/// handshake.
const AT_ONCE: u32 = 256;

/// The number of bytes of data that allow one more such record: opening them costs as much as
/// changing a key.
const DATA_FOR_ONE: usize = 4096;

/// The number of records without data that a peer may still send: key updates, tickets, warnings,
/// parts of messages, and empty records.
///
/// It grows with data and not with time. A slow peer is never penalized, and a peer that sends only
/// such records soon loses its connection.
pub(super) struct Allowance {
    left: u32,
    /// Bytes of data since the last record that they allowed.
    data: usize,
}

impl Allowance {
    pub(super) fn new() -> Self {
        Self { left: AT_ONCE, data: 0 }
    }

    /// Takes one from the allowance, or returns an error if none is left.
    pub(super) fn take(&mut self) -> Result<(), TlsFault> {
        let Some(left) = self.left.checked_sub(1) else {
            return Err(TlsFault::unexpected("too many records without data"));
        };
        self.left = left;
        Ok(())
    }

    /// Adds received data to the allowance.
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
