//! The boundaries of the records in a TLS stream (RFC 8446, section 5.1).

/// Length of type, version and length.
const HEADER: usize = 5;

/// A position in a stream of TLS records.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    /// The part of a header that has passed.
    header: Vec<u8>,
    /// Bytes of the current record's body that have not passed yet.
    body: usize,
}

impl Records {
    /// Records that these bytes of the stream have passed.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let wanted = if self.body > 0 { self.body } else { HEADER - self.header.len() };
            let (now, later) = bytes.split_at(wanted.min(bytes.len()));
            bytes = later;
            if self.body > 0 {
                self.body -= now.len();
                continue;
            }
            self.header.extend_from_slice(now);
            if let [_, _, _, high, low] = self.header[..] {
                self.body = usize::from(u16::from_be_bytes([high, low]));
                self.header.clear();
            }
        }
    }

    /// Returns how many of these bytes may pass so that the stream stops inside a record.
    pub(super) fn cut(&self, bytes: &[u8]) -> usize {
        let mut after = self.clone();
        after.pass(bytes);
        let is_inside = after.body > 0 || !after.header.is_empty();
        if is_inside { bytes.len() } else { bytes.len().saturating_sub(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records with bodies of 3, 1 and 300 bytes.
    fn stream() -> Vec<u8> {
        let record = |length: u16| {
            let [high, low] = length.to_be_bytes();
            [vec![23, 3, 3, high, low], vec![0; usize::from(length)]].concat()
        };
        [record(3), record(1), record(300)].concat()
    }

    #[test]
    fn every_cut_is_inside_a_record_wherever_the_stream_stands() {
        let (stream, ends) = (stream(), [0, 8, 14, 319]);
        for start in 0..stream.len() {
            let mut records = Records::default();
            stream[..start].iter().for_each(|byte| records.pass(&[*byte]));
            for end in start + 1..=stream.len() {
                let cut = start + records.cut(&stream[start..end]);
                let is_boundary = ends.contains(&cut);
                // One byte that ends a record: the cut is before it.
                assert!(!is_boundary, "{start}..{end} is cut at {cut}");
                assert!(end - cut <= 1);
            }
        }
    }
}
