//! The positions of the tables in the store's memory.
//!
//! The header describes each table, so that a program can read the store of another version. A
//! reader uses the fields of a record that it knows. Fields that a shorter record lacks are zero,
//! which is always the default.

use super::BLOCK;
use super::format::{self, Unreadable};

/// The size of the header in bytes.
const HEADER: usize = 4096;

/// The first bytes of the header.
const MAGIC: u64 = u64::from_le_bytes(*b"ETCPKEPT");

/// The number of records for each record in use, and for each tunnel: tunnels hold free records in
/// reserve.
const FOR_EACH: u64 = 3;
const FOR_TUNNEL: u64 = 2;

/// Returns how many records there must be for tunnels that use `used` of them in all.
fn with_stocks(used: u64, tunnels: u32) -> u64 {
    used.saturating_mul(FOR_EACH).saturating_add(u64::from(tunnels) * FOR_TUNNEL)
}

/// The offsets of the header's fields.
const FORMAT: usize = 8;
const NEEDS: usize = 16;
const LENGTH: usize = 24;
const CALLS: usize = 32;
const BLOCK_SIZE: usize = 40;
const TABLES: usize = 64;

/// The size of a table's description in the header, in bytes.
const TABLE: usize = 32;

/// The number of listening sockets for each tunnel, and for the program itself.
const LISTENERS: u64 = 32;

/// The tables, in the order of the header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TableKind {
    Tunnels,
    Sessions,
    Pieces,
    Packets,
    Slots,
    Listeners,
}

/// All tables, each with the length of its records.
const TABLE_KINDS: [(TableKind, usize); 6] = [
    (TableKind::Tunnels, 1024),
    (TableKind::Sessions, 640),
    (TableKind::Pieces, 32),
    (TableKind::Packets, 16),
    (TableKind::Slots, 64),
    (TableKind::Listeners, 512),
];

/// The blocks of a tunnel with little payload: one to read into, and one for cells of each size.
const TUNNEL_BLOCKS: u64 = 4;

/// The capacity of a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// The number of tunnels.
    pub tunnels: u32,
    /// The number of sessions in all tunnels.
    pub sessions: u32,
    /// The number of runs of payload in all sessions.
    pub pieces: u32,
    /// The number of numbered packets in all sessions.
    pub packets: u32,
    /// The payload of all sessions in bytes.
    pub payload: u64,
    /// The number of listening sockets.
    pub listeners: u32,
}

impl Size {
    /// Returns the size for tunnels that hold at most `held` bytes in total, including the charges
    /// for packets and sessions. Memory is allocated only when it is used.
    #[must_use]
    pub fn for_held(held: u64, tunnels: u32, sessions: u32) -> Self {
        let bounded = |count: u64| u32::try_from(count).unwrap_or(u32::MAX).min(MAX_ENTRIES);
        // Each session has a piece of any size that grows; the other pieces have at least 512
        // bytes.
        let stocked = with_stocks(sessions.into(), tunnels);
        let pieces = bounded(held / 512 + stocked);
        let packets = bounded(held / eternaltcp_proto::PACKET_CHARGE + stocked);
        let listeners = bounded(u64::from(tunnels) * LISTENERS + LISTENERS);
        // A tunnel with a few bytes has blocks of its own, too.
        let payload = 2 * held + u64::from(tunnels) * TUNNEL_BLOCKS * BLOCK as u64;
        Self { tunnels, sessions: bounded(stocked), pieces, packets, payload, listeners }
    }

    fn capacity(&self, kind: TableKind) -> u32 {
        match kind {
            TableKind::Tunnels | TableKind::Slots => self.tunnels,
            TableKind::Sessions => self.sessions,
            TableKind::Pieces => self.pieces,
            TableKind::Packets => self.packets,
            TableKind::Listeners => self.listeners,
        }
    }
}

/// The maximum number of records in a table.
pub(super) const MAX_ENTRIES: u32 = 1 << 24;

/// The position of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TablePlace {
    /// The offset of its description in the header.
    pub(super) entry: usize,
    offset: usize,
    stride: usize,
    pub(super) capacity: u32,
}

impl TablePlace {
    /// Returns the offset of a record.
    pub(super) fn at(&self, index: u32) -> usize {
        self.offset + self.stride * index as usize
    }

    /// Returns the offset of the word that holds the number of records ever used.
    pub(super) fn mark(&self) -> usize {
        self.entry + 24
    }
}

/// The positions of all tables.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Layout {
    places: [TablePlace; TABLE_KINDS.len()],
    /// The size of all tables in bytes.
    pub(super) length: usize,
    /// Slots for recorded calls: one for each tunnel, and one for all connections that have no
    /// tunnel.
    pub(super) calls: usize,
}

impl Layout {
    pub(super) fn new(size: &Size) -> Self {
        let mut length = HEADER;
        let mut index = 0;
        let places = TABLE_KINDS.map(|(kind, stride)| {
            let capacity = size.capacity(kind).min(MAX_ENTRIES);
            let entry = TABLES + TABLE * index;
            let place = TablePlace { entry, offset: length, stride, capacity };
            // Tables are aligned to pages, so that an unused table takes no memory.
            length = (length + stride * capacity as usize).next_multiple_of(HEADER);
            index += 1;
            place
        });
        Self { places, length, calls: size.tunnels as usize + 1 }
    }

    pub(super) fn place(&self, kind: TableKind) -> TablePlace {
        self.places[kind as usize]
    }

