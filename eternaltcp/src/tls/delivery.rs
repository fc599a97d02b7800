//! Handing decrypted data on, in as few allocations as their sizes allow.

use bytes::Bytes;

use crate::memory::Blocks;

/// From this length on a record's data go to a block; shorter ones share memory
/// with their neighbours of the same call, so that they keep no block alive.
const MERGED_BELOW: usize = 2048;

/// Appends the data of records to the caller's list.
pub(super) struct Delivery<'a> {
    plaintext: &'a mut Vec<Bytes>,
    blocks: &'a mut Blocks,
    /// Small records that no large one has followed yet.
    small: Vec<u8>,
}

impl<'a> Delivery<'a> {
    pub(super) fn new(plaintext: &'a mut Vec<Bytes>, blocks: &'a mut Blocks) -> Self {
        Self { plaintext, blocks, small: Vec::new() }
    }

    /// Adds one record's data.
    pub(super) fn add(&mut self, data: &[u8]) {
        if data.len() < MERGED_BELOW {
            self.small.extend_from_slice(data);
        } else {
            self.finish();
            let block = self.blocks.room(data.len());
            block.extend_from_slice(data);
            self.plaintext.push(block.split().freeze());
        }
    }

    /// Hands on what waits for more.
    pub(super) fn finish(&mut self) {
        if !self.small.is_empty() {
            self.plaintext.push(std::mem::take(&mut self.small).into());
        }
    }
}
