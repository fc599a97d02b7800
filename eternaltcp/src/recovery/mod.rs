//! Recovery of the state of a process that died: its tunnels, its listeners, and the connections
//! that it had accepted.
//!
//! A process that dies leaves its descriptors open, in a table that it shared with its parent, and
//! its tunnels in a [store](crate::store). The next process begins with a [`Recovery`], from which
//! each of its parts takes its own state. Without a recovery, everything starts from scratch.

mod drain;
#[cfg(target_os = "linux")]
mod ended;
#[cfg(target_os = "linux")]
mod remains;
#[cfg(target_os = "linux")]
mod sockets;
#[cfg(target_os = "linux")]
mod tunnel;

#[cfg(all(target_os = "linux", feature = "client"))]
use std::os::fd::OwnedFd;

#[cfg(target_os = "linux")]
use eternaltcp_sys::Inherited;

#[cfg(target_os = "linux")]
use crate::store::{ListenerPurpose, StoreMemory};
pub(crate) use drain::{KeptDrain, keep_drain, keep_plain_drain};
#[cfg(target_os = "linux")]
pub(crate) use ended::{DAMAGED, EndedTunnel};
#[cfg(target_os = "linux")]
use remains::Remains;
#[cfg(target_os = "linux")]
pub(crate) use remains::{OwnedListener, RemainingListener};
#[cfg(target_os = "linux")]
pub(crate) use tunnel::{RecoveredTunnel, boot_time};

/// The records of a listener's sockets, which are cleared when this is dropped.
#[cfg(target_os = "linux")]
pub(crate) type KeptListeners = Vec<crate::store::KeptListener>;
#[cfg(not(target_os = "linux"))]
pub(crate) type KeptListeners = ();

/// The state that an earlier process has left, until each part of this process has taken its own.
/// [`Self::finish`] closes the rest. A process that cannot start drops this instead, which leaves the
/// rest open for the next process.
///
/// Without a holder it is empty.
#[derive(Debug, Default)]
pub struct Recovery {
    #[cfg(target_os = "linux")]
    remains: Option<Box<Remains>>,
}

/// Records that the calling thread panics, so that the next process knows which tunnel was the
/// reason. Call this in the panic hook of the program.
pub fn note_panic() {
    #[cfg(target_os = "linux")]
    crate::store::accuse();
}

impl Recovery {
    /// Returns the empty recovery of a process that has no predecessor and is not kept.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads the state that earlier processes have left, and keeps the state of this process in the
    /// same store from here on. `inherited` are the descriptors that they left open.
    /// `is_after_crash` says that the last process died through its own fault: by a panic, or by a
    /// signal other than SIGKILL. Tunnels that were being processed in several such deaths are
    /// ended.
    ///
    /// Call this once, when the process starts and has one thread. Descriptors that the store does
    /// not name are closed here, except for connections, which [`Self::finish`] closes.
    #[cfg(target_os = "linux")]
    #[must_use]
    pub fn begin(memory: StoreMemory, inherited: Inherited, is_after_crash: bool) -> Self {
        let remains = Remains::read(&memory, inherited, is_after_crash);
        crate::store::install(memory);
        Self { remains: Some(Box::new(remains)) }
    }

    /// Returns whether the earlier process was draining. Then this process also accepts nothing new,
    /// and a client does not listen.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain().is_some()
    }

    /// Returns the drain to continue, if there is one.
    pub(crate) fn drain(&self) -> Option<KeptDrain> {
        #[cfg(target_os = "linux")]
        return self.remains.as_ref()?.drain();
        #[cfg(not(target_os = "linux"))]
        None
    }

    /// Closes the rest. Call this when every part that may take something has been started, on a
    /// tokio runtime.
    #[cfg_attr(not(target_os = "linux"), expect(unused_mut, reason = "there is nothing in it"))]
    pub fn finish(mut self) {
        #[cfg(target_os = "linux")]
        if let Some(mut remains) = self.remains.take() {
            remains.tell_abandoned();
            remains.dismiss_refused();
        }
    }

    /// Returns the listener with this purpose and this address, as its user wrote it. A listener on
    /// the same address with another purpose is closed.
    #[cfg(target_os = "linux")]
    pub(crate) fn take_listener(
        &mut self,
        purpose: ListenerPurpose,
        text: &str,
    ) -> Option<RemainingListener> {
        self.remains.as_mut()?.take_listener(purpose, text)
    }

    /// Returns a listener with this purpose that is still there, and its address as its user wrote it.
    #[cfg(target_os = "linux")]
    pub(crate) fn take_any_listener(
        &mut self,
        purpose: ListenerPurpose,
    ) -> Option<(String, RemainingListener)> {
        self.remains.as_mut()?.take_any_listener(purpose)
    }

    /// Returns the listeners of sessions whose text `is_meant` accepts, or a client's ends of them.
    #[cfg(target_os = "linux")]
    pub(crate) fn take_owned(
        &mut self,
        purpose: ListenerPurpose,
        is_meant: impl Fn(&str) -> bool,
    ) -> Vec<OwnedListener> {
        let remains = self.remains.as_mut();
        remains.map(|remains| remains.take_owned(purpose, is_meant)).unwrap_or_default()
    }

    /// Returns the tunnel of the client whose note `is_meant` accepts.
    #[cfg(all(target_os = "linux", feature = "client"))]
    pub(crate) fn take_client(
        &mut self,
        is_meant: impl Fn(&[u8]) -> bool,
    ) -> Option<RecoveredTunnel> {
        self.remains.as_mut()?.take_client(is_meant)
    }

    /// Returns a connection without a record, by its cookie.
    #[cfg(all(target_os = "linux", feature = "client"))]
    pub(crate) fn take_connection(&mut self, cookie: u64) -> Option<OwnedFd> {
        self.remains.as_mut()?.take_unnamed(cookie)
    }

    /// Returns the tunnels of a server.
    #[cfg(all(target_os = "linux", feature = "server"))]
    pub(crate) fn take_servers(&mut self) -> Vec<RecoveredTunnel> {
        self.remains.as_mut().map(|remains| remains.take_servers()).unwrap_or_default()
    }

    /// Returns the tunnels that could not be continued.
    #[cfg(all(target_os = "linux", feature = "server"))]
    pub(crate) fn take_ended(&mut self) -> Vec<EndedTunnel> {
        self.remains.as_mut().map(|remains| remains.take_ended()).unwrap_or_default()
    }
}

#[cfg(target_os = "linux")]
impl Drop for Recovery {
    fn drop(&mut self) {
        // The descriptors belong to the parent process, too, which continues.
        std::mem::forget(self.remains.take());
    }
}
