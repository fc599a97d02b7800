//! One direction of a stream in memory.

use std::collections::VecDeque;
use std::task::{Context, Waker};

use super::CAPACITY;

/// The size of the memory that an empty direction keeps, in bytes.
const KEPT: usize = 4 * 1024;

/// Bytes in transit, and the tasks that wait for them or for room.
#[derive(Debug, Default)]
pub(super) struct Flow {
    bytes: VecDeque<u8>,
    /// No further bytes follow.
    pub(super) is_ended: bool,
    /// The reader has seen the end.
    pub(super) is_read_out: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

impl Flow {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn has_room(&self) -> bool {
        self.bytes.len() < CAPACITY
    }

    /// Takes as many bytes as fit. Returns their number.
    pub(super) fn put(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(CAPACITY.saturating_sub(self.bytes.len()));
        self.bytes.extend(&bytes[..count]);
        count
    }

    /// Passes at most `most` bytes to `give`, in one or two pieces.
    pub(super) fn take(&mut self, most: usize, mut give: impl FnMut(&[u8])) -> usize {
        let count = most.min(self.bytes.len());
        let (front, back) = self.bytes.as_slices();
        let split = count.min(front.len());
        give(&front[..split]);
        give(&back[..count - split]);
        self.bytes.drain(..count);
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT {
            self.bytes = VecDeque::new();
        }
        count
    }

    pub(super) fn clear(&mut self) {
        self.bytes = VecDeque::new();
    }
}

/// Keeps the waker of a waiting task.
pub(super) fn register(place: &mut Option<Waker>, cx: &Context<'_>) {
    if !place.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
        *place = Some(cx.waker().clone());
    }
}
