//! Whether carriers are of use. The handshake of each has passed, but it consists of small packets:
//! if several carriers in a row are of no use, the path may drop large ones.

use std::time::Duration;

use super::WORTHY;

/// The number of useless carriers in a row after which small segments are tried.
const VAIN: u32 = 2;

/// The usefulness of the last carriers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usefulness {
    /// Whether something was delivered on the current carrier.
    has_progress: bool,
    /// Carriers in a row that were doubted soon, or before anything was delivered.
    in_vain: u32,
    /// Whether the current carrier counts as useless if nothing is delivered on it.
    is_doubtful: bool,
}

impl Usefulness {
    /// Begins with a new carrier.
    pub(super) fn begin(&mut self) {
        (self.has_progress, self.is_doubtful) = (false, false);
    }

    /// Handles something that was delivered on either side.
    pub(super) fn handle_progress(&mut self) {
        self.has_progress = true;
    }

    /// Handles a doubt about the current carrier.
    pub(super) fn handle_doubt(&mut self, lived: Duration) {
        self.is_doubtful = !self.is_useful(lived);
    }

    /// Handles the end of a carrier. A carrier that ended without a doubt was ended deliberately,
    /// and is no evidence that large packets vanish.
    pub(super) fn handle_end(&mut self, lived: Duration, is_doubted: bool) {
        if self.is_useful(lived) {
            self.in_vain = 0;
        } else if is_doubted {
            self.in_vain = self.in_vain.saturating_add(1);
        }
        self.is_doubtful = false;
    }

    /// Returns whether the current carrier was of use. Small packets may have been delivered on it
    /// before a large one was in their way, so progress alone is not enough.
    fn is_useful(self, lived: Duration) -> bool {
        self.has_progress && lived >= WORTHY
    }

    /// Handles a handshake that nobody answered, although the machine had answered before.
    pub(super) fn handle_silent_handshake(&mut self) {
        self.in_vain = self.in_vain.saturating_add(1);
    }

    /// Discards the record, because the path has changed.
    pub(super) fn reset(&mut self) {
        (self.in_vain, self.is_doubtful) = (0, false);
    }

    /// Returns whether the path may drop large packets.
    pub(super) fn suggests_small_segments(self) -> bool {
        self.rules_large_out(true)
    }

    /// Returns whether an existing carrier is of no use because its segments are large. Several
    /// paths may die one after the other, so without another sign this conclusion needs more
    /// evidence.
    pub(super) fn rules_large_out(self, is_of_size: bool) -> bool {
        let most = if is_of_size { VAIN } else { 2 * VAIN };
        self.in_vain.saturating_add(u32::from(self.is_doubtful)) >= most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_carrier_that_delivers_and_lives_is_of_use() {
        let mut usefulness = Usefulness::default();
        for (has_progress, lived, suggests) in [
            (false, WORTHY, false),
            (true, WORTHY / 2, true),
            (true, WORTHY, false),
            (true, Duration::ZERO, false),
            (false, WORTHY * 9, true),
        ] {
            usefulness.begin();
            if has_progress {
                usefulness.handle_progress();
            }
            usefulness.handle_end(lived, true);
            assert_eq!(usefulness.suggests_small_segments(), suggests, "{has_progress} {lived:?}");
        }
        usefulness.reset();
        usefulness.handle_end(WORTHY, true);
        usefulness.handle_end(WORTHY, false);
        usefulness.begin();
        assert!(!usefulness.suggests_small_segments());
        usefulness.handle_doubt(Duration::ZERO);
        assert!(usefulness.suggests_small_segments(), "the doubted one counts");
        usefulness.reset();
        assert!(!usefulness.suggests_small_segments());
    }
}
