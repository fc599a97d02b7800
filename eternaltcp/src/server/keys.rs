//! The authorized keys, read again when they change.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use eternaltcp_proto::{Refusal, RefusalCode};
use tracing::{info, warn};

use crate::policy::{Admission, AuthorizedKeys, Denial, FileError, judge, load_authorized_keys};
use crate::tls::PublicKey;

/// Where a server learns whose keys are let in.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// An `authorized_keys` file, which is read again when it changes.
    File(PathBuf),
    /// These keys and no others, for as long as the server runs.
    Fixed(AuthorizedKeys),
}

impl From<PathBuf> for KeySource {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

/// The keys of a file. While the file cannot be read, those that were read
/// last still judge the tunnels there are, and no new tunnel is admitted.
#[derive(Debug)]
pub(super) struct KeyStore {
    /// `None`: the keys are fixed.
    path: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Of the file that was read last. `None`: it is to be read again.
    stamp: Option<Stamp>,
    keys: Option<Arc<AuthorizedKeys>>,
    is_readable: bool,
    /// Whether it was said that the file cannot be read.
    is_told: bool,
}

/// What changes when a file changes, its owner or its mode: nobody can set
/// `changed` back, as `touch` and `cp -p` do with the time of modification.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    changed: (i64, i64),
    length: u64,
    inode: u64,
}

impl KeyStore {
    pub(super) fn new(source: KeySource) -> Self {
        match source {
            KeySource::File(path) => Self { path: Some(path), state: Mutex::default() },
            KeySource::Fixed(keys) => {
                let keys = Some(Arc::new(keys));
                let state = State { keys, is_readable: true, ..State::default() };
                Self { path: None, state: Mutex::new(state) }
            }
        }
    }

    /// Reads the file again if it changed, or could not be read before. An
    /// error is returned once, when the file stops being readable.
    pub(super) async fn refresh(&self) -> Result<(), FileError> {
        let Some(path) = self.path.clone() else { return Ok(()) };
        let shown = path.clone();
        let before = self.lock().stamp;
        let read = tokio::task::spawn_blocking(move || {
            let stamp = stamp_of(&path);
            (stamp.is_none() || stamp != before).then(|| (stamp, load_authorized_keys(&path)))
        });
        match read.await {
            Ok(Some((stamp, loaded))) => self.take(&shown, stamp, loaded),
            Ok(None) | Err(_) => Ok(()),
        }
    }

    fn take(
        &self,
        path: &Path,
        stamp: Option<Stamp>,
        loaded: Result<AuthorizedKeys, FileError>,
    ) -> Result<(), FileError> {
        let mut state = self.lock();
        state.is_readable = loaded.is_ok();
        match loaded {
            Ok(keys) => {
                let was_told = std::mem::take(&mut state.is_told);
                state.stamp = stamp.filter(Stamp::is_settled);
                if was_told || state.keys.as_deref() != Some(&keys) {
                    announce(path, &keys);
                    state.keys = Some(Arc::new(keys));
                }
                Ok(())
            }
            Err(error) => {
                // What keeps the file from being read may pass without a trace on it.
                state.stamp = None;
                if std::mem::replace(&mut state.is_told, true) { Ok(()) } else { Err(error) }
            }
        }
    }

    /// Whether the key may have a new tunnel from this address.
    pub(super) fn admit(&self, key: &PublicKey, from: IpAddr) -> Result<Admission, Refusal> {
        if !self.lock().is_readable {
            let advice = "the server cannot read its authorized keys: see its log";
            return Err(Refusal::for_now(RefusalCode::NotReady, advice));
        }
        self.judge(key, from).map_err(|denial| refusal(&denial))
    }

    /// What the keys that were read last say. Without any, nothing is denied
    /// that was admitted before.
    pub(super) fn judge(&self, key: &PublicKey, from: IpAddr) -> Result<Admission, Denial> {
        let keys = self.lock().keys.clone();
        let keys = keys.ok_or(Denial::KeyUnknown)?;
        judge(&keys, key, from, SystemTime::now())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn announce(path: &Path, keys: &AuthorizedKeys) {
    for warning in keys.warnings() {
        warn!("{}:{}: {}", path.display(), warning.line, warning.reason);
    }
    info!("{} keys in {}", keys.len(), path.display());
}

/// How a denial is told to the client.
pub(super) fn refusal(denial: &Denial) -> Refusal {
    let text = denial.to_string();
    match denial {
        Denial::KeyUnknown => Refusal::last(RefusalCode::KeyUnknown, text),
        Denial::KeyExpired { .. } => Refusal::last(RefusalCode::KeyExpired, text),
        Denial::AddressNotAllowed { .. } => Refusal::for_now(RefusalCode::Address, text),
        Denial::ForwardingForbidden { .. } | Denial::LineUnusable { .. } => {
            Refusal::last(RefusalCode::KeyRestricted, text)
        }
    }
}

impl Stamp {
    /// Whether a later change would show: file systems tell times apart by
    /// some milliseconds only, at worst by seconds.
    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        now.saturating_sub(self.changed.0) >= 2
    }
}

fn stamp_of(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).ok()?;
    Some(Stamp {
        changed: (metadata.ctime(), metadata.ctime_nsec()),
        length: metadata.len(),
        inode: metadata.ino(),
    })
}
