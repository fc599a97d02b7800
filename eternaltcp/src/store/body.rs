//! The fuzz body of stores, whose contents are arbitrary.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use eternaltcp_proto::kept::{Kept, SocketId, Store};
use eternaltcp_proto::{Cause, Config, Reset, Time};

use super::pair::TunnelPair;
use super::{Size, StoreMemory};

/// Bytes of the input for each change: the number of a word, and its new value.
const CHANGE: usize = 8;

/// Checks that a store of a tunnel with several sessions, damaged as `data` says, is rejected or
/// restored. Returns whether all of it was restored.
pub(crate) fn damaged(data: &[u8]) -> bool {
    let size =
        Size { tunnels: 2, sessions: 8, pieces: 64, packets: 64, payload: 1 << 20, listeners: 4 };
    let Ok(memory) = StoreMemory::create(&size) else { return false };
    let count = keep_pair(&memory);
    for change in data.chunks_exact(CHANGE) {
        damage(&memory, change);
    }
    let Ok([tables, payload]) = clone(&memory) else { return false };
    let Ok(memory) = StoreMemory::open(tables, payload) else { return false };
    let mut whole = 0;
    for store in memory.recover(drop) {
        let Some((mut kept, recovered)) = Kept::recover(store) else { continue };
        let Ok(tunnel) = kept.restore(Config::default(), &recovered) else { continue };
        assert_eq!(kept.find_stray(&tunnel), None);
        assert_eq!(kept.find_difference(&tunnel), None);
        whole += recovered.sessions.iter().filter(|session| !session.is_damaged).count();
    }
    whole == count
}

fn clone(memory: &StoreMemory) -> std::io::Result<[std::os::fd::OwnedFd; 2]> {
    let [tables, payload] = memory.files();
    Ok([tables.try_clone_to_owned()?, payload.try_clone_to_owned()?])
}

/// Fills a store. Returns the number of sessions.
fn keep_pair(memory: &StoreMemory) -> usize {
    let mut pair = TunnelPair::attached(Config::default());
    let Some(store) = memory.new_tunnel() else { return 0 };
    let mut kept = Kept::new(store);
    for length in [0, 1, 700, 20_000, 3] {
        let Ok(id) = pair.client.open(Bytes::from_static(b"target:1")) else { continue };
        kept.adopt(id, SocketId { descriptor: 5, cookie: 6 });
        let _ = kept.commit(&mut pair.client);
        let bytes = Bytes::from(vec![7; length]);
        kept.note_read(id, &bytes);
        pair.client.write(Time::ZERO, id, bytes);
        match length {
            1 => pair.client.finish(Time::ZERO, id),
            700 => pair.client.reset(Time::ZERO, id, Reset::with_detail(Cause::Killed, "why")),
            _ => {}
        }
        let _ = kept.commit(&mut pair.client);
        if length == 700 {
            pair.exchange();
        }
    }
    let _ = kept.commit(&mut pair.client);
    kept.store_mut().contents().sessions.len()
}

/// Changes one word that is in use.
fn damage(memory: &StoreMemory, change: &[u8]) {
    let words = memory.used_words();
    let which = usize::from(u16::from_le_bytes([change[0], change[1]]));
    let Some(at) = words.get(which % words.len().max(1)) else { return };
    let word = memory.0.words.word(*at);
    let value = u32::from_le_bytes([change[4], change[5], change[6], change[7]]).into();
    let old = word.load(Ordering::Relaxed);
    let new = match change[2] % 4 {
        0 => value,
        1 => old ^ 1 << (change[3] % 64),
        2 => old.wrapping_add(u64::from(change[3])),
        _ => value << 32 | old & 0xffff_ffff,
    };
    word.store(new, Ordering::Relaxed);
}
