//! Whether what a program holds grows with its work, from many noisy samples of it.

/// Samples of what a program holds, taken at even steps of its work.
///
/// Each sample is what the program holds for good, plus the queues of that moment. The second part
/// is often the greater one and never negative, so two samples say nothing about the first. The
/// lowest of many do: a leak raises them, and a full queue does not.
#[derive(Debug, Default)]
pub(crate) struct Trend {
    samples: Vec<u64>,
}

impl Trend {
    /// Samples below which [`Self::growth`] would compare single values.
    const MIN_SAMPLES: usize = 15;

    /// Adds the next sample, in bytes.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.samples.push(bytes);
    }

    /// Returns by how many bytes the lowest of the last third of the samples is above the lowest of
    /// the first third.
    #[track_caller]
    pub(crate) fn growth(&self) -> u64 {
        assert!(self.samples.len() >= Self::MIN_SAMPLES, "{} samples", self.samples.len());
        let third = self.samples.len() / 3;
        let lowest = |samples: &[u64]| samples.iter().copied().min().unwrap_or(0);
        let first = lowest(&self.samples[..third]);
        lowest(&self.samples[self.samples.len() - third..]).saturating_sub(first)
    }

    /// Returns the lowest and the highest sample, in bytes.
    pub(crate) fn range(&self) -> (u64, u64) {
        let samples = || self.samples.iter().copied();
        (samples().min().unwrap_or(0), samples().max().unwrap_or(0))
    }
}
