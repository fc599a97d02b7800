//! The memory of all tunnels: its files, its free records and its free blocks.

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering, compiler_fence};
use std::sync::{Arc, Mutex};

use eternaltcp_sys::{Blocks, NotedCall, Words};

use super::BLOCK;
use super::format::Unreadable;
use super::layout::{HEADER_LENGTH, Layout, Size, TableKind};
use super::tables::Table;

/// The partly used blocks of a tunnel: the block for reads, and one for each cell size.
const PARTIAL: u64 = 4;

/// The memory of all tunnels. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct StoreMemory(pub(super) Arc<Memory>);

#[derive(Debug)]
pub(super) struct Memory {
    pub(super) words: Words,
    pub(super) blocks: Blocks,
    pub(super) tunnels: Table,
    pub(super) sessions: Table,
    pub(super) pieces: Table,
    pub(super) packets: Table,
    pub(super) listeners: Table,
    layout: Layout,
    /// The slot for one-time calls on new connections.
    pub(super) step: Mutex<Option<NotedCall>>,
    /// Whether a table has ever been full.
    is_short: AtomicBool,
}

/// The reason why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreOpenError {
    /// The system refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// This version cannot read the store.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

impl StoreMemory {
    /// Creates an empty store.
    ///
    /// # Errors
    /// The system has no such memory, or not enough address space.
    pub fn create(size: &Size) -> io::Result<Self> {
        let layout = Layout::new(size);
        let count = size.payload.div_ceil(BLOCK as u64) + PARTIAL * u64::from(size.tunnels);
        let count = u32::try_from(count).map_err(|_| io::ErrorKind::InvalidInput)?;
        let blocks = Blocks::create(c"etcp-payload", BLOCK, count)?;
        let words = Words::create(c"etcp-tables", layout.length, layout.calls)?;
        for (at, word) in layout.header(BLOCK) {
            words.word(at).store(word, Ordering::Release);
        }
        Ok(Self::new(words, blocks, layout))
    }

    /// Opens the files of a store that another program has made.
    ///
    /// # Errors
    /// The files are damaged, or this version does not know their format.
    pub fn open(tables: OwnedFd, payload: OwnedFd) -> Result<Self, StoreOpenError> {
        let tables = File::from(tables);
        let mut header = [0; HEADER_LENGTH];
        tables.read_exact_at(&mut header, 0)?;
        let layout = Layout::read(&header, BLOCK)?;
        let words = Words::open(tables.into(), layout.length, layout.calls)?;
        Ok(Self::new(words, Blocks::open(payload, BLOCK)?, layout))
    }

    fn new(words: Words, blocks: Blocks, layout: Layout) -> Self {
        let table = |kind| Table::new(layout.place(kind));
        let (tunnels, sessions) = (table(TableKind::Tunnels), table(TableKind::Sessions));
        let (pieces, packets) = (table(TableKind::Pieces), table(TableKind::Packets));
        let listeners = table(TableKind::Listeners);
        let is_short = AtomicBool::new(false);
        Self(Arc::new(Memory {
            words,
            blocks,
            tunnels,
            sessions,
            pieces,
            packets,
            listeners,
            layout,
            step: Mutex::default(),
            is_short,
        }))
    }

    /// Returns the files: the tables, then the payload.
    #[must_use]
    pub fn files(&self) -> [BorrowedFd<'_>; 2] {
        [self.0.words.file(), self.0.blocks.file()]
    }

    /// Returns the beginning of the tables, with which a program can [check](Self::check) whether
    /// it can read the store.
    #[must_use]
    pub fn header(&self) -> Vec<u8> {
        let mut header = vec![0; HEADER_LENGTH];
        self.0.words.load(0, &mut header);
        header
    }

    /// Checks whether this version can continue with a store that has this header.
    ///
    /// # Errors
    /// It cannot; the error is the reason.
    pub fn check(header: &[u8]) -> Result<(), Unreadable> {
        Layout::read(header, BLOCK).map(drop)
    }

    /// Returns whether there is a session. Another process with the same memory may call this.
    #[must_use]
    pub fn has_sessions(&self) -> bool {
        let Memory { words, sessions, .. } = &*self.0;
        (0..sessions.stored_mark(words)).any(|index| self.0.get(sessions.at(index)) != 0)
    }

    /// Returns memory to the system that has been unused since the last call.
    pub fn trim(&self) {
        self.0.blocks.trim();
    }
}

impl StoreMemory {
    /// Returns the ranges of the words that were ever used.
    pub(super) fn used_words(&self) -> Vec<usize> {
        let Memory { tunnels, sessions, pieces, packets, listeners, .. } = &*self.0;
        let mut all: Vec<_> = (0..HEADER_LENGTH).step_by(8).collect();
        let tables =
            [(tunnels, 1024), (sessions, 640), (pieces, 32), (packets, 16), (listeners, 512)];
        for (table, stride) in tables {
            for index in 0..table.mark() {
                all.extend((table.at(index)..table.at(index) + stride).step_by(8));
            }
        }
        (0..tunnels.mark()).for_each(|it| all.extend((self.0.slot(it)..).step_by(8).take(4)));
        all
    }
}

impl Memory {
    pub(super) fn get(&self, at: usize) -> u64 {
        self.words.word(at).load(Ordering::Acquire)
    }

    /// Writes a word after all preceding writes.
    pub(super) fn set(&self, at: usize, word: u64) {
        self.words.word(at).store(word, Ordering::Release);
    }

    /// Writes a word before all later writes.
    pub(super) fn set_first(&self, at: usize, word: u64) {
        self.set(at, word);
        // A death stops the program between two instructions, so only their order matters.
        compiler_fence(Ordering::SeqCst);
    }

    /// Records that a table is full: records may be missing from now on.
    pub(super) fn note_shortage(&self) {
        self.is_short.store(true, Ordering::Relaxed);
    }

    /// Returns whether a table has ever been full.
    #[cfg_attr(
        not(debug_assertions),
        allow(dead_code, reason = "only debug builds compare the store with the tunnel")
    )]
    pub(super) fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }

    /// Returns the number of slots for calls.
    pub(super) fn calls(&self) -> usize {
        self.layout.calls
    }

    /// Returns the offset of a tunnel's slot.
    pub(super) fn slot(&self, tunnel: u32) -> usize {
        self.layout.place(TableKind::Slots).at(tunnel)
    }

    pub(super) fn table(&self, kind: TableKind) -> &Table {
        match kind {
            TableKind::Tunnels | TableKind::Slots => &self.tunnels,
            TableKind::Sessions => &self.sessions,
            TableKind::Pieces => &self.pieces,
            TableKind::Packets => &self.packets,
            TableKind::Listeners => &self.listeners,
        }
    }
}
