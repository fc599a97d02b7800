//! The number of records that a place has lost, which it is told before its next record.

/// Records that were lost since the last one that was written.
#[derive(PartialEq, Eq, Default, Debug)]
pub(super) struct Losses(u64);

impl Losses {
    /// Returns their number.
    pub(super) fn count(&self) -> u64 {
        self.0
    }

    /// Counts records that were dropped before they came here.
    pub(super) fn add(&mut self, count: u64) {
        self.0 += count;
    }

    /// Writes a record, after `notice` about the lost ones, if there are any. `append` returns whether
    /// a line was written.
    pub(super) fn write(
        &mut self,
        line: &[u8],
        notice: impl FnOnce(u64) -> Vec<u8>,
        mut append: impl FnMut(&[u8]) -> bool,
    ) {
        self.settle(notice, &mut append);
        if self.0 > 0 || !append(line) {
            self.0 += 1;
        }
    }

    /// Writes records, as [`Self::write`] does for each. Returns how many are lost.
    pub(super) fn write_all(
        &mut self,
        lines: &[Vec<u8>],
        notice: fn(u64) -> Vec<u8>,
        mut append: impl FnMut(&[u8]) -> bool,
    ) -> u64 {
        let mut lost = 0;
        for line in lines {
            self.write(line, notice, &mut append);
            lost += u64::from(self.0 > 0);
        }
        lost
    }

    /// Writes the notice about lost records, if there are any.
    pub(super) fn settle(
        &mut self,
        notice: impl FnOnce(u64) -> Vec<u8>,
        mut append: impl FnMut(&[u8]) -> bool,
    ) {
        if self.0 > 0 && append(&notice(self.0)) {
            self.0 = 0;
        }
    }

    #[cfg(test)]
    pub(super) fn of(count: u64) -> Self {
        Self(count)
    }
}
