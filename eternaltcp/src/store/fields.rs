//! The encoding of records and notes as a sequence of fields.
//!
//! Later versions add fields at the end. An older reader ignores them, and a newer reader uses zero
//! for those that are missing.

/// The error for bytes that are not a valid record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MalformedRecord;

pub(super) type Decoded<T> = std::result::Result<T, MalformedRecord>;

/// Writes fields.
#[derive(Default)]
pub(crate) struct RecordWriter(Vec<u8>);

impl RecordWriter {
    /// Writes into the memory of earlier bytes.
    pub(super) fn reusing(mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        Self(bytes)
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.array(value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.array(value.to_le_bytes());
    }

    pub(crate) fn array<const N: usize>(&mut self, bytes: [u8; N]) {
        self.0.extend_from_slice(&bytes);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }
}

/// Reads fields. Missing fields at the end are zero, except for byte strings.
pub(crate) struct RecordReader<'a>(&'a [u8]);

impl<'a> RecordReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let (known, rest) = self.0.split_at(self.0.len().min(N));
        array[..known.len()].copy_from_slice(known);
        self.0 = rest;
        array
    }

    pub(crate) fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    pub(crate) fn bytes(&mut self) -> Decoded<&'a [u8]> {
        let length = self.u32() as usize;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(MalformedRecord)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn text(&mut self) -> Decoded<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| MalformedRecord)
    }
}
