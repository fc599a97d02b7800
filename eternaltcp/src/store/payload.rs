//! A tunnel's payload memory.
//!
//! A large read stays where the kernel put it. A small one is copied to a cell of 512 bytes, 4 KiB
//! or 16 KiB, many of which share a block, so that a keystroke does not occupy 64 KiB.

use std::collections::BTreeMap;

use bytes::Bytes;
use eternaltcp_proto::READ_SIZE;
use eternaltcp_sys::{Block, Blocks};

use super::BLOCK;

/// The minimum size of a read that stays in place, in bytes.
pub(super) const LARGE: usize = READ_SIZE / 2;

/// The sizes of cells. A block has room for 128 cells of the smallest size.
const SIZES: [usize; 3] = [512, 4 * 1024, 16 * 1024];

/// A part of a block that belongs to one piece or record.
#[derive(Debug)]
pub(super) struct Cell {
    class: usize,
    block: u32,
    at: usize,
}

impl Cell {
    pub(super) fn block(&self) -> u32 {
        self.block
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Returns the word that encodes the position.
    pub(super) fn place(&self) -> u64 {
        super::slot::place(self.block, self.at)
    }

    pub(super) fn size(&self) -> usize {
        SIZES[self.class]
    }

    /// Returns the size of the cell that follows this one in a stream.
    pub(super) fn next_class(&self) -> usize {
        (self.class + 1).min(SIZES.len() - 1)
    }
}

/// The location of bytes in the store.
#[derive(Debug)]
pub(super) enum PayloadPlace {
    /// A cell, which may have room for more.
    Cell(Cell),
    /// The memory into which they were read, which is not reused while this value lives.
    Read(Bytes),
    /// The memory in which an earlier process has left them.
    Found(Bytes),
}

/// A block of cells.
#[derive(Debug)]
struct Slab {
    block: Block,
    /// One bit for each cell that is in use.
    used: u128,
}

/// The blocks of one tunnel.
#[derive(Debug)]
pub(super) struct PayloadBlocks {
    blocks: Blocks,
    landing: Option<Block>,
    /// Whether something was read since the last trim.
    has_landed: bool,
    slabs: [BTreeMap<u32, Slab>; SIZES.len()],
    /// For each size, a block that probably has free cells.
    open: [Option<u32>; SIZES.len()],
    /// Whether a block was ever missing.
    is_short: bool,
}

impl PayloadBlocks {
    pub(super) fn new(blocks: Blocks) -> Self {
        let (slabs, open) = Default::default();
        Self { blocks, landing: None, has_landed: false, slabs, open, is_short: false }
    }

    /// Returns the block to read into, with room for one read.
    pub(super) fn landing(&mut self) -> Option<&mut Block> {
        if self.landing.as_ref().is_none_or(|block| BLOCK - block.filled() < READ_SIZE) {
            self.landing = self.blocks.take();
            self.is_short |= self.landing.is_none();
        }
        self.has_landed = true;
        self.landing.as_mut()
    }

