//! Files that are locked while a value lives, and removed with it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// Follows no link to another file, and does not wait for the reader of a pipe (open(2)).
const FLAGS: i32 = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).bits().cast_signed();

/// A locked file, which is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct LockedFile {
    path: PathBuf,
    is_left: bool,
    file: File,
}

impl LockedFile {
    /// Returns whether the path still leads to the locked file.
    pub(crate) fn is_there(&self) -> bool {
        is_at(&self.file, &self.path)
    }

    /// Releases the lock and keeps its file.
    pub(crate) fn leave(mut self) {
        self.is_left = true;
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        if !self.is_left {
            // No other process removes it while it is locked.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The owner of a lock.
pub(crate) enum Locked {
    /// This process, by this value.
    Here(LockedFile),
    /// Another process, or another value of this one.
    Elsewhere,
    /// Nobody holds it: the file does not exist, or cannot be locked.
    Nowhere,
}

/// Locks the file at `path`, if its lock is free. Creates the file if `is_made` is set.
///
/// # Errors
/// The file cannot be created or opened.
pub(crate) fn lock(path: &Path, is_made: bool) -> io::Result<Locked> {
    let mut options = File::options();
    options.write(true).create(is_made).mode(0o600).custom_flags(FLAGS);
    loop {
        let file = match options.open(path) {
            Ok(file) => file,
            Err(_) if !is_made => return Ok(Locked::Nowhere),
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            Ok(()) if is_at(&file, path) => {
                let path = path.to_owned();
                return Ok(Locked::Here(LockedFile { path, is_left: false, file }));
            }
            // The previous owner has removed it meanwhile.
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Locked::Elsewhere),
            Err(TryLockError::Error(_)) => {
                // A file that cannot be locked would look like one whose lock is free.
                let _ = if is_made { fs::remove_file(path) } else { Ok(()) };
                return Ok(Locked::Nowhere);
            }
        }
    }
}

/// Returns whether a path leads to this file.
fn is_at(file: &File, path: &Path) -> bool {
    let id = |it: fs::Metadata| (it.dev(), it.ino());
    let there = fs::symlink_metadata(path).map(id);
    file.metadata().map(id).is_ok_and(|here| there.is_ok_and(|there| here == there))
}
