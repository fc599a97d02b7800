//! One running direction: it moves packets from one device through the link to the other.

use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use crate::link::Link;
use crate::tun::Tun;

/// The maximum number of packets that are read before due ones are written.
const BATCH: usize = 64;
/// The largest possible packet.
const MAX_BYTES: usize = 65536;

/// A link, and the state that its thread shares with those who change it.
#[derive(Debug)]
pub(crate) struct RunningLink {
    start: Instant,
    link: Mutex<Link>,
    wake: OwnedFd,
}

impl RunningLink {
    pub(crate) fn new(link: Link) -> Result<Self, String> {
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
            .map_err(|error| format!("cannot make an eventfd: {error}"))?;
        Ok(Self { start: Instant::now(), link: Mutex::new(link), wake })
    }

    /// Returns the link's time.
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Locks the link: no packet moves meanwhile.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notifies the thread in [`RunningLink::carry`] that the link has changed.
    pub(crate) fn wake(&self) {
        // It fails only if the counter is full, and then the thread wakes up anyway.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Moves packets until a device is gone, and returns the reason.
    pub(crate) fn carry(&self, from: &Tun, to: &Tun) -> String {
        // Otherwise the kernel may wake this thread 50 µs late. Without it, only precision suffers.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let mut buffer = vec![0; MAX_BYTES];
        loop {
            let next = self.lock().next_time();
            if let Err(error) = self.sleep_until(next, from) {
                return format!("cannot wait for packets: {error}");
            }
            // Due packets are written under the lock: once silence is set, nothing arrives.
            let mut link = self.lock();
            if let Err(error) = read_batch(&mut link, self.now(), from, &mut buffer) {
                return format!("cannot read from a TUN device: {error}; was it deleted?");
            }
            while let Some(packet) = link.poll(self.now()) {
                if to.write(&packet).is_err() {
                    link.count_refused();
                }
            }
        }
    }

    /// Sleeps until a time of the link, a packet, or a change of the link.
    fn sleep_until(&self, time: Option<Duration>, from: &Tun) -> Result<(), Errno> {
        let timeout = time.and_then(|time| {
            let rest = time.saturating_sub(self.now());
            Timespec::try_from(rest).ok()
        });
        let mut fds = [
            PollFd::from_borrowed_fd(from.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, timeout.as_ref()) {
            Err(error) if error != Errno::INTR => return Err(error),
            _ => {}
        }
        if fds[1].revents().contains(PollFlags::IN) {
            let _ = rustix::io::read(&self.wake, &mut [0_u8; 8]);
        }
        Ok(())
    }
}

/// Takes the waiting packets, up to a batch.
fn read_batch(
    link: &mut Link,
    now: Duration,
    from: &Tun,
    buffer: &mut [u8],
) -> std::io::Result<()> {
    for _ in 0..BATCH {
        match from.read(buffer) {
            Ok(count) => link.enqueue(now, &buffer[..count]),
            Err(error) => match error.kind() {
                std::io::ErrorKind::WouldBlock => return Ok(()),
                std::io::ErrorKind::Interrupted => {}
                _ => return Err(error),
            },
        }
    }
    Ok(())
}
