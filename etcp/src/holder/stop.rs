//! Stops a worker when its holder is stopped, because a user who stops the program means both.
//!
//! A process is not notified when its parent is stopped, so the worker checks. It checks before it
//! acts when it wakes up, at most every 50 ms, and every ten seconds if it never sleeps. A worker that
//! nothing wakes need not stop.

#[cfg(target_os = "linux")]
pub(super) use linux::watch;
#[cfg(target_os = "linux")]
pub(crate) use linux::{look, stop_with_holder};

#[cfg(target_os = "linux")]
mod linux {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Mutex, OnceLock};
    use std::time::{Duration, Instant};

    use crate::holder::contact::Contact;

    /// The minimum time between two checks.
    const PAUSE: Duration = Duration::from_millis(50);

    /// The interval of the checks of a worker that does not sleep.
    const BUSY: Duration = Duration::from_secs(10);

    static WATCH: OnceLock<StopWatch> = OnceLock::new();

    struct StopWatch {
        contact: Contact,
        began: Instant,
        /// The time of the last check, in milliseconds since `began`.
        looked: AtomicU64,
        /// Held by the thread that checks. A second thread that was stopped after it looked, and
        /// before it acted, would stop the process again when it continues.
        turn: Mutex<()>,
    }

    /// Lets this process check the state of its holder.
    pub(in crate::holder) fn watch(contact: Contact) {
        let looked = AtomicU64::new(0);
        // A process has only one holder.
        let turn = Mutex::new(());
        let _ = WATCH.set(StopWatch { contact, began: Instant::now(), looked, turn });
    }

    /// Stops this process if the holder is stopped. The call is cheap if there was a check a moment
    /// ago.
    pub(crate) fn look() {
        let Some(watch) = WATCH.get() else { return };
        let now = u64::try_from(watch.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let last = watch.looked.load(Ordering::Relaxed);
        let is_due = u128::from(now.saturating_sub(last)) >= PAUSE.as_millis();
        if !is_due {
            return;
        }
        // Another thread that checks stops this one as well.
        let Ok(_turn) = watch.turn.try_lock() else { return };
        watch.looked.store(now, Ordering::Relaxed);
        if watch.contact.is_holder_stopped() {
            watch.contact.stand_still();
        }
    }

    /// Checks regularly as long as the current runtime lives.
    pub(crate) fn stop_with_holder() {
        if WATCH.get().is_some() {
            tokio::spawn(async {
                let mut ticks = tokio::time::interval(BUSY);
                loop {
                    ticks.tick().await;
                    look();
                }
            });
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    pub(crate) fn look() {}
    pub(crate) fn stop_with_holder() {}
}
#[cfg(not(target_os = "linux"))]
pub(crate) use elsewhere::{look, stop_with_holder};