    /// Returns the words of the header with their offsets. The first word makes the header valid.
    pub(super) fn header(&self, block_size: usize) -> Vec<(usize, u64)> {
        let mut words = vec![
            (FORMAT, format::CURRENT),
            (NEEDS, 0),
            (LENGTH, self.length as u64),
            (CALLS, self.calls as u64),
            (BLOCK_SIZE, block_size as u64),
        ];
        for place in &self.places {
            let values = [place.offset as u64, place.stride as u64, place.capacity.into()];
            words.extend((0..).step_by(8).map(|at| place.entry + at).zip(values));
        }
        words.push((0, MAGIC));
        words
    }

    /// Reads a header that another program has written.
    pub(super) fn read(bytes: &[u8], block_size: usize) -> Result<Self, Unreadable> {
        let word = |at: usize| {
            let bytes = bytes.get(at..at + 8).and_then(|it| it.try_into().ok());
            bytes.map(u64::from_ne_bytes).ok_or(Unreadable::Damaged)
        };
        let number = |at| usize::try_from(word(at)?).map_err(|_| Unreadable::Damaged);
        if word(0)? != MAGIC {
            return Err(Unreadable::Damaged);
        }
        format::check(word(FORMAT)?, word(NEEDS)?)?;
        let (length, calls) = (number(LENGTH)?, number(CALLS)?);
        let mut places = Vec::with_capacity(TABLE_KINDS.len());
        for (index, (_, known)) in TABLE_KINDS.iter().enumerate() {
            let entry = TABLES + TABLE * index;
            let (offset, stride) = (number(entry)?, number(entry + 8)?);
            let capacity = u32::try_from(word(entry + 16)?).map_err(|_| Unreadable::Damaged)?;
            let size = stride.checked_mul(capacity as usize);
            let end = size.and_then(|size| size.checked_add(offset));
            let is_inside = end.is_some_and(|end| end <= length) && offset >= HEADER;
            let is_whole = stride >= *known && (stride | offset).is_multiple_of(8);
            if !is_inside || !is_whole || capacity > MAX_ENTRIES {
                return Err(Unreadable::Damaged);
            }
            places.push(TablePlace { entry, offset, stride, capacity });
        }
        let places = places.try_into().map_err(|_| Unreadable::Damaged)?;
        let layout = Self { places, length, calls };
        let [tunnels, slots] =
            [TableKind::Tunnels, TableKind::Slots].map(|it| layout.place(it).capacity);
        let is_whole = slots >= tunnels && calls > tunnels as usize;
        let is_known = is_whole && number(BLOCK_SIZE)? == block_size;
        if is_known { Ok(layout) } else { Err(Unreadable::Damaged) }
    }
}

/// The number of bytes that [`Layout::read`] needs.
pub(super) const HEADER_LENGTH: usize = TABLES + TABLE * TABLE_KINDS.len();

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::BLOCK;

    const SIZE: Size = Size {
        tunnels: 3,
        sessions: 10,
        pieces: 100,
        packets: 1000,
        payload: 1 << 20,
        listeners: 2,
    };

    fn bytes(layout: &Layout) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_LENGTH];
        for (at, word) in layout.header(BLOCK) {
            bytes[at..at + 8].copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn the_header_says_where_the_tables_are() {
        let layout = Layout::new(&SIZE);
        assert_eq!(Layout::read(&bytes(&layout), BLOCK), Ok(layout));
    }

    #[test]
    fn tables_do_not_overlap() {
        let layout = Layout::new(&SIZE);
        for pair in layout.places.windows(2) {
            assert!(pair[0].at(pair[0].capacity) <= pair[1].at(0));
        }
        let last = layout.places[TABLE_KINDS.len() - 1];
        assert!(last.at(last.capacity) <= layout.length && HEADER_LENGTH <= HEADER);
    }

    #[test]
    fn a_damaged_header_is_refused() {
        let good = bytes(&Layout::new(&SIZE));
        for at in (0..HEADER_LENGTH).step_by(8) {
            for value in [u64::MAX, 1, 1 << 40] {
                let mut bad = good.clone();
                bad[at..at + 8].copy_from_slice(&value.to_ne_bytes());
                if let Ok(layout) = Layout::read(&bad, BLOCK) {
                    let ends = layout.places.iter().map(|place| place.at(place.capacity));
                    assert!(ends.max().is_some_and(|end| end <= layout.length), "{at}, {value}");
                }
            }
        }
        assert_eq!(Layout::read(&good[..TABLES + 8], BLOCK), Err(Unreadable::Damaged));
        assert_eq!(Layout::read(&good, BLOCK / 2), Err(Unreadable::Damaged));
    }

    #[test]
    fn a_header_of_another_version_is_refused_unless_it_only_says_more() {
        let good = bytes(&Layout::new(&SIZE));
        let with = |at: usize, word: u64| {
            let mut header = good.clone();
            header[at..at + 8].copy_from_slice(&word.to_ne_bytes());
            header
        };
        for (at, word) in [(FORMAT, format::CURRENT + 1), (FORMAT, 0), (NEEDS, 1 << 63)] {
            let error = Layout::read(&with(at, word), BLOCK).unwrap_err();
            assert!(error.to_string().ends_with(": drain first"), "{error}");
        }
        // An unknown field.
        assert!(Layout::read(&with(TABLES - 8, 7), BLOCK).is_ok());
    }

    #[test]
    fn a_store_for_much_memory_is_bounded() {
        let size = Size::for_held(1 << 50, 1000, 1 << 18);
        assert_eq!((size.pieces, size.packets), (MAX_ENTRIES, MAX_ENTRIES));
    }
}
