//! The authorized keys, read again when they change.

mod state;
mod watch;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use eternaltcp_proto::{Refusal, RefusalCode};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::policy::{Admission, AuthorizedKeys, Denial, StrictModes};
use eternaltcp_tls::PublicKey;
use state::KeyFileState;
pub(super) use state::KeyView;
use watch::{CheckRequests, tell, watch};

/// The source of a server's admitted keys.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum KeySource {
    /// An `authorized_keys` file, which is read again when it changes.
    File(PathBuf),
    /// Only these keys, for as long as the server runs.
    Fixed(AuthorizedKeys),
}

impl From<PathBuf> for KeySource {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

/// The time for which an attach waits for a check of the file; after that the file counts as
/// unreadable.
const PATIENCE: Duration = Duration::from_secs(2);

/// The keys of a file. Additions count at once, for new tunnels. Existing tunnels continue by the
/// previous contents until the file has settled, and while it cannot be read.
///
/// A separate thread checks the file, so that no other blocking call delays an attach. Concurrent
/// attaches share a check.
#[derive(Debug)]
pub(super) struct KeyStore {
    /// `None`: the keys are fixed.
    file: Option<File>,
    state: Arc<Mutex<KeyFileState>>,
}

/// The file, and the channel for requesting a check of it.
#[derive(Debug)]
struct File {
    path: PathBuf,
    modes: Option<StrictModes>,
    looks: CheckRequests,
}

impl KeyStore {
    /// # Errors
    /// The thread that checks the file cannot be started.
    pub(super) fn new(source: KeySource, modes: Option<StrictModes>) -> io::Result<Self> {
        match source {
            KeySource::File(path) => {
                let state = Arc::default();
                let looks = watch(path.clone(), modes.clone(), Arc::clone(&state))?;
                Ok(Self { file: Some(File { path, modes, looks }), state })
            }
            KeySource::Fixed(keys) => {
                Ok(Self { file: None, state: Arc::new(Mutex::new(KeyFileState::fixed(keys))) })
            }
        }
    }

    /// Returns whether the keys are those of this file, which is trusted under the same conditions.
    pub(super) fn is_of(&self, source: &KeySource, modes: Option<&StrictModes>) -> bool {
        match (&self.file, source) {
            (Some(file), KeySource::File(path)) => {
                file.path == *path && file.modes.as_ref() == modes
            }
            _ => false,
        }
    }

    /// Makes the thread read the file again if it changed, or could not be read before. The check
    /// starts after this call.
    pub(super) async fn refresh(&self) {
        let Some(File { path, looks, .. }) = &self.file else { return };
        let (done, looked) = oneshot::channel();
        let asked = looks.send(done).is_ok();
        if asked && timeout(PATIENCE, looked).await.is_ok_and(|looked| looked.is_ok()) {
            return;
        }
        let message =
            lock(&self.state).find_slow(format!("{}: reading it takes too long", path.display()));
        tell(message);
    }

    /// Makes the thread read the file again even if nothing shows that it changed.
    pub(super) async fn reload(&self) {
        lock(&self.state).stamp = None;
        self.refresh().await;
    }

    /// Returns the current knowledge of the file.
    pub(super) fn view(&self) -> KeyView {
        lock(&self.state).view()
    }

    /// Returns whether the key may have a new tunnel from this address.
    pub(super) fn admit(&self, key: &PublicKey, from: IpAddr) -> Result<Admission, Refusal> {
        let view = self.view();
        if !view.is_at_hand() {
            let advice =
                "the server cannot read its authorized keys: its log names the file and what to do";
            return Err(Refusal::for_now(RefusalCode::NotReady, advice));
        }
        view.judge_latest(key, from).map_err(|denial| {
            let is_changing = view.judge(key, from).is_ok();
            if is_changing { changing(&denial) } else { refusal(&denial) }
        })
    }

    /// Returns whether the key may keep a tunnel that it has.
    pub(super) fn readmit(&self, key: &PublicKey, from: IpAddr) -> Result<(), Refusal> {
        let view = self.view();
        let judged = view.judge(key, from);
        let explain =
            |denial| if view.is_final(&denial) { refusal(&denial) } else { changing(&denial) };
        judged.map(|_| ()).map_err(explain)
    }

    /// Returns the file's decision about a key that has a tunnel. Until the file has settled, a key
    /// that was admitted before is not denied.
    pub(super) fn judge(&self, key: &PublicKey, from: IpAddr) -> Result<Admission, Denial> {
        self.view().judge(key, from)
    }
}

fn lock(state: &Mutex<KeyFileState>) -> MutexGuard<'_, KeyFileState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the refusal for a denial that may not last.
fn changing(denial: &Denial) -> Refusal {
    let advice = format!("{denial}, and that file is changing or cannot be read now");
    Refusal::for_now(RefusalCode::NotReady, advice)
}

/// Returns the refusal for a denial.
fn refusal(denial: &Denial) -> Refusal {
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc;

    use super::*;
    use eternaltcp_tls::Identity;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn write(path: &Path, keys: &[&PublicKey]) {
        let lines: String = keys.iter().map(|key| format!("{key}\n")).collect();
        std::fs::write(path, lines).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_nobody_answers_for_is_one_that_cannot_be_read() {
        let (looks, _asked) = mpsc::channel();
        let key = Identity::generate().unwrap().public_key();
        let keys = AuthorizedKeys::parse(&key.to_string());
        let state = Arc::new(Mutex::new(KeyFileState::fixed(keys)));
        let path = PathBuf::from("/nowhere");
        let store = KeyStore { file: Some(File { path, modes: None, looks }), state };
        store.refresh().await;
        assert!(store.judge(&key, HERE).is_ok(), "tunnels go on");
        assert_eq!(store.admit(&key, HERE).unwrap_err().code, RefusalCode::NotReady);
        lock(&store.state).find_unchanged(Path::new("/nowhere"));
        assert!(store.admit(&key, HERE).is_ok());
    }

    #[tokio::test]
    async fn a_look_begins_after_it_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("authorized_keys");
        let [one, two] = [(); 2].map(|()| Identity::generate().unwrap().public_key());
        write(&path, &[&one]);
        let store = KeyStore::new(path.clone().into(), None).unwrap();
        for keys in [&[&one, &two][..], &[&two], &[&one]] {
            write(&path, keys);
            store.refresh().await;
            assert_eq!(store.admit(&one, HERE).is_ok(), keys.contains(&&one));
            assert_eq!(store.admit(&two, HERE).is_ok(), keys.contains(&&two));
        }
    }

    #[tokio::test]
    async fn a_key_that_has_just_gone_is_refused_for_now_and_keeps_its_tunnel() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("authorized_keys");
        let [one, two] = [(); 2].map(|()| Identity::generate().unwrap().public_key());
        write(&path, &[&one]);
        let store = KeyStore::new(path.clone().into(), None).unwrap();
        store.refresh().await;
        write(&path, &[]);
        store.refresh().await;
        let refused = |key| store.admit(key, HERE).unwrap_err();
        assert_eq!((refused(&one).code, refused(&one).is_final), (RefusalCode::NotReady, false));
        assert_eq!((refused(&two).code, refused(&two).is_final), (RefusalCode::KeyUnknown, true));
        assert!(store.readmit(&one, HERE).is_ok());
        // Its tunnel was created by a line that the file no longer contains.
        assert!(!store.readmit(&two, HERE).unwrap_err().is_final);
        assert!(!store.view().is_final(&Denial::KeyUnknown));
    }
}
