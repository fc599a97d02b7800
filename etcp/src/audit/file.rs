//! The file of records.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Access, OFlags, access};

use super::append::{ShortWrite, after, append};
use super::losses::Losses;

/// Interval at which a file that cannot be opened is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Opens a file of records to append to it. A new one can be read by its owner only. A symbolic
/// link, a pipe, a device, or a file with several names is not accepted, because it could lead
/// elsewhere, or block for ever.
pub(super) fn open(path: &Path) -> io::Result<File> {
    open_if(path, true)
}

/// Checks that a file can be opened, or created, and creates none.
pub(super) fn inspect(path: &Path) -> io::Result<()> {
    match open_if(path, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            Ok(access(folder, Access::WRITE_OK | Access::EXEC_OK)?)
        }
        opened => opened.map(drop),
    }
}

/// Returns a warning if users other than its owner may change the file, or if every user may read
/// it.
pub(super) fn exposure(file: &File) -> Option<&'static str> {
    let mode = file.metadata().ok()?.permissions().mode();
    match mode {
        _ if mode & 0o022 > 0 => Some("others than its owner may change it (chmod go-w)"),
        _ if mode & 0o004 > 0 => Some("everybody may read it (chmod o-r)"),
        _ => None,
    }
}

fn open_if(path: &Path, is_created: bool) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let mut file = OpenOptions::new();
    file.read(true).append(true).create(is_created).mode(0o600).custom_flags(flags);
    let file = file.open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if metadata.nlink() > 1 {
        return Err(io::Error::other("it has another name (a hard link)"));
    }
    Ok(file)
}

/// Returns whether a file ends with the beginning of a line, as after a power cut.
fn ends_torn(file: &File) -> io::Result<bool> {
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    Ok(last != [b'\n'])
}

/// A file of records that is opened again when asked, or when it could not be opened before.
#[derive(Debug)]
pub(super) struct RecordFile {
    place: FilePlace,
    losses: Losses,
}

/// The file, and its state.
#[derive(Debug)]
struct FilePlace {
    path: PathBuf,
    /// `None`: it could not be opened.
    file: Option<File>,
    /// The last attempt to open it.
    tried_at: Option<Instant>,
    /// The file at the path is to be opened, because it is not open, or another one may be there.
    is_open_due: bool,
    /// The file may end with the beginning of a line.
    is_torn: bool,
    /// The last error, until it is reported.
    error: Option<String>,
}

impl RecordFile {
    /// Opens a file, or tries that again later.
    pub(super) fn open_or_wait(path: PathBuf) -> Self {
        let (file, tried_at, error) = (None, None, None);
        let place = FilePlace { path, file, tried_at, is_open_due: true, is_torn: false, error };
        let mut file = Self { place, losses: Losses::default() };
        file.reopen();
        file
    }

    /// Writes to this file instead, as if it were at the path.
    #[cfg(test)]
    pub(super) fn replace(&mut self, file: File) {
        self.place.file = Some(file);
    }

    /// Opens the file at the path. If that fails, the file that is open remains in use until an
    /// attempt succeeds.
    pub(super) fn reopen(&mut self) {
        self.place.reopen();
    }

    /// Returns the identity of the file that is open.
    pub(super) fn identity(&self) -> Option<(u64, u64)> {
        let metadata = self.place.file.as_ref()?.metadata().ok()?;
        Some((metadata.dev(), metadata.ino()))
    }

    /// Returns the number of records that were lost since the last one that was written.
    pub(super) fn lost(&self) -> u64 {
        self.losses.count()
    }

    /// Counts records that were dropped before they came here.
    pub(super) fn lose(&mut self, count: u64) {
        self.losses.add(count);
    }

    /// Appends a record, after `notice` about the lost ones, if there are any.
    #[cfg(test)]
    pub(super) fn write(&mut self, line: &[u8], notice: impl FnOnce(u64) -> Vec<u8>) {
        self.losses.write(line, notice, |line| self.place.append(line) == line.len());
    }

