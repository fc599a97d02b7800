//! One direction of a stream in memory.

use std::collections::VecDeque;
use std::task::{Context, Waker};

use super::CAPACITY;

/// Memory that an empty direction keeps.
const KEPT: usize = 4 * 1024;

/// Bytes on their way, and who waits for them or for room.
#[derive(Debug, Default)]
pub(super) struct Flow {
    bytes: VecDeque<u8>,
    /// Nothing follows the bytes that are here.
    pub(super) is_ended: bool,
    /// The reader was told of the end.
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

    /// Takes what there is room for. Says how many bytes that is.
    pub(super) fn put(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(CAPACITY.saturating_sub(self.bytes.len()));
        self.bytes.extend(&bytes[..count]);
        count
    }

    /// Gives `most` bytes at most, in one or two pieces.
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

/// Keeps the waker of who waits.
pub(super) fn register(place: &mut Option<Waker>, cx: &Context<'_>) {
    if !place.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
        *place = Some(cx.waker().clone());
    }
}
