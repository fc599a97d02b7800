//! Turns a carrier's plaintext into packets.

use bytes::{Buf, Bytes, BytesMut};

use crate::packet::{HEADER_LEN, Header, HeaderError};

/// A payload smaller than this is copied if it would keep a larger chunk alive.
const SMALL: usize = 2048;

/// Cuts the plaintext of one carrier into packets. A payload that lies within one chunk is sliced
/// from it. A payload that spans several chunks is copied together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decoder {
    chunk: Bytes,
    chunk_size: usize,
    /// The start of a packet whose rest has not arrived.
    partial: BytesMut,
}

impl Decoder {
    /// Appends a chunk to the bytes that [`Self::poll`] has left of the earlier ones. The chunk is
    /// copied only if those were not drained.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        self.chunk = if self.chunk.is_empty() {
            chunk
        } else {
            [&self.chunk[..], &chunk[..]].concat().into()
        };
        self.chunk_size = self.chunk.len();
    }

    /// Returns whether no part of a packet is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.chunk.is_empty() && self.partial.is_empty()
    }

    /// Returns the next complete packet.
    pub(crate) fn poll(&mut self) -> Result<Option<(Header, Bytes)>, HeaderError> {
        if self.partial.is_empty() { self.poll_chunk() } else { self.poll_partial() }
    }

    fn poll_chunk(&mut self) -> Result<Option<(Header, Bytes)>, HeaderError> {
        let Some(head) = self.chunk.first_chunk::<HEADER_LEN>() else {
            self.keep_rest();
            return Ok(None);
        };
        let header = Header::decode(head)?;
        let whole = HEADER_LEN + header.length as usize;
        if self.chunk.len() < whole {
            self.keep_rest();
            return Ok(None);
        }
        let mut payload = self.chunk.split_to(whole);
        payload.advance(HEADER_LEN);
        if payload.len() < SMALL && payload.len() * 2 < self.chunk_size {
            payload = Bytes::copy_from_slice(&payload);
        }
        Ok(Some((header, payload)))
    }

    fn poll_partial(&mut self) -> Result<Option<(Header, Bytes)>, HeaderError> {
        self.fill(HEADER_LEN);
        let Some(head) = self.partial.first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let header = Header::decode(head)?;
        let whole = HEADER_LEN + header.length as usize;
        self.fill(whole);
        if self.partial.len() < whole {
            return Ok(None);
        }
        let mut packet = std::mem::take(&mut self.partial).freeze();
        packet.advance(HEADER_LEN);
        Ok(Some((header, packet)))
    }

    fn keep_rest(&mut self) {
        self.partial.extend_from_slice(&self.chunk);
        self.chunk.clear();
    }

    /// Moves bytes until `partial` has `size` of them.
    fn fill(&mut self, size: usize) {
        let missing = size.saturating_sub(self.partial.len()).min(self.chunk.len());
        self.partial.extend_from_slice(&self.chunk.split_to(missing));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Kind;
    use crate::seq::Seq;

    fn stream() -> (Vec<Bytes>, Vec<u8>) {
        let payloads: Vec<Bytes> =
            [1, 16_364, 3, 5000, 2].map(|size| Bytes::from(vec![size as u8; size])).to_vec();
        let mut bytes = Vec::new();
        for (index, payload) in payloads.iter().enumerate() {
            let header = Header {
                kind: Kind::Data,
                session: 1,
                seq: Seq::new(index as u32),
                ack: Seq::default(),
                length: payload.len() as u32,
            };
            bytes.extend_from_slice(&header.encode());
            bytes.extend_from_slice(payload);
        }
        (payloads, bytes)
    }

    #[test]
    fn chunks_of_any_size_give_the_same_packets() {
        let (payloads, bytes) = stream();
        for size in [1, 7, 19, 20, 21, 4000, 16_384, 100_000] {
            let mut decoder = Decoder::default();
            let mut out = Vec::new();
            for chunk in bytes.chunks(size) {
                decoder.push(Bytes::copy_from_slice(chunk));
                while let Some((header, payload)) = decoder.poll().unwrap() {
                    assert_eq!(header.seq.get() as usize, out.len());
                    out.push(payload);
                }
            }
            assert_eq!(out, payloads, "chunks of {size}");
            assert!(decoder.is_empty());
        }
    }

    #[test]
    fn a_chunk_that_was_not_drained_is_followed_by_the_next_and_never_replaced() {
        let (payloads, bytes) = stream();
        for size in [1, 19, 21, 4000, 16_384] {
            let mut decoder = Decoder::default();
            let mut out = Vec::new();
            for chunk in bytes.chunks(size) {
                decoder.push(Bytes::copy_from_slice(chunk));
                out.extend(decoder.poll().unwrap().map(|(_, payload)| payload));
                decoder.push(Bytes::new());
            }
            while let Some((_, payload)) = decoder.poll().unwrap() {
                out.push(payload);
            }
            assert_eq!(out, payloads, "chunks of {size}");
            assert!(decoder.is_empty());
        }
    }

    #[test]
    fn a_large_payload_is_sliced_and_a_small_one_does_not_pin_its_chunk() {
        let (_, bytes) = stream();
        let chunk = Bytes::from(bytes);
        let inside = chunk.as_ptr_range();
        let mut decoder = Decoder::default();
        decoder.push(chunk.clone());
        while let Some((_, payload)) = decoder.poll().unwrap() {
            assert_eq!(inside.contains(&payload.as_ptr()), payload.len() >= SMALL);
        }
    }

    #[test]
    fn a_huge_length_is_an_error_and_not_an_allocation() {
        let mut decoder = Decoder::default();
        let mut bytes = [0; HEADER_LEN];
        bytes[16..].copy_from_slice(&u32::MAX.to_le_bytes());
        decoder.push(Bytes::copy_from_slice(&bytes));
        assert!(decoder.poll().is_err());
    }
}
