//! The file of records.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

/// Interval at which a file that cannot be opened is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Opens a file of records to append to it. A new one can be read by its owner only. A symbolic
/// link, a pipe or a device is not accepted, because it could lead elsewhere, or block for ever.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file =
        OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(file)
}

/// The result of writing a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Written {
    Whole,
    /// Nothing of it is in the file.
    Lost,
}

/// A file of records that is opened again when asked, or when it could not be opened before.
#[derive(Debug)]
pub(super) struct RecordFile {
    path: PathBuf,
    /// `None`: it could not be opened.
    file: Option<File>,
    tried_at: Instant,
    /// Records that were lost since the last one that was written.
    lost: u64,
    /// The last error, until it is reported.
    error: Option<String>,
}

impl RecordFile {
    /// Opens a file, or tries that again later.
    pub(super) fn open_or_wait(path: PathBuf) -> Self {
        let mut file = Self { path, file: None, tried_at: Instant::now(), lost: 0, error: None };
        file.reopen();
        file
    }

    /// Opens the file at the path. If that fails, the file that is open remains in use.
    pub(super) fn reopen(&mut self) {
        self.tried_at = Instant::now();
        match open(&self.path) {
            Ok(file) => self.file = Some(file),
            Err(error) => self.error = Some(error.to_string()),
        }
    }

    /// Counts records that were dropped before they came here.
    pub(super) fn lose(&mut self, count: u64) {
        self.lost += count;
    }

    /// Appends a record, after `notice` about the lost ones, if there are any.
    pub(super) fn write(&mut self, line: &[u8], notice: impl FnOnce(u64) -> Vec<u8>) {
        if self.lost > 0 && self.append(&notice(self.lost)) == Written::Whole {
            self.lost = 0;
        }
        if self.lost > 0 || self.append(line) == Written::Lost {
            self.lost += 1;
        }
    }

    /// Writes the notice about lost records without waiting for the next one.
    pub(super) fn settle(&mut self, notice: impl FnOnce(u64) -> Vec<u8>) {
        if self.lost > 0 && self.append(&notice(self.lost)) == Written::Whole {
            self.lost = 0;
        }
    }

    /// Returns the path and the last error, once for each error.
    pub(super) fn take_error(&mut self) -> Option<(&Path, String)> {
        self.error.take().map(|error| (self.path.as_path(), error))
    }

    fn append(&mut self, line: &[u8]) -> Written {
        if self.file.is_none() && self.tried_at.elapsed() >= AGAIN {
            self.reopen();
        }
        let Some(file) = &mut self.file else { return Written::Lost };
        match append(file, line) {
            Ok(()) => Written::Whole,
            Err(error) => {
                self.error = Some(error.to_string());
                Written::Lost
            }
        }
    }
}

/// Appends a line. If only its beginning can be written, that is removed again.
fn append(file: &mut File, line: &[u8]) -> io::Result<()> {
    let mut rest = line;
    while !rest.is_empty() {
        let error = match file.write(rest) {
            Ok(0) => io::ErrorKind::WriteZero.into(),
            Ok(count) => {
                rest = &rest[count..];
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => error,
        };
        let written = (line.len() - rest.len()) as u64;
        if written > 0 {
            let length = file.metadata()?.len();
            file.set_len(length.saturating_sub(written))?;
        }
        return Err(error);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn notice(count: u64) -> Vec<u8> {
        format!("{count} lost\n").into_bytes()
    }

    #[test]
    fn a_new_file_is_private_and_an_old_one_is_continued() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records");
        RecordFile::open_or_wait(path.clone()).write(b"a\n", notice);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        RecordFile::open_or_wait(path.clone()).write(b"b\n", notice);
        assert_eq!(fs::read(&path).unwrap(), b"a\nb\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn what_is_not_a_regular_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let [link, target] = ["link", "target"].map(|name| folder.path().join(name));
        symlink(&target, &link).unwrap();
        let none = folder.path().join("none").join("file");
        for path in [&link, &none, Path::new("/dev/null"), folder.path()] {
            assert!(open(path).is_err(), "{}", path.display());
        }
        assert!(!target.exists());
    }

    #[test]
    fn lost_records_are_counted_before_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records");
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut file = RecordFile::open_or_wait(path.clone());
        file.file = Some(full);
        file.write(b"a\n", notice);
        file.write(b"b\n", notice);
        assert!(file.take_error().is_some() && file.take_error().is_none());
        file.lose(5);
        file.reopen();
        file.write(b"c\n", notice);
        file.write(b"d\n", notice);
        assert_eq!(fs::read_to_string(&path).unwrap(), "7 lost\nc\nd\n");
    }

    #[test]
    fn a_renamed_file_is_left_when_it_is_opened_again_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let [path, old] = ["records", "old"].map(|name| folder.path().join(name));
        let mut file = RecordFile::open_or_wait(path.clone());
        file.write(b"a\n", notice);
        fs::rename(&path, &old).unwrap();
        file.write(b"b\n", notice);
        file.reopen();
        file.write(b"c\n", notice);
        assert_eq!(fs::read(&old).unwrap(), b"a\nb\n");
        assert_eq!(fs::read(&path).unwrap(), b"c\n");
    }
}
