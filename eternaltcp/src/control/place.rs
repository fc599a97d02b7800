//! The places of control sockets.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::geteuid;

use super::kind::ProxyKind;
use crate::lock_file::{Locked, LockedFile, lock};
use crate::paths;
use crate::process::main_process;

/// The folder that systemd makes for services, as the guide's unit asks (`RuntimeDirectory=`).
const SYSTEM: &str = "/run/eternaltcp";

/// The file extension of every socket.
pub(super) const ENDING: &str = "sock";

/// The file extension of a socket's lock.
pub(super) const LOCK_ENDING: &str = "lock";

/// The maximum number of processes with the same id, in different containers, that can share a
/// folder.
const SAME_ID: usize = 64;

/// The maximum time for which a process has the lock of a name that is not its own, on a busy
/// machine.
const MOMENT: Duration = Duration::from_secs(2);

/// Interval between two attempts to lock a file meanwhile.
const TICK: Duration = Duration::from_millis(5);

/// Returns the folders for this user's control sockets, of which the first usable one is taken: the
/// [runtime folders](crate::paths::runtime), and `control` in the [state
/// folder](crate::paths::state).
#[must_use]
pub fn default_folders() -> Vec<PathBuf> {
    let state = paths::state().ok().map(|folder| folder.join("control"));
    paths::runtime().into_iter().chain(state).collect()
}

/// Returns the folders that may have sockets for this user: its own, and `/run/eternaltcp` with the
/// folders in it, for services of the system (`RuntimeDirectory=eternaltcp`, or `eternaltcp/NAME`).
#[must_use]
pub fn known_folders() -> Vec<PathBuf> {
    let mut folders = default_folders();
    for folder in of_services(Path::new(SYSTEM)) {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// Returns the folder, if it exists, and the folders in it.
fn of_services(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|it| it.is_dir());
    let below = entries.filter(is_folder).take(SAME_ID).map(|entry| entry.path());
    let own = folder.is_dir().then(|| folder.to_owned());
    own.into_iter().chain(below).collect()
}

/// The name of a socket that this process owns while the value lives.
///
/// A lock on the file beside the socket marks it as owned. A process id would not do: processes of
/// several containers, and of several machines, may share a folder and have equal ids.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    /// `None`: the file system has no locks.
    lock: Option<LockedFile>,
}

impl Claim {
    /// Claims a name for this process's socket in the first usable one of `folders`. The folder is
    /// created with mode 0700 if it is missing.
    ///
    /// # Errors
    /// The reason why the last folder cannot be used.
    pub fn take(role: ProxyKind, folders: &[PathBuf]) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "there is no home folder");
        for folder in folders {
            match prepare(folder).and_then(|()| Self::take_in(folder, role)) {
                Ok(claim) => return Ok(claim),
                Err(error) => {
                    last = io::Error::new(error.kind(), format!("{}: {error}", folder.display()));
                }
            }
        }
        Err(last)
    }

    fn take_in(folder: &Path, role: ProxyKind) -> io::Result<Self> {
        let process = main_process();
        for number in 1..=SAME_ID {
            let more = if number == 1 { String::new() } else { format!("-{number}") };
            let path = folder.join(format!("{role}.{process}{more}.{ENDING}"));
            match lock(&beside(&path), true) {
                Ok(Locked::Here(lock)) => return Ok(Self { path, lock: Some(lock) }),
                Ok(Locked::Nowhere) => return Ok(Self { path, lock: None }),
                Ok(Locked::Elsewhere) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("other processes use every name"))
    }

    /// Claims the name of an earlier process. No other process takes it while its socket listens,
    /// but some have its lock for a moment: one that looks for orphans, and a program that is being
    /// started with copies of the descriptors of the earlier process.
    ///
    /// # Errors
    /// Another process owns the name.
    pub(super) fn again(path: &Path) -> io::Result<Self> {
        let until = Instant::now() + MOMENT;
        loop {
            let lock = match lock(&beside(path), true)? {
                Locked::Here(lock) => Some(lock),
                Locked::Nowhere => None,
                Locked::Elsewhere if Instant::now() < until => {
                    std::thread::sleep(TICK);
                    continue;
                }
                Locked::Elsewhere => return Err(io::ErrorKind::AddrInUse.into()),
            };
            return Ok(Self { path: path.to_owned(), lock });
        }
    }

    /// Makes its folder and its lock again, if they were deleted.
    ///
    /// # Errors
    /// Another process owns the name now, or the folder cannot be used.
    pub(super) fn renew(&mut self) -> io::Result<()> {
        if self.lock.as_ref().is_some_and(LockedFile::is_there) {
            return Ok(());
        }
        self.path.parent().map_or(Ok(()), prepare)?;
        let renewed = Self::again(&self.path)?;
        // The file at its path is the new one's.
        if let Some(lock) = std::mem::replace(self, renewed).lock {
            lock.leave();
        }
        Ok(())
    }

    /// Returns the path of the socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Returns the path of a socket's lock.
pub(super) fn beside(path: &Path) -> PathBuf {
    path.with_extension(LOCK_ENDING)
}

/// Creates a folder that only its user can enter, or checks an existing one.
fn prepare(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).recursive(true).create(folder)?;
    let metadata = fs::metadata(folder)?;
    if metadata.uid() != geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is another user's"));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(folder, PermissionsExt::from_mode(0o700))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use eternaltcp_sys::testport::until_blocking;

    #[test]
    fn the_folder_is_its_users_alone() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("deep/eternaltcp");
        let folders = [PathBuf::from("/proc/nowhere/eternaltcp"), folder.clone()];
        let own = Claim::take(ProxyKind::Cproxy, &folders).unwrap();
        assert_eq!(own.path().parent(), Some(folder.as_path()));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).unwrap();
        Claim::take(ProxyKind::Sproxy, &folders).unwrap();
        assert_eq!(mode(&folder), 0o700);
    }

    #[test]
    fn a_name_is_claimed_again_although_others_have_its_lock_for_a_moment() {
        let folder = tempfile::tempdir().unwrap();
        let first = Claim::take(ProxyKind::Sproxy, &[folder.path().to_owned()]).unwrap();
        let path = first.path().to_owned();
        let (begins, began) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let again = scope.spawn(|| {
                begins.send(()).unwrap();
                Claim::again(&path)
            });
            began.recv().unwrap();
            drop(first);
            assert_eq!(again.join().unwrap().unwrap().path(), path);
        });
    }

    #[test]
    fn processes_of_one_id_have_names_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let take = || Claim::take(ProxyKind::Sproxy, &[folder.path().to_owned()]).unwrap();
        let (one, two) = (take(), take());
        assert_ne!(one.path(), two.path());
        let first = one.path().to_owned();
        drop(one);
        until_blocking("the first name to be free", || take().path() == first);
    }

    #[test]
    fn a_folder_of_another_user_is_not_used() {
        if geteuid().is_root() {
            let temporary = tempfile::tempdir().unwrap();
            std::os::unix::fs::chown(temporary.path(), Some(65534), None).unwrap();
            let error = Claim::take(ProxyKind::Sproxy, &[temporary.path().to_owned()]).unwrap_err();
            assert!(error.to_string().contains("another user's"), "{error}");
        }
    }
}
