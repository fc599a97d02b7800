//! Pseudo-random streams in which every byte is known by its position.

/// A stream that does not repeat itself, identified by its seed.
#[derive(Clone, Copy, Debug)]
pub(super) struct DemoPattern(pub(super) u64);

impl DemoPattern {
    /// Fills `buffer` with the stream's bytes from `position` on.
    pub(super) fn fill(self, mut position: u64, mut buffer: &mut [u8]) {
        while !buffer.is_empty() {
            let word = self.word(position / 8).to_le_bytes();
            let bytes = &word[(position % 8) as usize..];
            let (now, later) = buffer.split_at_mut(bytes.len().min(buffer.len()));
            now.copy_from_slice(&bytes[..now.len()]);
            position += now.len() as u64;
            buffer = later;
        }
    }

    /// Returns the position of the first wrong byte, if any, of `bytes` that arrived at `position`.
    /// `scratch` must be at least as long.
    pub(super) fn first_wrong(
        self,
        position: u64,
        bytes: &[u8],
        scratch: &mut [u8],
    ) -> Option<u64> {
        let expected = &mut scratch[..bytes.len()];
        self.fill(position, expected);
        if expected == bytes {
            return None;
        }
        let index = bytes.iter().zip(expected).position(|(got, wanted)| got != wanted)?;
        Some(position + index as u64)
    }

    /// Computes one word of the stream: the finaliser of SplitMix64 over a counter.
    fn word(self, index: u64) -> u64 {
        let word = self.0.wrapping_add(index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_the_same_as_in_the_whole() {
        let mut whole = [0; 100];
        DemoPattern(7).fill(0, &mut whole);
        for start in 0..40 {
            let mut part = [0; 50];
            DemoPattern(7).fill(start as u64, &mut part);
            assert_eq!(part, whole[start..start + 50]);
        }
    }

    #[test]
    fn a_wrong_a_repeated_and_a_missing_byte_are_found() {
        let (mut bytes, mut scratch) = ([0; 64], [0; 64]);
        DemoPattern(1).fill(1000, &mut bytes);
        assert_eq!(DemoPattern(1).first_wrong(1000, &bytes, &mut scratch), None);
        assert!(DemoPattern(1).first_wrong(1001, &bytes, &mut scratch).is_some());
        assert!(DemoPattern(1).first_wrong(999, &bytes, &mut scratch).is_some());
        assert!(DemoPattern(2).first_wrong(1000, &bytes, &mut scratch).is_some());
        bytes[63] ^= 1;
        assert_eq!(DemoPattern(1).first_wrong(1000, &bytes, &mut scratch), Some(1063));
    }
}
