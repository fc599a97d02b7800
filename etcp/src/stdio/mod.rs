//! stdin and stdout, in blocking or non-blocking mode.
//!
//! Both are shared with the parent process and its other children, which may change them to
//! non-blocking mode or back at any moment. Therefore EAGAIN means "wait" here, and the mode is
//! never changed. A failed write is an error for the caller.

use std::io::{self, IsTerminal};
use std::os::fd::BorrowedFd;

use eternaltcp_sys::is_stdout_closed;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::fstat;
use rustix::io::Errno;
use tokio::task::spawn_blocking;

/// The maximum number of bytes that are moved at once between stdio and a session.
pub(crate) const CHUNK: usize = 64 * 1024;

/// Returns whether stdin is a terminal, on which a user may be asked.
pub(crate) fn is_stdin_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Reads from stdin, on a thread that may block. Returns an empty buffer at the end.
///
/// # Errors
/// Reading failed.
pub(crate) async fn read_chunk(mut buffer: Vec<u8>) -> io::Result<Vec<u8>> {
    on_thread(move || {
        buffer.resize(CHUNK, 0);
        let count = read(rustix::stdio::stdin(), &mut buffer)?;
        buffer.truncate(count);
        Ok(buffer)
    })
    .await
}

/// Writes all of `chunk` to stdout, on a thread that may block, and returns the buffer.
///
/// # Errors
/// Writing failed.
pub(crate) async fn write_chunk(chunk: Vec<u8>) -> io::Result<Vec<u8>> {
    on_thread(move || {
        write_stdout(&chunk)?;
        Ok(chunk)
    })
    .await
}

async fn on_thread(
    work: impl FnOnce() -> io::Result<Vec<u8>> + Send + 'static,
) -> io::Result<Vec<u8>> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Writes all of `bytes` to stdout, and waits while it takes none.
///
/// # Errors
/// Writing failed, for example because stdout was closed when this program started.
pub(crate) fn write_stdout(bytes: &[u8]) -> io::Result<()> {
    if is_stdout_closed() {
        return Err(Errno::BADF.into());
    }
    write_all(rustix::stdio::stdout(), bytes)
}

/// stdin for a thread that may block. It reads nothing ahead.
#[derive(Debug)]
pub(crate) struct Stdin;

impl io::Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read(rustix::stdio::stdin(), buffer)
    }
}

/// Reads the available bytes, and waits while there are none. Returns 0 at the end.
///
/// # Errors
/// Reading failed.
pub(crate) fn read(from: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    retry(from, PollFlags::IN, || rustix::io::read(from, &mut *buffer))
}

/// Writes all of `bytes`, and waits while none are taken.
///
/// # Errors
/// Writing failed.
pub(crate) fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match retry(to, PollFlags::OUT, || rustix::io::write(to, bytes))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => bytes = bytes.get(count..).unwrap_or_default(),
        }
    }
    Ok(())
}

/// Retries until success or a permanent failure; between two attempts it waits for `ready`.
fn retry(
    fd: BorrowedFd<'_>,
    ready: PollFlags,
    mut attempt: impl FnMut() -> Result<usize, Errno>,
) -> io::Result<usize> {
    loop {
        match attempt() {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => match poll(&mut [PollFd::from_borrowed_fd(fd, ready)], None) {
                Ok(_) | Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            },
            result => return Ok(result?),
        }
    }
}

/// Returns whether this is a terminal that shows colours, and the user wants them.
pub(crate) fn has_colours(fd: impl IsTerminal) -> bool {
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|text| !text.is_empty());
    fd.is_terminal() && !is_dumb && !no_color
}

/// Returns whether stdin and stdout are the same file, such as a socket.
pub(crate) fn are_one() -> bool {
    let [from, to] = [fstat(rustix::stdio::stdin()), fstat(rustix::stdio::stdout())];
    matches!((from, to), (Ok(from), Ok(to)) if (from.st_dev, from.st_ino) == (to.st_dev, to.st_ino))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::thread;

    use rustix::io::ioctl_fionbio;
    use rustix::pipe::{fcntl_setpipe_size, pipe};

    use super::*;

    /// More bytes than any pipe holds.
    const LENGTH: usize = 3_000_000;

    fn bytes() -> Vec<u8> {
        (0..LENGTH).map(|n| (n * n % 251) as u8).collect()
    }

    #[test]
    fn a_pipe_in_non_blocking_mode_takes_every_byte_also_when_the_mode_changes() {
        for is_changing in [false, true] {
            let (from, to) = pipe().unwrap();
            fcntl_setpipe_size(&to, 4096).unwrap();
            ioctl_fionbio(&to, true).unwrap();
            let (writer, other) = (to.try_clone().unwrap(), to);
            let writing = thread::spawn(move || write_all(writer.as_fd(), &bytes()).unwrap());
            let (mut read, mut chunk) = (Vec::new(), [0; 10_000]);
            let mut from = File::from(from);
            while read.len() < LENGTH {
                let count = from.read(&mut chunk).unwrap();
                read.extend_from_slice(&chunk[..count]);
                if is_changing {
                    ioctl_fionbio(&other, read.len() % 3 == 0).unwrap();
                }
            }
            writing.join().unwrap();
            assert!(read == bytes());
        }
    }

    #[test]
    fn an_input_in_non_blocking_mode_is_waited_for_and_its_end_is_its_end() {
        let (from, to) = pipe().unwrap();
        ioctl_fionbio(&from, true).unwrap();
        let reading = thread::spawn(move || {
            let (mut all, mut chunk) = (Vec::new(), [0; 10_000]);
            loop {
                match read(from.as_fd(), &mut chunk).unwrap() {
                    0 => return all,
                    count => all.extend_from_slice(&chunk[..count]),
                }
            }
        });
        let mut to = File::from(to);
        bytes().chunks(100_000).for_each(|chunk| to.write_all(chunk).unwrap());
        drop(to);
        assert!(reading.join().unwrap() == bytes());
    }

    #[test]
    fn a_descriptor_that_cannot_be_read_or_written_is_an_error() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let error = write_all(full.as_fd(), b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        write_all(full.as_fd(), b"").unwrap();
        let folder = File::open("/").unwrap();
        let error = read(folder.as_fd(), &mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        let (from, to) = pipe().unwrap();
        drop(from);
        assert_eq!(write_all(to.as_fd(), b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
