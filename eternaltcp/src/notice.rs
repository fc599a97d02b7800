//! Log lines about limits, which a peer could otherwise repeat without end.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Time between two lines of one kind.
const PAUSE: Duration = Duration::from_secs(60);

/// Limits lines of one kind to one per minute. The next line counts the occurrences since then.
#[derive(Debug, Default)]
pub(crate) struct Notice(Mutex<NoticeState>);

#[derive(Debug, Default)]
struct NoticeState {
    said: Option<Instant>,
    times: u64,
}

impl Notice {
    /// Counts an occasion. Returns how many there were since the last line, with
    /// this one, if a line is due now.
    pub(crate) fn due(&self) -> Option<u64> {
        self.due_for(1)
    }

    /// Counts several occurrences at once. Returns the same as [`Self::due`].
    pub(crate) fn due_for(&self, occasions: u64) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.times += occasions;
        let is_due = state.times > 0 && state.said.is_none_or(|said| said.elapsed() >= PAUSE);
        is_due.then(|| {
            state.said = Some(Instant::now());
            std::mem::take(&mut state.times)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_line_is_said_at_once_and_then_once_a_minute_with_a_count() {
        let notice = Notice::default();
        assert_eq!(notice.due_for(0), None);
        assert_eq!(notice.due(), Some(1));
        assert_eq!((notice.due(), notice.due_for(5)), (None, None));
        tokio::time::advance(PAUSE).await;
        assert_eq!(notice.due(), Some(7));
        assert_eq!(notice.due(), None);
    }
}
