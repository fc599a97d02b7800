//! The two ends of a stream in memory against each other.

use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::BytesMut;
use eternaltcp_proto::{Cause, Reset};
use tokio::io::ReadBuf;

use super::{CAPACITY, DriverEnd, ProgramEnd, pipe};

/// Counts wake-ups.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn read(end: &ProgramEnd, waker: &Waker) -> Poll<Result<Vec<u8>, ErrorKind>> {
    let mut space = [0; 2 * CAPACITY];
    let mut buffer = ReadBuf::new(&mut space);
    end.poll_read(&Context::from_waker(waker), &mut buffer)
        .map(|result| result.map(|()| buffer.filled().to_vec()).map_err(|error| error.kind()))
}

fn write(end: &ProgramEnd, bytes: &[u8], waker: &Waker) -> Poll<Result<usize, ErrorKind>> {
    let written = end.poll_write(&Context::from_waker(waker), &[IoSlice::new(bytes)]);
    written.map(|result| result.map_err(|error| error.kind()))
}

fn take(end: &DriverEnd) -> Result<Vec<u8>, ErrorKind> {
    let mut buffer = BytesMut::new();
    end.try_read(&mut buffer, usize::MAX).map_err(|error| error.kind())?;
    Ok(buffer.to_vec())
}

fn give(end: &DriverEnd, bytes: &[u8]) -> Result<usize, ErrorKind> {
    end.try_write(&[IoSlice::new(bytes)]).map_err(|error| error.kind())
}

#[test]
fn a_full_direction_holds_its_writer_until_there_is_room() {
    let (program, driver) = pipe();
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    assert_eq!(write(&program, &[7; 2 * CAPACITY], &waker), Poll::Ready(Ok(CAPACITY)));
    assert_eq!(write(&program, b"x", &waker), Poll::Pending);
    assert_eq!(take(&driver), Ok(vec![7; CAPACITY]));
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    assert_eq!(give(&driver, &[8; 2 * CAPACITY]), Ok(CAPACITY));
    assert!(driver.poll_write_ready(&Context::from_waker(&waker)).is_pending());
    assert_eq!(give(&driver, b"x"), Err(ErrorKind::WouldBlock));
    assert_eq!(read(&program, &waker), Poll::Ready(Ok(vec![8; CAPACITY])));
    assert_eq!(count.0.load(Ordering::Relaxed), 2);
}

#[test]
fn an_end_comes_after_the_bytes_and_a_reset_too_and_stays() {
    let (program, driver) = pipe();
    assert_eq!(write(&program, b"last", Waker::noop()), Poll::Ready(Ok(4)));
    program.shut().unwrap();
    assert_eq!(write(&program, b"x", Waker::noop()), Poll::Ready(Err(ErrorKind::BrokenPipe)));
    assert_eq!((take(&driver), take(&driver)), (Ok(b"last".to_vec()), Ok(Vec::new())));
    assert_eq!(give(&driver, b"answer"), Ok(6));
    driver.reset(&Reset::new(Cause::Application));
    drop(driver);
    assert_eq!(read(&program, Waker::noop()), Poll::Ready(Ok(b"answer".to_vec())));
    for _ in 0..2 {
        let reset = Poll::Ready(Err(ErrorKind::ConnectionReset));
        assert_eq!(read(&program, Waker::noop()), reset);
    }
}

#[test]
fn a_dropped_driver_is_not_an_end_of_stream() {
    let (program, driver) = pipe();
    driver.shut_sending();
    drop(driver);
    assert_eq!(read(&program, Waker::noop()), Poll::Ready(Err(ErrorKind::ConnectionAborted)));
    let (program, driver) = pipe();
    driver.shut_sending();
    program.shut().unwrap();
    assert_eq!(take(&driver), Ok(Vec::new()));
    drop(driver);
    assert_eq!(read(&program, Waker::noop()), Poll::Ready(Ok(Vec::new())), "in order");
}

#[test]
fn written_data_are_read_before_a_dropped_end_fails_a_write() {
    let (program, driver) = pipe();
    assert_eq!(write(&program, b"last", Waker::noop()), Poll::Ready(Ok(4)));
    drop(program);
    let cx = Context::from_waker(Waker::noop());
    assert!(driver.poll_write_ready(&cx).is_pending());
    assert_eq!((take(&driver), take(&driver)), (Ok(b"last".to_vec()), Ok(Vec::new())));
    assert!(driver.poll_write_ready(&cx).is_ready() && !driver.is_dead());
    assert_eq!(give(&driver, b"x"), Err(ErrorKind::BrokenPipe));
}

#[test]
fn an_end_that_is_dropped_with_data_unread_is_a_reset_after_its_bytes() {
    let (program, driver) = pipe();
    assert_eq!(give(&driver, b"unread"), Ok(6));
    assert_eq!(write(&program, b"last", Waker::noop()), Poll::Ready(Ok(4)));
    drop(program);
    assert!(!driver.is_dead(), "its bytes come first");
    assert_eq!(take(&driver), Ok(b"last".to_vec()));
    assert_eq!(take(&driver), Err(ErrorKind::ConnectionReset));
    assert!(driver.is_dead());
}

#[test]
fn an_abort_drops_what_was_not_taken() {
    let (program, driver) = pipe();
    assert_eq!(write(&program, b"lost", Waker::noop()), Poll::Ready(Ok(4)));
    program.abort();
    assert!(driver.is_dead());
    assert_eq!(take(&driver), Err(ErrorKind::ConnectionReset));
}
