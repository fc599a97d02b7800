//! Fields inside payloads: little-endian integers and counted bytes.

use crate::text::CleanText;

/// Appends fields to a buffer.
#[derive(Default)]
pub(crate) struct FieldWriter(Vec<u8>);

impl FieldWriter {
    pub(crate) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(crate) fn u16(self, value: u16) -> Self {
        self.raw(&value.to_le_bytes())
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.raw(&value.to_le_bytes())
    }

    pub(crate) fn u64(self, value: u64) -> Self {
        self.raw(&value.to_le_bytes())
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends a 16-bit count and that many bytes. Bytes beyond 65,535 are cut off.
    pub(crate) fn counted(self, bytes: &[u8]) -> Self {
        let count = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        self.u16(count).raw(&bytes[..usize::from(count)])
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// A payload ended before its fields did, has bytes left over, or holds text
/// that is not UTF-8.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed payload")]
pub struct Malformed;

/// Reads fields from a payload. It never panics and never allocates.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Self(payload)
    }

    pub(crate) fn raw(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = tail;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = tail;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn counted(&mut self) -> Result<&'a [u8], Malformed> {
        let count = self.u16()?;
        self.raw(usize::from(count))
    }

    pub(crate) fn text(&mut self) -> Result<CleanText, Malformed> {
        self.counted().and_then(utf8)
    }

    /// Returns everything that is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

/// Reads a peer's text and cleans it.
pub(crate) fn utf8(bytes: &[u8]) -> Result<CleanText, Malformed> {
    std::str::from_utf8(bytes).map(CleanText::new).map_err(|_| Malformed)
}
