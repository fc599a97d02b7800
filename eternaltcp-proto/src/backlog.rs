//! Bytes of the application that have no packet number yet.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::packet::MAX_PAYLOAD;

/// Chunks smaller than this are copied together. Larger ones are sliced without a copy.
const SMALL: usize = 2048;

/// Bytes that wait for their numbers. Small chunks are merged, so that a million one-byte writes do
/// not become a million packets.
#[derive(Default, Debug)]
pub(crate) struct Backlog {
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
    len: usize,
}

impl Backlog {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn push(&mut self, chunk: Bytes) {
        self.len += chunk.len();
        if chunk.len() < SMALL && self.tail.len() + chunk.len() <= MAX_PAYLOAD {
            self.tail.extend_from_slice(&chunk);
            return;
        }
        self.seal();
        if chunk.len() < SMALL {
            self.tail.extend_from_slice(&chunk);
        } else {
            self.chunks.push_back(chunk);
        }
    }

    /// Takes the payload of the next packet: at most `most` bytes, which is not zero. Returns
    /// `None` if there is nothing.
    pub(crate) fn take(&mut self, most: usize) -> Option<Bytes> {
        if self.chunks.is_empty() {
            self.seal();
        }
        let front = self.chunks.front_mut()?;
        let payload = if front.len() > most {
            front.split_to(most)
        } else {
            let whole = self.chunks.pop_front()?;
            self.merge_small(whole, most)
        };
        self.len -= payload.len();
        // An idle session holds no memory for them.
        if self.chunks.is_empty() {
            self.chunks = VecDeque::new();
        }
        Some(payload)
    }

    /// Drops everything and returns how many bytes were dropped.
    pub(crate) fn clear(&mut self) -> usize {
        std::mem::take(self).len
    }

    /// Returns all chunks, in order.
    pub(crate) fn into_chunks(mut self) -> VecDeque<Bytes> {
        self.seal();
        self.chunks
    }

    /// Returns all chunks, in order. The last one may be a copy.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = Bytes> {
        let tail = (!self.tail.is_empty()).then(|| Bytes::copy_from_slice(&self.tail));
        self.chunks.iter().cloned().chain(tail)
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push_back(std::mem::take(&mut self.tail).freeze());
        }
    }

    /// Appends following chunks to a short payload while that is cheap.
    fn merge_small(&mut self, payload: Bytes, most: usize) -> Bytes {
        let joins = |have: usize, next: &Bytes| {
            (have < SMALL || next.len() < SMALL) && have + next.len() <= most
        };
        if !self.chunks.front().is_some_and(|next| joins(payload.len(), next)) {
            return payload;
        }
        let mut merged = BytesMut::with_capacity(most.min(self.len));
        merged.extend_from_slice(&payload);
        while self.chunks.front().is_some_and(|next| joins(merged.len(), next)) {
            merged.extend_from_slice(&self.chunks.pop_front().unwrap_or_default());
        }
        merged.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(backlog: &mut Backlog) -> Vec<usize> {
        std::iter::from_fn(|| backlog.take(MAX_PAYLOAD)).map(|payload| payload.len()).collect()
    }

    #[test]
    fn one_byte_writes_become_full_packets() {
        let mut backlog = Backlog::default();
        (0..MAX_PAYLOAD * 2 + 1).for_each(|_| backlog.push(Bytes::from_static(b"x")));
        assert_eq!(taken(&mut backlog), [MAX_PAYLOAD, MAX_PAYLOAD, 1]);
        assert!(backlog.is_empty());
    }

    #[test]
    fn a_large_read_is_sliced_and_not_copied() {
        let read = Bytes::from(vec![1; 4 * MAX_PAYLOAD]);
        let mut backlog = Backlog::default();
        backlog.push(read.clone());
        for index in 0..4 {
            let payload = backlog.take(MAX_PAYLOAD).unwrap();
            assert_eq!(payload.as_ptr(), read[index * MAX_PAYLOAD..].as_ptr());
        }
        assert!(backlog.take(MAX_PAYLOAD).is_none());
    }

    #[test]
    fn order_holds_whatever_the_sizes() {
        let mut backlog = Backlog::default();
        let all: Vec<u8> = (0..60_000_u32).map(|n| n as u8).collect();
        let mut rest = Bytes::from(all.clone());
        for size in [1, 2, 3000, 1, 20_000, 5, 17_000, 2047, 2048].into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            backlog.push(rest.split_to(size.min(rest.len())));
        }
        let mut out = Vec::new();
        while let Some(payload) = backlog.take(7000) {
            assert!(!payload.is_empty() && payload.len() <= 7000);
            out.extend_from_slice(&payload);
        }
        assert_eq!(out, all);
    }
}
