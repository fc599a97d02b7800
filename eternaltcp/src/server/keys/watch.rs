//! The thread that checks a file of keys.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};

use tokio::sync::oneshot;
use tracing::warn;

use super::lock;
use super::state::{FileCheck, KeyFileState, Stamp};
use crate::policy::{FileError, StrictModes, missing_or_unreadable, open_authorized_keys};
use eternaltcp_sys::has_writer;

/// The channel for requesting a check; the sender is notified when it is done.
pub(super) type CheckRequests = mpsc::Sender<oneshot::Sender<()>>;

/// Starts the thread that checks the file on request. It ends when there are no requesters any
/// more.
pub(super) fn watch(
    path: PathBuf,
    modes: Option<StrictModes>,
    state: Arc<Mutex<KeyFileState>>,
) -> io::Result<CheckRequests> {
    let (looks, asked) = mpsc::channel::<oneshot::Sender<()>>();
    std::thread::Builder::new().name("keys".into()).spawn(move || {
        while let Ok(first) = asked.recv() {
            let waiting: Vec<_> = std::iter::once(first).chain(asked.try_iter()).collect();
            look(&path, modes.as_ref(), &state);
            for done in waiting {
                // The requester may be gone.
                let _ = done.send(());
            }
        }
    })?;
    Ok(looks)
}

/// Reads the file if it changed, and takes over its contents. Permissions of its folders do not
/// show in the file: they are checked each time.
fn look(path: &Path, modes: Option<&StrictModes>, state: &Mutex<KeyFileState>) {
    match stat(path, modes) {
        Ok(stamp) if !lock(state).needs(stamp) => lock(state).find_unchanged(path),
        Ok(_) => match read(path, modes) {
            Ok(found) => lock(state).find(path, found),
            Err(error) => tell(lock(state).find_unreadable(error.to_string())),
        },
        Err(error) => tell(lock(state).find_unreadable(error.to_string())),
    }
}

/// Logs why the file cannot be read, if that has changed.
pub(super) fn tell(news: Option<String>) {
    if let Some(why) = news {
        warn!("{why}; no new tunnel is admitted until then");
    }
}

/// Checks the file's metadata, and who could change it, without reading it.
fn stat(path: &Path, modes: Option<&StrictModes>) -> Result<Stamp, FileError> {
    let metadata = std::fs::metadata(path).map_err(|error| missing_or_unreadable(path, error))?;
    modes.map_or(Ok(()), |modes| modes.check(path, &metadata))?;
    Ok(stamp(&metadata))
}

fn read(path: &Path, modes: Option<&StrictModes>) -> Result<FileCheck, FileError> {
    let (keys, file) = open_authorized_keys(path, modes)?;
    let unreadable = |error| FileError::Unreadable(path.to_owned(), error);
    // A concurrent change shows in the next check.
    let stamp = stamp(&file.metadata().map_err(unreadable)?);
    Ok(FileCheck { stamp, keys, has_writer: has_writer(&file) })
}

fn stamp(metadata: &Metadata) -> Stamp {
    Stamp {
        changed: (metadata.ctime(), metadata.ctime_nsec()),
        length: metadata.len(),
        inode: metadata.ino(),
    }
}
