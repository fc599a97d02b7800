//! The journal of systemd, with a field for each field of a record.
//!
//! The protocol is systemd's (`docs/JOURNAL_NATIVE_PROTOCOL.md` there): a datagram of
//! `NAME=value` lines. The crate `tracing-journald` speaks it too, but its calls wait for a journal
//! that is stuck, and would hold up the file.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::losses::Losses;

/// The socket of the journal.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// The priority of records: an informational message, as in syslog(3).
const PRIORITY: &str = "6";

/// The journal as a place of records. Sending never waits.
#[derive(Debug)]
pub(super) struct Journal {
    connection: JournalConnection,
    losses: Losses,
}

#[derive(Debug)]
struct JournalConnection {
    /// `None`: there is no journal yet.
    socket: Option<UnixDatagram>,
    /// The path of the journal's socket.
    path: PathBuf,
    /// The last error, until it is reported.
    error: Option<String>,
}

impl Journal {
    /// Returns the journal of this system. It is reached when there is something to send.
    pub(super) fn of_system() -> Self {
        Self::at(PathBuf::from(SOCKET))
    }

    fn at(path: PathBuf) -> Self {
        let connection = JournalConnection { socket: None, path, error: None };
        Self { connection, losses: Losses::default() }
    }

    /// Checks that this system can have a journal, without connecting to it.
    pub(super) fn inspect() -> io::Result<()> {
        std::fs::metadata(SOCKET).map(drop)
    }

    /// Checks that there is a journal.
    pub(super) fn check() -> io::Result<()> {
        connect(Path::new(SOCKET)).map(drop)
    }

    /// Counts records that were dropped before they came here.
    pub(super) fn lose(&mut self, count: u64) {
        self.losses.add(count);
    }

    /// Sends a record, after `notice` about the lost ones, if there are any.
    #[cfg(test)]
    pub(super) fn write(&mut self, line: &[u8], notice: impl FnOnce(u64) -> Vec<u8>) {
        self.losses.write(line, notice, |line| self.connection.send(line));
    }

    /// Sends records, each after `notice` about the lost ones, if there are any. Returns how many the
    /// journal has not taken.
    pub(super) fn write_all(&mut self, lines: &[Vec<u8>], notice: fn(u64) -> Vec<u8>) -> u64 {
        self.losses.write_all(lines, notice, |line| self.connection.send(line))
    }

    /// Sends the notice about lost records without waiting for the next one.
    pub(super) fn settle(&mut self, notice: impl FnOnce(u64) -> Vec<u8>) {
        self.losses.settle(notice, |line| self.connection.send(line));
    }

    /// Returns the number of records that were lost since the last one that was sent.
    pub(super) fn lost(&self) -> u64 {
        self.losses.count()
    }

    /// Returns the path of the journal's socket and the last error, once for each error.
    pub(super) fn take_error(&mut self) -> Option<(&Path, String)> {
        let JournalConnection { path, error, .. } = &mut self.connection;
        error.take().map(|error| (path.as_path(), error))
    }
}

impl JournalConnection {
    /// Returns whether the journal has taken a record.
    fn send(&mut self, line: &[u8]) -> bool {
        let sent = self.try_send(&entry(line));
        self.error = sent.as_ref().err().map(io::Error::to_string).or(self.error.take());
        sent.is_ok()
    }

    fn try_send(&mut self, entry: &[u8]) -> io::Result<()> {
        if let Some(socket) = &self.socket {
            match socket.send(entry) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    // The journal may have been restarted.
                }
                sent => return sent.map(drop),
            }
        }
        self.socket = None;
        self.socket.insert(connect(&self.path)?).send(entry).map(drop)
    }
}

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(path)?;
    Ok(socket)
}

/// Returns the entry for a line: the line as its message, and each field as `ETCP_NAME`.
fn entry(line: &[u8]) -> Vec<u8> {
    let fields: Map<String, Value> = serde_json::from_slice(line).unwrap_or_default();
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut entry = [b"MESSAGE=", line, b"\n"].concat();
    entry.extend(format!("PRIORITY={PRIORITY}\nSYSLOG_IDENTIFIER=etcp\n").into_bytes());
    for (name, value) in &fields {
        let value = match value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let name = format!("ETCP_{}", name.to_ascii_uppercase());
        if value.contains('\n') {
            // The binary form: nothing in the value can end it.
            entry.extend(name.as_bytes());
            entry.push(b'\n');
            entry.extend((value.len() as u64).to_le_bytes());
            entry.extend(value.as_bytes());
            entry.push(b'\n');
        } else {
            entry.extend(format!("{name}={value}\n").into_bytes());
        }
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_that_is_stuck_or_restarted_holds_nothing_up_and_gets_the_number_of_lost_records() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let mut journal = Journal::at(path.clone());
        journal.write(b"{}\n", |_| Vec::new());
        assert_eq!(std::mem::take(&mut journal.losses), Losses::of(1), "there is no journal yet");
        let reader = UnixDatagram::bind(&path).unwrap();
        let record = |number: usize| format!("{{\"n\":{number}}}\n").into_bytes();
        let notice = |count| format!("{{\"count\":{count}}}\n").into_bytes();
        let sent = (0..1_000_000).find(|number| {
            journal.write(&record(*number), notice);
            journal.losses != Losses::default()
        });
        let sent = sent.unwrap();
        assert!(journal.take_error().is_some() && journal.take_error().is_none());
        journal.lose(2);
        drop(reader);
        std::fs::remove_file(&path).unwrap();
        journal.write(&record(0), notice);
        let reader = UnixDatagram::bind(&path).unwrap();
        journal.write(&record(sent), notice);
        let next = || {
            let mut buffer = [0; 256];
            let length = reader.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        assert!(next().contains("ETCP_COUNT=4\n"));
        assert!(next().contains(&format!("ETCP_N={sent}\n")));
    }

    #[test]
    fn each_field_of_a_record_is_a_field_of_the_journal_and_no_value_forges_another() {
        let line = b"{\"v\":1,\"event\":\"reloaded\",\"faults\":[\"x\"],\"key\":null,\"a\":\"b\\nPRIORITY=0\"}\n";
        let text = entry(line);
        let expected = [
            b"MESSAGE=".as_slice(),
            &line[..line.len() - 1],
            b"\nPRIORITY=6\nSYSLOG_IDENTIFIER=etcp\n",
            b"ETCP_A\n\x0c\0\0\0\0\0\0\0b\nPRIORITY=0\n",
            b"ETCP_EVENT=reloaded\nETCP_FAULTS=[\"x\"]\nETCP_V=1\n",
        ]
        .concat();
        assert_eq!(String::from_utf8_lossy(&text), String::from_utf8_lossy(&expected));
    }
}
