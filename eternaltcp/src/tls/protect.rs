//! Protecting data: rustls writes whole records from one slice into a slice;
//! the caller has several slices, and a vector that grows.

use rustls::unbuffered::{EncryptError, WriteTraffic};

use super::TlsError;

/// The most application data in one record (RFC 8446, section 5.1).
const MAX_PLAINTEXT: usize = 16_384;
/// What protection adds to a record: header, content type and tag, the same
/// for all cipher suites of TLS 1.3.
const OVERHEAD: usize = 5 + 1 + 16;

/// What is to be written.
#[derive(Clone, Copy)]
pub(super) enum Output {
    /// The record that was gathered.
    Data,
    /// The orderly end of this side's data.
    CloseNotify,
}

/// Gathers the data of one record, in memory that is used again and again.
#[derive(Default)]
pub(super) struct Protector {
    record: Vec<u8>,
}

impl Protector {
    /// Adds what fits of `data` to the record, and returns the rest.
    pub(super) fn add<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        let room = MAX_PLAINTEXT - self.record.len();
        let (now, later) = data.split_at(data.len().min(room));
        self.record.extend_from_slice(now);
        later
    }

    pub(super) fn is_full(&self) -> bool {
        self.record.len() == MAX_PLAINTEXT
    }

    pub(super) fn is_empty(&self) -> bool {
        self.record.is_empty()
    }

    /// Gives memory back, if nothing waits.
    pub(super) fn trim(&mut self) {
        if self.is_empty() {
            self.record = Vec::new();
        }
    }

    /// Appends `output` to `outgoing`, protected.
    pub(super) fn write<D>(
        &mut self,
        traffic: &mut WriteTraffic<'_, D>,
        output: Output,
        outgoing: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        match output {
            Output::Data => self.write_record(traffic, outgoing),
            Output::CloseNotify => append(outgoing, OVERHEAD, |to| traffic.queue_close_notify(to)),
        }
    }

    fn write_record<D>(
        &mut self,
        traffic: &mut WriteTraffic<'_, D>,
        outgoing: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        let room = self.record.len() + OVERHEAD;
        append(outgoing, room, |to| traffic.encrypt(&self.record, to))?;
        self.record.clear();
        Ok(())
    }
}

/// Appends what `write` writes. `room` usually suffices; more is given where a
/// key update goes before the record.
fn append(
    outgoing: &mut Vec<u8>,
    mut room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), TlsError> {
    let start = outgoing.len();
    loop {
        outgoing.resize(start + room, 0);
        let result = write(&mut outgoing[start..]);
        outgoing.truncate(start + result.as_ref().map_or(0, |written| *written));
        match result {
            Ok(_) => return Ok(()),
            Err(EncryptError::InsufficientSize(more)) if more.required_size > room => {
                room = more.required_size;
            }
            Err(error) => return Err(TlsError::Internal(error.to_string())),
        }
    }
}