    /// Returns whether a block was ever missing. Some bytes are not in the store then.
    #[cfg_attr(
        not(debug_assertions),
        allow(dead_code, reason = "only debug builds compare the store with the tunnel")
    )]
    pub(super) fn is_short(&self) -> bool {
        self.is_short
    }

    /// Returns the bytes that were read into the landing block. A large read stays in place.
    pub(super) fn landed(&mut self, count: usize) -> Bytes {
        let Some(block) = &mut self.landing else { return Bytes::new() };
        if count >= LARGE {
            Bytes::from_owner(block.fill(count))
        } else {
            Bytes::copy_from_slice(&block.rest()[..count])
        }
    }

    /// Returns the location of bytes that are a large read.
    pub(super) fn place_of(&self, bytes: &[u8]) -> Option<(u32, usize)> {
        self.blocks.place_of(bytes).filter(|_| bytes.len() >= LARGE)
    }

    /// Copies bytes to their own cell.
    pub(super) fn keep(&mut self, bytes: &[u8]) -> Option<Cell> {
        let class = SIZES.iter().position(|size| *size >= bytes.len())?;
        let cell = self.cell(class)?;
        self.write(&cell, 0, bytes);
        Some(cell)
    }

    /// Returns a free cell of a size.
    pub(super) fn cell(&mut self, class: usize) -> Option<Cell> {
        let size = SIZES[class];
        let slabs = &mut self.slabs[class];
        let has_room = |slab: &Slab| slab.used != full(size);
        let open = self.open[class].filter(|index| slabs.get(index).is_some_and(has_room));
        let open = open.or_else(|| slabs.iter().find(|(_, slab)| has_room(slab)).map(|it| *it.0));
        let index = match open {
            Some(index) => index,
            None => {
                let Some(block) = self.blocks.take() else {
                    self.is_short = true;
                    return None;
                };
                let index = block.index();
                slabs.insert(index, Slab { block, used: 0 });
                index
            }
        };
        self.open[class] = Some(index);
        let slab = slabs.get_mut(&index)?;
        let number = slab.used.trailing_ones();
        slab.used |= 1 << number;
        Some(Cell { class, block: index, at: number as usize * size })
    }

    /// Writes bytes into a cell.
    pub(super) fn write(&mut self, cell: &Cell, at: usize, bytes: &[u8]) {
        if let Some(slab) = self.slabs[cell.class].get_mut(&cell.block) {
            let from = cell.at + at;
            slab.block.rest()[from..from + bytes.len()].copy_from_slice(bytes);
        }
    }

    /// Frees a cell.
    pub(super) fn free(&mut self, cell: Cell) {
        if let Some(slab) = self.slabs[cell.class].get_mut(&cell.block) {
            slab.used &= !(1 << (cell.at / SIZES[cell.class]));
            self.open[cell.class] = Some(cell.block);
        }
    }

    /// Overwrites and frees a cell that may contain a secret.
    pub(super) fn wipe(&mut self, cell: Cell) {
        self.write(&cell, 0, &vec![0; cell.size()]);
        self.free(cell);
    }

    /// Returns a copy of the first bytes at a location.
    pub(super) fn read(&mut self, home: &PayloadPlace, length: usize) -> Option<Vec<u8>> {
        match home {
            PayloadPlace::Read(bytes) | PayloadPlace::Found(bytes) => {
                bytes.get(..length).map(<[u8]>::to_vec)
            }
            PayloadPlace::Cell(cell) => {
                let slab = self.slabs[cell.class].get_mut(&cell.block)?;
                let bytes = slab.block.rest().get(cell.at..)?;
                bytes.get(..length).map(<[u8]>::to_vec)
            }
        }
    }

    /// Frees the blocks that have been unused since the last call.
    pub(super) fn trim(&mut self) {
        if !std::mem::take(&mut self.has_landed) {
            self.landing = None;
        }
        for slabs in &mut self.slabs {
            slabs.retain(|_, slab| slab.used != 0);
        }
    }
}

/// Returns the bit mask of a block whose cells are all in use.
fn full(size: usize) -> u128 {
    let count = BLOCK / size;
    if count >= 128 { u128::MAX } else { (1 << count) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(count: u32) -> PayloadBlocks {
        PayloadBlocks::new(Blocks::create(c"test", BLOCK, count).unwrap())
    }

    #[test]
    fn cells_share_a_block_and_do_not_overlap() {
        let mut payload = payload(3);
        for (class, size) in SIZES.into_iter().enumerate() {
            let count = BLOCK / size;
            let cells: Vec<_> = (0..count).map(|_| payload.cell(class).unwrap()).collect();
            for (index, cell) in (0..).zip(&cells) {
                payload.write(cell, 0, &vec![index; size]);
            }
            assert_eq!(payload.slabs[class].len(), 1);
            assert!(class < 2 || payload.cell(2).is_none(), "the memory is used up");
            for (index, cell) in (0..).zip(cells) {
                let home = PayloadPlace::Cell(cell);
                let bytes = payload.read(&home, size).unwrap();
                assert!(bytes.iter().all(|byte| *byte == index), "{class}, {index}");
            }
        }
    }

    #[test]
    fn a_block_goes_back_when_all_of_its_cells_are_free() {
        let mut payload = payload(1);
        let (first, second) = (payload.keep(b"one").unwrap(), payload.keep(b"two").unwrap());
        assert_eq!((first.size(), second.at()), (512, 512));
        assert!(payload.keep(&[0; 600]).is_none(), "another size needs another block");
        payload.free(first);
        payload.trim();
        assert!(payload.cell(1).is_none());
        payload.free(second);
        payload.trim();
        assert!(payload.cell(1).is_some());
        assert!(payload.keep(&vec![0; 16 * 1024 + 1]).is_none(), "too long");
    }

    #[test]
    fn a_large_read_stays_where_it_is_and_a_small_one_does_not() {
        let mut payload = payload(2);
        let block = payload.landing().unwrap();
        let index = block.index();
        block.rest()[..3].copy_from_slice(b"abc");
        let small = payload.landed(3);
        assert_eq!((&small[..], payload.place_of(&small)), (&b"abc"[..], None));
        let large = payload.landed(LARGE);
        assert_eq!(payload.place_of(&large), Some((index, 0)));
        assert_ne!(payload.landing().unwrap().index(), index, "its rest is too short");
        payload.trim();
        assert!(payload.landing.is_some());
        payload.trim();
        assert!(payload.landing.is_none());
    }
}
