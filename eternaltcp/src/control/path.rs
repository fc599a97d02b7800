//! The path of a control socket, which a proxy that drains leaves to its successor.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::{info, warn};

use crate::net::listener::{SocketFile, SocketPlace};
use crate::process::main_process;

/// The maximum number of bytes that fit into `sockaddr_un` with the final NUL.
const MAX_PATH: usize = 107;

/// The path of a control socket, which may change. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ControlPath(Arc<Mutex<CurrentPath>>);

#[derive(Debug)]
struct CurrentPath {
    path: PathBuf,
    /// `None` once it was removed.
    file: Option<SocketFile>,
    /// Whether the operator chose the path, so that a successor may get the same one.
    is_given: bool,
}

impl ControlPath {
    pub(super) fn new(file: SocketFile, is_given: bool) -> Self {
        let path = file.path().to_owned();
        Self(Arc::new(Mutex::new(CurrentPath { path, file: Some(file), is_given })))
    }

    /// Returns the path of a socket that an earlier process has made at `path`, as a file with this
    /// device and inode number, and may have left to a successor since.
    #[cfg(target_os = "linux")]
    pub(super) fn recovered(path: &Path, id: (u64, u64), is_given: bool) -> Self {
        let moved = SocketFile::recovered(&beside(path, main_process()), id);
        if is_given && moved.exists() {
            return Self::new(moved, false);
        }
        Self::new(SocketFile::recovered(path, id), is_given)
    }

    fn lock(&self) -> MutexGuard<'_, CurrentPath> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the current path.
    #[must_use]
    pub fn get(&self) -> PathBuf {
        self.lock().path.clone()
    }

    /// Returns the place of its file, unless it was removed.
    pub(super) fn file(&self) -> Option<SocketPlace> {
        self.lock().file.as_ref().map(SocketFile::place)
    }

    /// Makes the socket again, with `bind`, if its file is gone. A socket that was removed stays so.
    pub(super) fn restore<T>(
        &self,
        bind: impl FnOnce(&Path) -> io::Result<(T, SocketFile)>,
    ) -> io::Result<Option<T>> {
        let mut place = self.lock();
        if !place.file.as_ref().is_some_and(|file| file.place().is_lost()) {
            return Ok(None);
        }
        let (socket, file) = bind(&place.path)?;
        place.file = Some(file);
        Ok(Some(socket))
    }

    /// Removes the file of the socket.
    pub(super) fn remove(&self) {
        self.lock().file = None;
    }

    /// Leaves a path that the operator chose to a successor: `x.sock` becomes `x.PID.sock`. Returns
    /// the new path, if the socket has moved.
    pub(super) fn leave(&self) -> Option<PathBuf> {
        let mut place = self.lock();
        let CurrentPath { path: at, file, is_given } = &mut *place;
        let path = beside(at, main_process());
        let file = file.as_mut().filter(|_| *is_given)?;
        if path.as_os_str().len() > MAX_PATH {
            return None;
        }
        if let Err(error) = file.rename(path.clone()) {
            warn!("the control socket {} stays where it is: {error}", file.path().display());
            return None;
        }
        (*at, *is_given) = (path.clone(), false);
        info!("control socket {}", path.display());
        Some(path)
    }
}

/// Returns the name beside `path` that belongs to this process.
fn beside(path: &Path, process: u32) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!(".{process}"));
    if let Some(ending) = path.extension() {
        name.push(".");
        name.push(ending);
    }
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::listener::bind_unix;

    #[tokio::test]
    async fn a_path_that_was_given_is_left_once_and_one_that_was_claimed_never() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let (_listener, file) = bind_unix(&at("x.sock")).unwrap();
        let path = ControlPath::new(file, true);
        let own = at(&format!("x.{}.sock", std::process::id()));
        // An existing file is not replaced.
        std::fs::write(&own, "").unwrap();
        assert_eq!(path.leave(), None);
        std::fs::remove_file(&own).unwrap();
        assert_eq!(path.leave(), Some(own.clone()));
        assert_eq!((path.leave(), path.get()), (None, own.clone()));
        let (_successor, file) = bind_unix(&at("x.sock")).unwrap();
        path.remove();
        assert!(!own.exists() && at("x.sock").exists());
        assert_eq!(ControlPath::new(file, false).leave(), None);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_socket_that_was_left_is_found_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("x.sock");
        let (_listener, file) = bind_unix(&at).unwrap();
        let id = file.id();
        let first = ControlPath::new(file, true);
        let own = first.leave().unwrap();
        std::mem::forget(first);
        let (_successor, successors) = bind_unix(&at).unwrap();
        let next = ControlPath::recovered(&at, id, true);
        assert_eq!((next.get(), next.leave()), (own.clone(), None));
        next.remove();
        assert!(!own.exists() && at.exists());
        let next = ControlPath::recovered(&at, successors.id(), true);
        assert_eq!((next.get(), next.leave()), (at, Some(own)));
    }

    #[test]
    fn the_name_beside_another_has_the_process_in_it() {
        for (path, expected) in [
            ("/run/x/sproxy.sock", "/run/x/sproxy.7.sock"),
            ("ctl", "ctl.7"),
            ("/a.b/c", "/a.b/c.7"),
        ] {
            assert_eq!(beside(Path::new(path), 7), Path::new(expected));
        }
    }
}
