//! The control socket: requests to a running link, one per line, with one line as answer.

use std::ffi::OsString;
use std::fs::{File, Permissions, TryLockError, remove_file, set_permissions, symlink_metadata};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;

use rustix::fs::OFlags;

use crate::emulator::{Emulator, StopReason};
use crate::setting::Assignment;

/// The maximum length of a request in bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// A socket whose file exists as long as this value.
#[derive(Debug)]
pub(crate) struct Control {
    path: PathBuf,
}

impl Control {
    /// Listens at `path`, only for this user, replacing a socket on which nothing listens.
    ///
    /// A lock on a file beside it excludes other processes that do the same. Without it, one could
    /// remove the fresh socket of another.
    pub(crate) fn listen(path: &Path) -> Result<(Self, UnixListener), String> {
        let failed = |error| format!("cannot listen on {}: {error}", path.display());
        let Some(_lock) = Lock::take(path).map_err(failed)? else {
            return Err(format!("somebody else starts on {}: choose another", path.display()));
        };
        if symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
            if UnixStream::connect(path).is_ok() {
                return Err(format!("somebody listens on {}: choose another", path.display()));
            }
            remove_file(path).map_err(failed)?;
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
        Ok((Self { path: path.to_owned() }, listener))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = remove_file(&self.path);
    }
}

/// A lock on a file beside the socket; the file is removed with it.
struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Locks the file beside `socket`; `None` if another process holds the lock.
    fn take(socket: &Path) -> io::Result<Option<Self>> {
        let mut name = OsString::from(socket);
        name.push(".lock");
        let path = PathBuf::from(name);
        loop {
            // A link to another file is not followed.
            let mut options = File::options();
            options.write(true).create(true).mode(0o600);
            options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
            let file = options.open(&path)?;
            match file.try_lock() {
                Ok(()) if is_at(&file, &path) => return Ok(Some(Self { path, _file: file })),
                // The previous owner has removed the file meanwhile.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = remove_file(&self.path);
    }
}

/// Returns whether the path leads to this file.
fn is_at(file: &File, path: &Path) -> bool {
    let here = file.metadata().map(|it| (it.dev(), it.ino()));
    let there = symlink_metadata(path).map(|it| (it.dev(), it.ino()));
    matches!((here, there), (Ok(here), Ok(there)) if here == there)
}

/// Answers clients on threads of their own.
pub(crate) fn serve(listener: UnixListener, emulator: Arc<Emulator>, end: Sender<StopReason>) {
    thread::spawn(move || {
        for stream in listener.incoming() {
            match stream {
                Ok(stream) => {
                    let (emulator, end) = (Arc::clone(&emulator), end.clone());
                    // A client that hangs up has what it needs.
                    thread::spawn(move || converse(&stream, &emulator, &end).ok());
                }
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    let reason = format!("cannot accept on the control socket: {error}");
                    let _ = end.send(StopReason::Failed(reason));
                    return;
                }
            }
        }
    });
}

fn converse(
    stream: &UnixStream,
    emulator: &Emulator,
    end: &Sender<StopReason>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.by_ref().take(MAX_BYTES).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let is_whole = line.ends_with('\n') || (line.len() as u64) < MAX_BYTES;
        let mut words = line.split_whitespace();
        let answer = match words.next() {
            _ if !is_whole => Err("a request is at most 64 KiB long".to_owned()),
            Some("set") => set(emulator, words),
            Some("show") => Ok(emulator.show()),
            Some("quit") => Ok("ok".to_owned()),
            _ => Err("a request is set SETTING..., show or quit".to_owned()),
        };
        let text = answer.unwrap_or_else(|error| format!("error: {error}"));
        (&mut &*stream).write_all(format!("{text}\n").as_bytes())?;
        if line.trim() == "quit" {
            let _ = end.send(StopReason::Asked);
        }
        if !is_whole {
            return Ok(());
        }
    }
}

fn set<'a>(emulator: &Emulator, words: impl Iterator<Item = &'a str>) -> Result<String, String> {
    let assignments = words.map(str::parse).collect::<Result<Vec<Assignment>, _>>()?;
    if assignments.is_empty() {
        return Err("say what to set, as in set delay=20ms".to_owned());
    }
    emulator.set(&assignments)?;
    Ok("ok".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn of_many_that_start_at_once_on_an_abandoned_socket_one_listens_and_is_reached() {
        const THREADS: usize = 8;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("link.sock");
        for round in 0..200 {
            drop(UnixListener::bind(&path).unwrap());
            let start = Barrier::new(THREADS);
            let listen = || {
                start.wait();
                Control::listen(&path)
            };
            let results: Vec<_> = thread::scope(|scope| {
                let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(listen)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let (listening, refused): (Vec<_>, Vec<_>) =
                results.into_iter().partition(Result::is_ok);
            assert_eq!(listening.len(), 1, "in round {round}: {refused:?}");
            UnixStream::connect(&path).unwrap();
            let told = |error: &String| error.ends_with("choose another");
            assert!(refused.iter().all(|it| it.as_ref().is_err_and(told)), "{refused:?}");
            drop(listening);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
        }
    }
}
