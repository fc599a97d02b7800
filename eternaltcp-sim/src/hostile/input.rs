//! The bytes of a fuzzer as decisions, and the packets that follow from them.

use bytes::Bytes;
use eternaltcp_proto::HEADER_LEN;

/// A fuzzer's bytes, in order. At their end all decisions are 0.
#[derive(Debug)]
pub(super) struct FuzzInput<'a>(&'a [u8]);

impl<'a> FuzzInput<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub(super) fn word(&mut self) -> u32 {
        u32::from_le_bytes([0; 4].map(|_| self.byte()))
    }

    /// Returns the right value, or sometimes a wrong one near it or anywhere.
    pub(super) fn near(&mut self, right: u32) -> u32 {
        match self.byte() {
            0..=219 => right,
            220..=229 => right.wrapping_add(1),
            230..=239 => right.wrapping_sub(1),
            240..=247 => right.wrapping_add(u32::from(self.byte())),
            _ => self.word(),
        }
    }

    /// Returns the right 64-bit value, or sometimes a wrong one near it or anywhere.
    pub(super) fn near_long(&mut self, right: u64) -> u64 {
        match self.byte() {
            0..=219 => right,
            220..=229 => right.wrapping_add(1),
            230..=239 => right.wrapping_sub(1),
            240..=247 => u64::from(self.byte()),
            _ => u64::from(self.word()) << 32 | u64::from(self.word()),
        }
    }

    /// Sometimes changes a byte of a payload, or its length.
    pub(super) fn damage(&mut self, payload: &mut Vec<u8>) {
        match self.byte() {
            0..=229 => {}
            230..=245 if !payload.is_empty() => {
                let at = usize::from(self.byte()) % payload.len();
                payload[at] = self.byte();
            }
            246..=250 => drop(payload.pop()),
            _ => payload.push(self.byte()),
        }
    }
}

/// Encodes a packet by `docs/protocol.md`, independently of the code.
pub(super) fn packet(kind: u32, session: u32, seq: u32, ack: u32, payload: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(HEADER_LEN + payload.len());
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    for word in [kind, session, seq, ack, length] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.extend_from_slice(payload);
    bytes.into()
}
