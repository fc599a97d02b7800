//! Whole lines at the end of a file that may have no room for them.

use std::borrow::Cow;
use std::io::{self, Write};

/// Returns the lines that do not lie completely within the first `bytes` bytes of all lines.
pub(super) fn after(lines: &[Vec<u8>], bytes: usize) -> &[Vec<u8>] {
    let mut end = 0;
    let is_inside = |line: &&Vec<u8>| {
        end += line.len();
        end <= bytes
    };
    &lines[lines.iter().take_while(is_inside).count()..]
}

/// The error of a write, and how many bytes of the text were written before it.
#[derive(Debug)]
pub(super) struct ShortWrite {
    pub(super) written: usize,
    pub(super) error: io::Error,
}

/// Appends a text, after the end of a torn line. If only its beginning can be written, that remains
/// as a torn line: to remove it could remove what another process has appended after it, and the
/// system may forbid it.
pub(super) fn append(
    file: &mut impl Write,
    text: &[u8],
    is_torn: &mut bool,
) -> Result<(), ShortWrite> {
    let whole = if *is_torn { Cow::from([b"\n", text].concat()) } else { Cow::from(text) };
    let mut rest = &whole[..];
    while !rest.is_empty() {
        let error = match file.write(rest) {
            Ok(0) => io::ErrorKind::WriteZero.into(),
            Ok(count) => {
                *is_torn = rest[..count].last() != Some(&b'\n');
                rest = &rest[count..];
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => error,
        };
        // A newline that ends a torn line is not a byte of the text.
        let written = text.len().saturating_sub(rest.len());
        return Err(ShortWrite { written, error });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has room for some bytes.
    struct Disk {
        data: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= count;
            self.data.extend(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_did_not_fit_is_a_line_of_its_own_and_costs_no_other_record() {
        let (mut disk, mut is_torn) = (Disk { data: Vec::new(), room: 8 }, false);
        append(&mut disk, b"first\n", &mut is_torn).unwrap();
        for room in [0, 0, 1] {
            disk.room += room;
            assert!(append(&mut disk, b"second\n", &mut is_torn).is_err());
        }
        disk.room = 100;
        append(&mut disk, b"third\n", &mut is_torn).unwrap();
        append(&mut disk, b"fourth\n", &mut is_torn).unwrap();
        assert_eq!(disk.data, b"first\nse\nthird\nfourth\n");
    }

    #[test]
    fn of_records_that_were_written_in_part_the_whole_ones_count() {
        let lines = [b"first\n".to_vec(), b"second\n".to_vec(), b"third\n".to_vec()];
        for (room, left) in [(0, 3), (5, 3), (6, 2), (12, 2), (13, 1), (18, 1), (19, 0)] {
            let mut disk = Disk { data: Vec::new(), room };
            let appended = append(&mut disk, &lines.concat(), &mut false);
            let written = appended.map_or_else(|short| short.written, |()| 19);
            assert_eq!((written, after(&lines, written).len()), (room, left));
        }
        let (mut disk, mut is_torn) = (Disk { data: Vec::new(), room: 7 }, true);
        let short = append(&mut disk, &lines.concat(), &mut is_torn).unwrap_err();
        assert_eq!((short.written, &disk.data[..]), (6, &b"\nfirst\n"[..]));
    }
}
