//! The numbers of all sessions, which both sides send at an attach, and the packet that ends them.

use std::collections::VecDeque;

use crate::digest::Digest;
use crate::error::Violation;
use crate::id::SessionId;
use crate::packet::{Header, Kind};
use crate::seq::Seq;
use crate::transmit::Transmit;
use crate::wire::{FieldWriter, Malformed, Reader};

/// The numbers of one session at an attach, as its receiver sends them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Numbers {
    /// The session.
    pub(crate) session: SessionId,
    /// The next number not received: replay starts there.
    pub(crate) received: Seq,
    /// The next number not delivered.
    pub(crate) delivered: Seq,
    /// The digest of the delivered packets.
    pub(crate) digest: Digest,
    /// The units that the receiver holds for this session.
    pub(crate) limit: u64,
}

impl Numbers {
    pub(crate) fn packet(&self) -> Transmit {
        let payload = FieldWriter::default().u64(self.digest.get()).u64(self.limit).finish();
        let header = Header {
            kind: Kind::Numbers,
            session: self.session.get(),
            seq: self.received,
            ack: self.delivered,
            length: 16,
        };
        Transmit { header, payload: payload.into() }
    }

    pub(crate) fn decode(header: &Header, payload: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        let digest = Digest::new(reader.u64()?);
        let limit = reader.u64()?;
        let session = SessionId::new(header.session).ok_or(Malformed)?;
        Ok(Self { session, received: header.seq, delivered: header.ack, digest, limit })
    }
}

/// Returns all packets of one side's part in an attach: its settings, each session's numbers, and
/// their end, which says how many early packets follow.
pub(crate) fn packets(
    kind: Kind,
    greeting: Vec<u8>,
    numbers: &[Numbers],
    early: Vec<Transmit>,
) -> VecDeque<Transmit> {
    let count = |length| u32::try_from(length).unwrap_or(u32::MAX);
    let end = FieldWriter::default().u32(count(numbers.len()));
    let end = if early.is_empty() { end } else { end.u32(count(early.len())) }.finish();
    std::iter::once(Transmit::of_tunnel(kind, greeting))
        .chain(numbers.iter().map(Numbers::packet))
        .chain(std::iter::once(Transmit::of_tunnel(Kind::NumbersEnd, end)))
        .chain(early)
        .collect()
}

/// Adds the numbers of one more session. The ids must rise, and their count is bounded.
pub(crate) fn push_numbers(
    all: &mut Vec<Numbers>,
    one: Numbers,
    most: usize,
) -> Result<(), Violation> {
    let rises = all.last().is_none_or(|last| last.session < one.session);
    if !rises || all.len() >= most {
        return Err(Violation::WrongAnswer);
    }
    all.push(one);
    Ok(())
}

/// Checks that the numbers of all sessions came. Returns how many early packets follow.
pub(crate) fn check_count(all: &[Numbers], payload: &[u8]) -> Result<usize, Violation> {
    let (count, early) = read_counts(payload).map_err(Violation::payload(Kind::NumbersEnd))?;
    if count as usize == all.len() { Ok(early as usize) } else { Err(Violation::WrongAnswer) }
}

fn read_counts(payload: &[u8]) -> Result<(u32, u32), Malformed> {
    let mut reader = Reader::new(payload);
    let count = reader.u32()?;
    let early = if payload.len() > size_of::<u32>() { reader.u32()? } else { 0 };
    reader.end()?;
    Ok((count, early))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(session: u32) -> Numbers {
        Numbers {
            session: SessionId::new(session).unwrap(),
            received: Seq::new(u32::MAX),
            delivered: Seq::new(u32::MAX - 3),
            digest: Digest::new(5),
            limit: 6,
        }
    }

    #[test]
    fn numbers_come_back() {
        let Transmit { header, payload } = numbers(1).packet();
        assert_eq!(Numbers::decode(&header, &payload), Ok(numbers(1)));
    }

    #[test]
    fn sessions_come_in_rising_order_and_no_more_than_may() {
        let mut all = Vec::new();
        assert_eq!(push_numbers(&mut all, numbers(3), 2), Ok(()));
        assert_eq!(push_numbers(&mut all, numbers(3), 2), Err(Violation::WrongAnswer));
        assert_eq!(push_numbers(&mut all, numbers(1), 2), Err(Violation::WrongAnswer));
        assert_eq!(push_numbers(&mut all, numbers(5), 2), Ok(()));
        assert_eq!(push_numbers(&mut all, numbers(7), 2), Err(Violation::WrongAnswer));
    }

    #[test]
    fn the_end_of_the_numbers_counts_them_and_the_early_packets_that_follow() {
        let early = || Transmit::of_tunnel(Kind::Data, vec![1]);
        for count in [0, 2] {
            let early = std::iter::repeat_with(early).take(count).collect();
            let all = [numbers(1), numbers(3)];
            let packets = packets(Kind::Attach, Vec::new(), &all, early);
            let end = &packets[3];
            assert_eq!(end.header.kind, Kind::NumbersEnd);
            assert_eq!(check_count(&all, &end.payload), Ok(count));
            assert_eq!(check_count(&all[..1], &end.payload), Err(Violation::WrongAnswer));
        }
    }
}
