//! Input of a carrier, before TLS.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{BufMut as _, BytesMut};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::super::CarrierError;
use crate::memory::BlockPool;

/// The number of bytes to read at once: few at first, so that strangers and idle carriers cost
/// little, and up to four full records when that many wait.
const MIN_READ: usize = 4 * 1024;
const MAX_READ: usize = 64 * 1024;

/// The size of a block to read into: even with the front of a record in it, it has room for the
/// largest read.
const BLOCK: usize = MAX_READ + 20 * 1024;

/// Bytes read from the socket that are not a complete record yet.
#[derive(Debug)]
pub(super) struct Input {
    buffer: BytesMut,
    /// Memory for large reads.
    blocks: BlockPool,
    read_size: usize,
    /// Whether the last read stopped before the socket was empty, or this task has not read yet.
    has_more: bool,
}

impl Input {
    /// Creates the input with the bytes that were read before.
    pub(super) fn new(buffer: BytesMut) -> Self {
        Self { buffer, blocks: BlockPool::new(BLOCK), read_size: MIN_READ, has_more: true }
    }

    /// Returns the bytes that were read.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Returns whether a task that waits for more would not be woken.
    pub(super) fn has_more(&self) -> bool {
        self.has_more
    }

    /// Records whether a task that waits for more would not be woken.
    pub(super) fn set_more(&mut self, has_more: bool) {
        self.has_more = has_more;
    }

    /// Reads once.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        stream: &TcpStream,
    ) -> Poll<Result<usize, CarrierError>> {
        loop {
            ready!(stream.poll_read_ready(cx))?;
            if self.read_size < MAX_READ {
                self.buffer.reserve(self.read_size);
            } else {
                self.blocks.renew(&mut self.buffer, self.read_size);
            }
            match read_some(stream, &mut self.buffer, self.read_size) {
                Ok(0) => return Poll::Ready(Err(CarrierError::Ended)),
                Ok(count) => {
                    if count >= self.read_size {
                        self.read_size = (self.read_size * 4).min(MAX_READ);
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Frees memory that an idle carrier does not need.
    pub(super) fn shrink(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
            self.read_size = MIN_READ;
        }
        self.blocks.trim();
    }
}

/// Reads at most `most` bytes. 0 is the end of stream. After less than `most` the socket counts as
/// drained, as epoll(7) allows, and the read that would confirm it is left out. There is no urgent
/// data on a carrier, which would end a read early.
fn read_some(stream: &TcpStream, buffer: &mut BytesMut, most: usize) -> io::Result<usize> {
    let mut count = None;
    let outcome = stream.try_io(Interest::READABLE, || {
        let read = stream.try_read_buf(&mut (&mut *buffer).limit(most))?;
        count = Some(read);
        // If tokio considers a socket empty, it waits for it.
        if (1..most).contains(&read) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    count.map_or_else(|| outcome.map(|()| 0), Ok)
}