    /// Appends records, if possible with one call, or each after `notice` about the lost ones. Returns
    /// how many are not in the file.
    pub(super) fn write_all(&mut self, lines: &[Vec<u8>], notice: fn(u64) -> Vec<u8>) -> u64 {
        let mut rest = lines;
        if self.lost() == 0 && lines.len() > 1 {
            rest = after(lines, self.place.append(&lines.concat()));
        }
        self.losses.write_all(rest, notice, |line| self.place.append(line) == line.len())
    }

    /// Writes the notice about lost records without waiting for the next one.
    pub(super) fn settle(&mut self, notice: impl FnOnce(u64) -> Vec<u8>) {
        self.losses.settle(notice, |line| self.place.append(line) == line.len());
    }

    /// Returns the path and the last error, once for each error.
    pub(super) fn take_error(&mut self) -> Option<(&Path, String)> {
        self.place.error.take().map(|error| (self.place.path.as_path(), error))
    }
}

impl FilePlace {
    fn reopen(&mut self) {
        self.tried_at = Some(Instant::now());
        match open(&self.path) {
            Ok(file) => {
                // A newline too many is an empty line, which is no record.
                self.is_torn = ends_torn(&file).unwrap_or(true);
                (self.file, self.is_open_due) = (Some(file), false);
            }
            Err(error) => (self.error, self.is_open_due) = (Some(error.to_string()), true),
        }
    }

    /// Appends a text of whole lines. Returns how many of its bytes are in the file. If that is not the
    /// whole text, the beginning of a line may be there, as a line of its own.
    fn append(&mut self, text: &[u8]) -> usize {
        if self.is_open_due && self.tried_at.is_none_or(|at| at.elapsed() >= AGAIN) {
            self.reopen();
        }
        let Some(file) = &mut self.file else { return 0 };
        match append(file, text, &mut self.is_torn) {
            Ok(()) => text.len(),
            Err(ShortWrite { written, error }) => {
                self.error = Some(error.to_string());
                written
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

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
    fn a_torn_line_is_ended_before_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records");
        fs::write(&path, "a\n{\"torn\":").unwrap();
        RecordFile::open_or_wait(path.clone()).write(b"b\n", notice);
        RecordFile::open_or_wait(path.clone()).write(b"c\n", notice);
        assert_eq!(fs::read(&path).unwrap(), b"a\n{\"torn\":\nb\nc\n");
    }

    #[test]
    fn a_file_that_could_not_be_opened_again_is_tried_later() {
        let folder = tempfile::tempdir().unwrap();
        let [path, old] = ["records", "old"].map(|name| folder.path().join(name));
        let mut file = RecordFile::open_or_wait(path.clone());
        fs::rename(&path, &old).unwrap();
        fs::create_dir(&path).unwrap();
        file.reopen();
        file.write(b"a\n", notice);
        fs::remove_dir(&path).unwrap();
        // As if a second had passed.
        file.place.tried_at = None;
        file.write(b"b\n", notice);
        assert_eq!(
            (fs::read(&old).unwrap(), fs::read(&path).unwrap()),
            (b"a\n".into(), b"b\n".into())
        );
    }

    #[test]
    fn what_is_not_a_regular_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let [link, target] = ["link", "target"].map(|name| folder.path().join(name));
        symlink(&target, &link).unwrap();
        let none = folder.path().join("none").join("file");
        let [file, name, pipe] = ["file", "name", "pipe"].map(|name| folder.path().join(name));
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        fs::write(&file, "").unwrap();
        fs::hard_link(&file, &name).unwrap();
        for path in [&link, &none, &name, &pipe, Path::new("/dev/null"), folder.path()] {
            assert!(open(path).is_err(), "{}", path.display());
            assert!(inspect(path).is_err(), "{}", path.display());
        }
        assert!(!target.exists());
    }

    #[test]
    fn a_check_creates_nothing_and_a_file_that_others_reach_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records");
        inspect(&path).unwrap();
        assert!(!path.exists());
        let file = open(&path).unwrap();
        inspect(&path).unwrap();
        let exposure = |mode| {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            exposure(&file).unwrap_or_default()
        };
        assert_eq!([0o600, 0o640].map(exposure), [""; 2]);
        assert!(exposure(0o660).contains("change it") && exposure(0o644).contains("read it"));
    }

    #[test]
    fn lost_records_are_counted_before_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records");
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut file = RecordFile::open_or_wait(path.clone());
        file.replace(full);
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
