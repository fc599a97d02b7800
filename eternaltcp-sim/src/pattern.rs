//! The bytes that applications write, which follow from their position.

use bytes::Bytes;

use crate::rng::mix;

/// Returns the bytes of a stream from `offset` on. A lost, repeated or moved byte is detected
/// without storing what was written.
#[must_use]
pub(crate) fn bytes(stream: u64, offset: u64, length: usize) -> Bytes {
    let mut out = Vec::with_capacity(length + 8);
    let first = offset / 8;
    let skip = (offset % 8) as usize;
    for word in first..first + (length + skip).div_ceil(8) as u64 {
        out.extend_from_slice(&mix(mix(stream) ^ word).to_le_bytes());
    }
    Bytes::from(out).slice(skip..skip + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_depends_on_its_stream_and_place_and_on_nothing_else() {
        let whole = bytes(5, 0, 100);
        for start in 0..50 {
            assert_eq!(bytes(5, start, 40)[..], whole[start as usize..start as usize + 40]);
        }
        assert_ne!(bytes(6, 0, 100), whole);
    }
}
