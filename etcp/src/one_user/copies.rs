//! The copies of etcp in the user's cache at the server. Each version of a client leaves one.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};

/// The name of the folder of copies.
const FOLDER: &str = "eternaltcp";

/// The prefix of the names of copies.
const PREFIX: &str = "etcp-";

/// The number of copies that are kept, this program included. Clients of several versions may take
/// turns.
const KEPT: usize = 3;

/// Removes old copies if this program is one. A copy that still runs needs its file no longer, and
/// the carriers of its client find another one.
pub(super) fn remove_old() {
    let Ok(this) = std::env::current_exe() else { return };
    let Some(folder) = this.parent().filter(|it| it.ends_with(FOLDER)) else { return };
    if is_copy(&this) {
        // What cannot be removed now may be removed next time.
        let _ = mark_used(&this).and_then(|()| remove_all_but(folder, KEPT));
    }
}

fn is_copy(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_bytes().starts_with(PREFIX.as_bytes()))
}

/// Makes this copy the one that was used last.
fn mark_used(copy: &Path) -> io::Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    Ok(utimensat(CWD, copy, &times, AtFlags::empty())?)
}

/// Removes all copies except those that were used last.
fn remove_all_but(folder: &Path, kept: usize) -> io::Result<()> {
    let mut copies: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder)?.flatten() {
        let (path, metadata) = (entry.path(), entry.metadata()?);
        if metadata.is_file() && is_copy(&path) {
            copies.push((metadata.modified()?, path));
        }
    }
    copies.sort();
    let old = copies.len().saturating_sub(kept);
    copies[..old].iter().try_for_each(|(_, path)| fs::remove_file(path))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_copies_that_were_used_last_are_kept() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let days_ago = |days: u64| SystemTime::now() - Duration::from_secs(days * 86_400);
        for (name, days) in [("etcp-a", 4), ("etcp-b", 3), ("etcp-c", 2), ("other", 9)] {
            fs::write(at(name), "").unwrap();
            fs::File::open(at(name)).unwrap().set_modified(days_ago(days)).unwrap();
        }
        fs::create_dir(at("etcp-folder")).unwrap();
        mark_used(&at("etcp-a")).unwrap();
        remove_all_but(place.path(), 2).unwrap();
        let mut left: Vec<_> = fs::read_dir(place.path()).unwrap().flatten().collect();
        left.sort_by_key(fs::DirEntry::file_name);
        let left: Vec<_> = left.iter().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["etcp-a", "etcp-c", "etcp-folder", "other"]);
        remove_all_but(place.path(), 2).unwrap();
        assert!(at("etcp-a").exists() && at("etcp-c").exists());
    }
}
