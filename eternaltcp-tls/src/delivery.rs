//! Passes decrypted data on: large records in place, small ones copied together.

use bytes::{Bytes, BytesMut};

/// The length from which a record's data stay in place. Shorter data share memory with their
/// neighbours of the same call, so that they do not keep a block alive.
const MERGED_BELOW: usize = 2048;

/// Appends the data of records to the caller's list.
pub(super) struct PlaintextSink<'a> {
    plaintext: &'a mut Vec<Bytes>,
    /// Small records that no large one has followed yet.
    small: Vec<u8>,
}

impl<'a> PlaintextSink<'a> {
    pub(super) fn new(plaintext: &'a mut Vec<Bytes>) -> Self {
        Self { plaintext, small: Vec::new() }
    }

    /// Adds one record's data.
    pub(super) fn add(&mut self, data: BytesMut) {
        if data.len() < MERGED_BELOW {
            self.small.extend_from_slice(&data);
        } else {
            self.finish();
            self.plaintext.push(data.freeze());
        }
    }

    /// Passes on the collected small records.
    pub(super) fn finish(&mut self) {
        if !self.small.is_empty() {
            self.plaintext.push(std::mem::take(&mut self.small).into());
        }
    }
}
