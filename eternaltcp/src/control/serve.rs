//! The control socket of a proxy.

use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::AsFd;
use std::path::Path;
#[cfg(target_os = "linux")]
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tokio::net::UnixListener;
use tokio::task::AbortHandle;

use super::connections::{ServedSocket, accept};
use super::hold::{SocketHold, SocketRestorer};
#[cfg(target_os = "linux")]
use super::hold::{given_in, rule_text};
use super::path::ControlPath;
use super::place::Claim;
use super::process_status::ForwardStatus;
use super::subject::Subject;
use crate::net::listener::bind_unix;
use crate::process::supervised;
use crate::recovery::Recovery;
#[cfg(target_os = "linux")]
use crate::recovery::RemainingListener;
#[cfg(target_os = "linux")]
use crate::store::ListenerPurpose;

/// A control socket that is served until it is dropped, which removes its file.
#[derive(Debug)]
pub struct ControlSocket {
    /// Its record in the store is cleared before the socket is closed.
    _hold: Arc<Mutex<SocketHold>>,
    path: ControlPath,
    served: Arc<ServedSocket>,
    task: AbortHandle,
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // A successor may replace the file once nothing listens.
        self.path.remove();
        self.task.abort();
    }
}

impl ControlSocket {
    /// Listens at `path`, with mode 0600, and serves on the current runtime. `listen` are the
    /// proxy's own addresses, for the status.
    ///
    /// # Errors
    /// The path is in use, too long (107 bytes), or in a folder that does not exist or does not
    /// belong to this user.
    ///
    /// # Panics
    /// There is no tokio runtime with I/O and time.
    pub fn serve(path: &Path, subject: Subject, listen: Vec<String>) -> io::Result<Self> {
        Self::serve_at(path, None, subject, listen)
    }

    /// Listens at a path that this process has claimed, and serves as [`Self::serve`] does.
    ///
    /// # Errors
    /// As [`Self::serve`].
    ///
    /// # Panics
    /// As [`Self::serve`].
    pub fn serve_claimed(claim: Claim, subject: Subject, listen: Vec<String>) -> io::Result<Self> {
        let path = claim.path().to_owned();
        Self::serve_at(&path, Some(claim), subject, listen)
    }

    fn serve_at(
        path: &Path,
        claim: Option<Claim>,
        subject: Subject,
        listen: Vec<String>,
    ) -> io::Result<Self> {
        let (listener, file) = bind_unix(path)?;
        // A claimed name is never another process's.
        let is_given = claim.is_none();
        let mut hold = SocketHold::new(is_given.then_some(path), claim);
        hold.keep(&listener, &file);
        let path = ControlPath::new(file, is_given);
        Ok(Self::accepting(path, listener, hold, subject, listen))
    }

    /// Serves the socket of an earlier process, if there is one: at `given`, or in a default
    /// folder. Its open connections have ended.
    ///
    /// # Errors
    /// The socket cannot be used any more.
    ///
    /// # Panics
    /// There is no tokio runtime with I/O and time.
    pub fn recover(
        recovery: &mut Recovery,
        given: Option<&Path>,
        subject: &Subject,
        listen: &[String],
    ) -> io::Result<Option<Self>> {
        #[cfg(target_os = "linux")]
        {
            let Some(found) = recovery.take_listener(ListenerPurpose::Control, &rule_text(given))
            else {
                return Ok(None);
            };
            Self::again(found, given, recovery.is_draining(), subject, listen)
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = (recovery, given, subject, listen);
            Ok(None)
        }
    }

    /// Serves the socket of an earlier process that [`Self::recover`] has left: its path has changed
    /// meanwhile, and its users do not know that yet.
    ///
    /// # Errors
    /// The socket cannot be used any more.
    ///
    /// # Panics
    /// There is no tokio runtime with I/O and time.
    pub fn recover_earlier(
        recovery: &mut Recovery,
        subject: &Subject,
        listen: &[String],
    ) -> io::Result<Option<Self>> {
        #[cfg(target_os = "linux")]
        {
            let Some((rule, found)) = recovery.take_any_listener(ListenerPurpose::Control) else {
                return Ok(None);
            };
            Self::again(found, given_in(&rule), recovery.is_draining(), subject, listen)
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = (recovery, subject, listen);
            Ok(None)
        }
    }

    /// Serves a socket that an earlier process has left.
    #[cfg(target_os = "linux")]
    fn again(
        found: RemainingListener,
        given: Option<&Path>,
        is_draining: bool,
        subject: &Subject,
        listen: &[String],
    ) -> io::Result<Option<Self>> {
        let RemainingListener { kept, sockets, file, .. } = found;
        let (Some(socket), Some(file)) = (sockets.into_iter().next(), file) else {
            return Ok(None);
        };
        let Some(path) = pathname(&socket) else { return Ok(None) };
        let listener = UnixListener::from_std(socket.into())?;
        let claim = if given.is_none() { Some(Claim::again(&path)?) } else { None };
        let mut hold = SocketHold::new(given, claim);
        hold.kept = kept;
        let path = ControlPath::recovered(&path, file, given == Some(&path));
        if is_draining {
            // The process before this one may have died before that.
            path.leave();
        }
        let (subject, listen) = (subject.clone(), listen.to_vec());
        Ok(Some(Self::accepting(path, listener, hold, subject, listen)))
    }

    fn accepting(
        path: ControlPath,
        listener: UnixListener,
        hold: SocketHold,
        subject: Subject,
        listen: Vec<String>,
    ) -> Self {
        let started_at = supervised().map_or_else(SystemTime::now, |process| process.started_at);
        let served = Arc::new(ServedSocket {
            subject,
            listen: Mutex::new(listen),
            forwards: Mutex::default(),
            started_at,
            path: path.clone(),
        });
        let hold = Arc::new(Mutex::new(hold));
        let restorer = SocketRestorer::new(path.clone(), Arc::clone(&hold));
        let task = tokio::spawn(accept(listener, Arc::clone(&served), restorer)).abort_handle();
        Self { _hold: hold, path, served, task }
    }

    /// Changes the addresses of the proxy that the status shows.
    pub fn set_listen(&self, listen: Vec<String>) {
        *self.served.listen.lock().unwrap_or_else(PoisonError::into_inner) = listen;
    }

    /// Changes the forwards of the proxy that the status shows.
    pub fn set_forwards(&self, forwards: Vec<ForwardStatus>) {
        *self.served.forwards.lock().unwrap_or_else(PoisonError::into_inner) = forwards;
    }

    /// Returns the path of the socket, which may change.
    #[must_use]
    pub fn path(&self) -> &ControlPath {
        &self.path
    }
}

/// Returns the path at which a socket listens.
#[cfg(target_os = "linux")]
fn pathname(socket: &impl AsFd) -> Option<PathBuf> {
    let address = socket2::SockRef::from(socket).local_addr().ok()?;
    address.as_pathname().map(Path::to_owned)
}
