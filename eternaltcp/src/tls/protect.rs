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
pub(super) enum Output<'a> {
    /// Slices, as if they were one.
    Data(&'a [&'a [u8]]),
    /// The orderly end of this side's data.
    CloseNotify,
}

/// Room for the data of one record, used again and again.
#[derive(Default)]
pub(super) struct Protector {
    record: Vec<u8>,
}

impl Protector {
    /// Appends `output` to `outgoing`, protected.
    pub(super) fn write<D>(
        &mut self,
        traffic: &mut WriteTraffic<'_, D>,
        output: Output<'_>,
        outgoing: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        match output {
            Output::Data(parts) => self.write_data(traffic, parts, outgoing),
            Output::CloseNotify => append(outgoing, OVERHEAD, |to| traffic.queue_close_notify(to)),
        }
    }

    fn write_data<D>(
        &mut self,
        traffic: &mut WriteTraffic<'_, D>,
        parts: &[&[u8]],
        outgoing: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        outgoing.reserve(total + total.div_ceil(MAX_PLAINTEXT) * OVERHEAD);
        self.record.clear();
        for part in parts {
            let mut rest = *part;
            while !rest.is_empty() {
                let room = MAX_PLAINTEXT - self.record.len();
                let (now, later) = rest.split_at(rest.len().min(room));
                self.record.extend_from_slice(now);
                rest = later;
                if self.record.len() == MAX_PLAINTEXT {
                    self.write_record(traffic, outgoing)?;
                }
            }
        }
        if self.record.is_empty() { Ok(()) } else { self.write_record(traffic, outgoing) }
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
