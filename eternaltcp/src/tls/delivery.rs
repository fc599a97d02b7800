//! Handing decrypted data on: large records as slices of the buffer that they
//! were decrypted in, small ones copied, so that none of them pins it.

use std::ops::Range;

use bytes::{Buf as _, Bytes, BytesMut};

/// From this length on a record's data are a slice of the read buffer; shorter
/// ones are copied. At most, then, 2 KiB of data hold a whole buffer.
pub(super) const SLICE_MIN: usize = 2048;

/// Where the application data of one pass over the read buffer lie in it.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    /// In the order of the stream, none overlapping.
    ranges: Vec<Range<usize>>,
}

impl Delivery {
    pub(super) fn add(&mut self, range: Range<usize>) {
        self.ranges.push(range);
    }

    /// Appends what was added to `plaintext` and takes the first `consumed`
    /// bytes off `incoming`. If all was copied, `incoming` keeps its memory for
    /// the next read.
    pub(super) fn finish(
        &mut self,
        incoming: &mut BytesMut,
        consumed: usize,
        plaintext: &mut Vec<Bytes>,
    ) {
        if self.ranges.iter().any(is_large) {
            let front = incoming.split_to(consumed).freeze();
            self.emit(&front, |range| front.slice(range), plaintext);
        } else {
            self.emit(incoming, |range| Bytes::copy_from_slice(&incoming[range]), plaintext);
            discard(incoming, consumed);
        }
        self.ranges.clear();
    }

    fn emit(&self, front: &[u8], take: impl Fn(Range<usize>) -> Bytes, plaintext: &mut Vec<Bytes>) {
        for run in self.ranges.chunk_by(|a, b| !is_large(a) && !is_large(b)) {
            match run {
                [single] if is_large(single) => plaintext.push(take(single.clone())),
                small => plaintext.push(merge(front, small)),
            }
        }
    }
}

/// Takes `count` bytes off the front; what is emptied is used again from where it stands.
fn discard(incoming: &mut BytesMut, count: usize) {
    if count == incoming.len() {
        incoming.clear();
    } else {
        incoming.advance(count);
    }
}

fn is_large(range: &Range<usize>) -> bool {
    range.len() >= SLICE_MIN
}

/// One copy of several pieces.
fn merge(front: &[u8], pieces: &[Range<usize>]) -> Bytes {
    let mut merged = Vec::with_capacity(pieces.iter().map(Range::len).sum());
    for piece in pieces {
        merged.extend_from_slice(&front[piece.clone()]);
    }
    merged.into()
}
