//! Several slices to be sent as if they were one.

/// Several slices, read as one.
pub(super) struct Gather<'a> {
    parts: std::slice::Iter<'a, &'a [u8]>,
    /// What is left of the part that is being read.
    current: &'a [u8],
    /// What is left of all.
    left: usize,
}

impl<'a> Gather<'a> {
    pub(super) fn new(parts: &'a [&'a [u8]]) -> Self {
        let left = parts.iter().map(|part| part.len()).sum();
        Self { parts: parts.iter(), current: &[], left }
    }

    /// How many bytes were not taken yet.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Appends the next `count` bytes to `to`; fewer at the end.
    pub(super) fn take(&mut self, mut count: usize, to: &mut Vec<u8>) {
        while count > 0 {
            if self.current.is_empty() {
                let Some(next) = self.parts.next() else { return };
                self.current = next;
            }
            let (now, later) = self.current.split_at(self.current.len().min(count));
            to.extend_from_slice(now);
            self.current = later;
            self.left -= now.len();
            count -= now.len();
        }
    }
}
