//! Notes: opaque data of the driver about a tunnel or a session.

use bytes::Bytes;
use eternaltcp_proto::Digest;

/// The length of a note's header in a cell: its length and its checksum.
const FRAME: usize = 16;

/// The maximum length of a note, which fits the largest cell with its header.
const MAX: usize = 16 * 1024 - FRAME;

/// Returns a note with its header. Writing the word that locates it makes the note valid.
pub(super) fn frame(note: &[u8]) -> Vec<u8> {
    let length = (note.len() as u64).to_le_bytes();
    [&length, &checksum(note).to_le_bytes()[..], note].concat()
}

/// Returns the note in the cell that a word locates, if it is intact.
pub(super) fn find(mut part: impl FnMut(u64, usize) -> Option<Bytes>, place: u64) -> Option<Bytes> {
    let head = part(place, FRAME)?;
    let word = |at: usize| Some(u64::from_le_bytes(head.get(at..at + 8)?.try_into().ok()?));
    let length = usize::try_from(word(0)?).ok().filter(|length| *length <= MAX)?;
    let note = part(place, FRAME + length)?.slice(FRAME..);
    (word(8)? == checksum(&note)).then_some(note)
}

/// Returns the checksum of a note. An empty note has a checksum other than zero.
pub(super) fn checksum(note: &[u8]) -> u64 {
    Digest::new(note.len() as u64 + 1).after(note).get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_found_in_its_frame_and_a_damaged_one_is_none() {
        for note in [&b""[..], b"x", &[7; 5000]] {
            let mut cell = frame(note);
            cell.resize(MAX + FRAME, 9);
            let find = |cell: &[u8]| {
                find(|_, length| Some(Bytes::copy_from_slice(cell.get(..length)?)), 1)
            };
            assert_eq!(find(&cell).as_deref(), Some(note));
            for at in [0, 3, 7, 8, 15] {
                let mut bad = cell.clone();
                bad[at] ^= 4;
                assert_eq!(find(&bad), None, "{at}");
            }
        }
    }
}
