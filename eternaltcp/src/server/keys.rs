//! The authorized keys, read again when they change.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, SystemTime};

use eternaltcp_proto::{Refusal, RefusalCode};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::policy::{
    Admission, AuthorizedKeys, Denial, FileError, StrictModes, judge, load_authorized_keys,
    missing_or_unreadable,
};
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

/// How long an attach waits for a look at the file; then it counts as one that
/// cannot be read.
const PATIENCE: Duration = Duration::from_secs(2);

/// The keys of a file. While the file cannot be read, those that were read
/// last still judge the tunnels there are, and no new tunnel is admitted.
///
/// The file is looked at by a thread of its own, so that nothing else that
/// blocks holds an attach up. Attaches that come at once share a look.
#[derive(Debug)]
pub(super) struct KeyStore {
    /// `None`: the keys are fixed.
    file: Option<File>,
    state: Arc<Mutex<State>>,
}

/// The file, and the way to ask for a look at it.
#[derive(Debug)]
struct File {
    path: PathBuf,
    looks: mpsc::Sender<oneshot::Sender<()>>,
}

#[derive(Debug, Default)]
struct State {
    /// Of the file that was read last. `None`: it is to be read again.
    stamp: Option<Stamp>,
    keys: Option<Arc<AuthorizedKeys>>,
    is_readable: bool,
    /// What was said last of why the file cannot be read.
    told: Option<String>,
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
    /// # Errors
    /// When the thread that looks at the file cannot be started.
    pub(super) fn new(source: KeySource, modes: Option<StrictModes>) -> io::Result<Self> {
        match source {
            KeySource::File(path) => {
                let state = Arc::default();
                let looks = watch(path.clone(), modes, Arc::clone(&state))?;
                Ok(Self { file: Some(File { path, looks }), state })
            }
            KeySource::Fixed(keys) => {
                let keys = Some(Arc::new(keys));
                let state = State { keys, is_readable: true, ..State::default() };
                Ok(Self { file: None, state: Arc::new(Mutex::new(state)) })
            }
        }
    }

    /// Has the file read again if it changed, or could not be read before. The
    /// look begins after this call.
    pub(super) async fn refresh(&self) {
        let Some(File { path, looks }) = &self.file else { return };
        let (done, looked) = oneshot::channel();
        let asked = looks.send(done).is_ok();
        if asked && timeout(PATIENCE, looked).await.is_ok_and(|looked| looked.is_ok()) {
            return;
        }
        let news = lock(&self.state)
            .find_unreadable(format!("{}: reading it takes too long", path.display()));
        tell(news);
    }

    /// Whether the key may have a new tunnel from this address.
    pub(super) fn admit(&self, key: &PublicKey, from: IpAddr) -> Result<Admission, Refusal> {
        if !lock(&self.state).is_readable {
            let advice =
                "the server cannot read its authorized keys: its log names the file and what to do";
            return Err(Refusal::for_now(RefusalCode::NotReady, advice));
        }
        self.judge(key, from).map_err(|denial| refusal(&denial))
    }

    /// What the keys that were read last say. Without any, nothing is denied
    /// that was admitted before.
    pub(super) fn judge(&self, key: &PublicKey, from: IpAddr) -> Result<Admission, Denial> {
        let keys = lock(&self.state).keys.clone();
        let keys = keys.ok_or(Denial::KeyUnknown)?;
        judge(&keys, key, from, SystemTime::now())
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the thread that looks at the file whenever it is asked to. It ends
/// when nobody can ask any more.
fn watch(
    path: PathBuf,
    modes: Option<StrictModes>,
    state: Arc<Mutex<State>>,
) -> io::Result<mpsc::Sender<oneshot::Sender<()>>> {
    let (looks, asked) = mpsc::channel::<oneshot::Sender<()>>();
    std::thread::Builder::new().name("keys".into()).spawn(move || {
        while let Ok(first) = asked.recv() {
            let waiting: Vec<_> = std::iter::once(first).chain(asked.try_iter()).collect();
            look(&path, modes.as_ref(), &state);
            for done in waiting {
                // Whoever asked may have given up.
                let _ = done.send(());
            }
        }
    })?;
    Ok(looks)
}

/// Reads the file if it changed, and takes over what it says. Who may write to
/// its folders shows in nothing of the file: that is looked at each time.
fn look(path: &Path, modes: Option<&StrictModes>, state: &Mutex<State>) {
    let before = lock(state).stamp;
    let found = stat(path, modes);
    if found.as_ref().is_ok_and(|stamp| before == Some(*stamp)) {
        lock(state).find_unchanged(path);
        return;
    }
    let loaded = found.and_then(|stamp| Ok((stamp, load_authorized_keys(path, modes)?)));
    match loaded {
        Ok((stamp, keys)) => lock(state).take(path, stamp, keys),
        Err(error) => {
            let news = lock(state).find_unreadable(error.to_string());
            tell(news);
        }
    }
}

/// Says why the file cannot be read, if that is news.
fn tell(news: Option<String>) {
    if let Some(why) = news {
        warn!("{why}; no new tunnel is admitted until then");
    }
}

impl State {
    /// The file is as it was read last. If it took too long to say so before, it
    /// counts as readable again.
    fn find_unchanged(&mut self, path: &Path) {
        self.is_readable = self.keys.is_some();
        if self.told.take().is_some() {
            info!("{}: it can be read again", path.display());
        }
    }

    /// Takes over what was read.
    fn take(&mut self, path: &Path, stamp: Stamp, keys: AuthorizedKeys) {
        self.is_readable = true;
        self.stamp = Some(stamp).filter(Stamp::is_settled);
        if self.told.take().is_some() || self.keys.as_deref() != Some(&keys) {
            announce(path, &keys);
            self.keys = Some(Arc::new(keys));
        }
    }

    /// Notes that the file cannot be read, or must not be believed. Returns why
    /// if that is to be told.
    fn find_unreadable(&mut self, why: String) -> Option<String> {
        // What keeps the file from being read may pass without a trace on it.
        (self.is_readable, self.stamp) = (false, None);
        let is_news = self.told.as_ref() != Some(&why);
        self.told = Some(why);
        self.told.clone().filter(|_| is_news)
    }
}

fn announce(path: &Path, keys: &AuthorizedKeys) {
    for warning in keys.warnings() {
        warn!("{}:{}: {}", path.display(), warning.line, warning.reason);
    }
    info!("keys in {}: {}", path.display(), keys.len());
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

/// Looks at the file, and judges who could change it, without reading it.
fn stat(path: &Path, modes: Option<&StrictModes>) -> Result<Stamp, FileError> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).map_err(|error| missing_or_unreadable(path, error))?;
    modes.map_or(Ok(()), |modes| modes.check(path, &metadata))?;
    Ok(Stamp {
        changed: (metadata.ctime(), metadata.ctime_nsec()),
        length: metadata.len(),
        inode: metadata.ino(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Identity;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn write(path: &Path, keys: &[&PublicKey]) {
        let lines: String = keys.iter().map(|key| format!("{key}\n")).collect();
        std::fs::write(path, lines).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(path, mode).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_nobody_answers_for_is_one_that_cannot_be_read() {
        let (looks, _asked) = mpsc::channel();
        let key = Identity::generate().unwrap().public_key();
        let keys = Arc::new(AuthorizedKeys::parse(&key.to_string()));
        let state = State { keys: Some(keys), is_readable: true, ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let path = PathBuf::from("/nowhere");
        let store = KeyStore { file: Some(File { path, looks }), state };
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
}
