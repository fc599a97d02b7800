//! Unix sockets to listen on, and their files.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use eternaltcp_sys::unix::is_abandoned;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

use super::tcp::BACKLOG;
use crate::lock_file::{Locked, lock};

/// The file of a Unix listener, removed when it is dropped.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// The identity of the file.
    id: (u64, u64),
}

/// The place of a file, and its identity.
#[derive(Debug)]
pub(crate) struct SocketPlace {
    path: PathBuf,
    id: (u64, u64),
}

impl SocketPlace {
    /// Returns whether the file is certainly not there any more.
    pub(crate) fn is_lost(&self) -> bool {
        match id_of(&self.path) {
            Ok(found) => found != self.id,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

impl SocketFile {
    /// Returns the file that an earlier process has made, with this device and inode number.
    pub(crate) fn recovered(path: &Path, id: (u64, u64)) -> Self {
        Self { path: path.to_owned(), id }
    }

    /// Returns whether the file is there.
    #[cfg(target_os = "linux")]
    pub(crate) fn exists(&self) -> bool {
        id_of(&self.path).is_ok_and(|id| id == self.id)
    }

    /// Returns where the file should be.
    pub(crate) fn place(&self) -> SocketPlace {
        SocketPlace { path: self.path.clone(), id: self.id }
    }

    /// Returns the device and the number of the file.
    pub(crate) fn id(&self) -> (u64, u64) {
        self.id
    }

    /// Returns the path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file another name, at which there is no file. The socket stays open.
    ///
    /// # Errors
    /// The file is gone or was replaced, or the other name is taken.
    pub(crate) fn rename(&mut self, path: PathBuf) -> io::Result<()> {
        if id_of(&self.path)? != self.id {
            return Err(io::ErrorKind::NotFound.into());
        }
        renameat_with(CWD, &self.path, CWD, &path, RenameFlags::NOREPLACE)?;
        self.path = path;
        Ok(())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may be gone, or a successor's file may be in its place.
        if id_of(&self.path).is_ok_and(|id| id == self.id) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn id_of(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|it| (it.dev(), it.ino()))
}

/// Listens on a Unix socket that only its owner can reach. A socket on which nothing listens is
/// replaced; any other file is kept, even if connecting to it is refused.
///
/// A lock on a file beside it excludes other processes that do the same. Without it, the fresh
/// socket of another process could be removed: before it listens, or after it has replaced the
/// socket that was examined here.
pub(crate) fn bind_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let locked = match lock(&beside(path), true) {
        // The owner of the lock is about to listen there.
        Ok(Locked::Elsewhere) => return Err(Errno::ADDRINUSE.into()),
        locked => locked,
    };
    // Where no file can be created, no socket can: bind(2) reports why.
    let is_socket = fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
    if locked.is_ok() && is_socket && is_abandoned(path) {
        fs::remove_file(path)?;
    }
    let (socket, file) = bind_private(path)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok((UnixListener::from_std(socket.into())?, file))
}

/// Binds a socket to which only its owner may connect, and nobody before it listens: the file is
/// created with the permissions of the umask, which may let everybody connect.
fn bind_private(path: &Path) -> io::Result<(Socket, SocketFile)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile { path: path.to_owned(), id: id_of(path)? };
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok((socket, file))
}

/// Returns the path of the lock. No other program uses such a name.
fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".etcp-lock");
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener as BlockingListener, UnixStream};
    use std::sync::Barrier;

    use eternaltcp_sys::testport::until_blocking;
    use tokio::runtime::Handle;

    use super::*;

    /// Listens from several threads at once, and returns their results.
    fn bind_at_once(path: &Path) -> Vec<io::Result<(UnixListener, SocketFile)>> {
        const THREADS: usize = 8;
        let (runtime, start) = (Handle::current(), Barrier::new(THREADS));
        let bind = || {
            let _inside = runtime.enter();
            start.wait();
            bind_unix(path)
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(bind)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[tokio::test]
    async fn one_of_many_that_replace_an_abandoned_socket_at_once_listens_and_is_reached() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        for round in 0..200 {
            drop(BlockingListener::bind(&path).unwrap());
            until_blocking("the end of its listener", || is_abandoned(&path));
            let (bound, refused): (Vec<_>, Vec<_>) =
                bind_at_once(&path).into_iter().partition(Result::is_ok);
            assert_eq!(bound.len(), 1, "in round {round}");
            UnixStream::connect(&path).unwrap();
            for error in refused.into_iter().filter_map(Result::err) {
                assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            }
            drop(bound);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
        }
    }

    #[test]
    fn nobody_can_connect_before_only_the_owner_may() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let (socket, file) = bind_private(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let error = UnixStream::connect(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        socket.listen(BACKLOG).unwrap();
        UnixStream::connect(&path).unwrap();
        drop(file);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_not_an_abandoned_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listening = bind_unix(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(bind_unix(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        UnixStream::connect(&path).unwrap();
        drop(listening);
        fs::write(&path, "a file").unwrap();
        assert_eq!(bind_unix(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(fs::read(&path).unwrap(), b"a file");
        let nowhere = folder.path().join("no/folder");
        assert_eq!(bind_unix(&nowhere).unwrap_err().kind(), io::ErrorKind::NotFound);
        // A pipe in place of the lock does not block.
        fs::remove_file(&path).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, beside(&path), rustix::fs::FileType::Fifo, mode, 0)
            .unwrap();
        bind_unix(&path).unwrap();
    }
}
