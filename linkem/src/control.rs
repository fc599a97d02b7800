//! The control socket: requests to a running link, one per line, with one line as answer.

use std::fs::{Permissions, remove_file, set_permissions, symlink_metadata};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;

use crate::emulator::Emulator;
use crate::run::End;
use crate::setting::Assignment;

/// Longest request.
const MOST_BYTES: u64 = 64 * 1024;

/// A socket whose file exists as long as this value.
#[derive(Debug)]
pub(crate) struct Control {
    path: PathBuf,
}

impl Control {
    /// Listens at `path`, only for this user, replacing a socket on which nothing listens.
    pub(crate) fn listen(path: &Path) -> Result<(Self, UnixListener), String> {
        let failed = |error| format!("cannot listen on {}: {error}", path.display());
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

/// Answers clients on threads of their own.
pub(crate) fn serve(listener: UnixListener, emulator: Arc<Emulator>, end: Sender<End>) {
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
                    let _ = end.send(End::Failed(reason));
                    return;
                }
            }
        }
    });
}

fn converse(stream: &UnixStream, emulator: &Emulator, end: &Sender<End>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.by_ref().take(MOST_BYTES).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let is_whole = line.ends_with('\n') || (line.len() as u64) < MOST_BYTES;
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
            let _ = end.send(End::Asked);
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
