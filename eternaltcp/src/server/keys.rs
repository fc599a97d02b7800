//! The authorized keys, read again when they change.

mod command;
mod source;
mod state;
mod view;
mod watch;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::policy::{Admission, AuthorizedKeys, Denial, GroupPermits, StrictModes};
use command::CommandKeys;
pub(super) use command::KeptAnswer;
pub use command::{KeyCommand, KeyCommandError};
use eternaltcp_proto::{Refusal, RefusalCode};
use eternaltcp_tls::PublicKey;
use source::SourceKeys;
use state::KeyFileState;
pub(super) use view::KeyView;

/// The maximum number of commands whose answers about a key are kept for a successor: their place is
/// in the note about a tunnel.
pub(super) const MAX_KEPT_ANSWERS: usize = 4;

/// The source of a server's admitted keys.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum KeySource {
    /// An `authorized_keys` file, which is read again when it changes.
    File(PathBuf),
    /// Only these keys, for as long as the server runs.
    Fixed(AuthorizedKeys),
    /// A command that prints the lines of a key that no file admits.
    Command(KeyCommand),
}

impl KeySource {
    /// Returns a source without keys.
    #[must_use]
    pub fn none() -> Self {
        Self::Fixed(AuthorizedKeys::default())
    }
}

/// A source of keys, and the group to which they belong.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct KeySet {
    /// The source.
    pub source: KeySource,
    /// The permits of the group, in addition to those of all keys; `None`: the keys belong to no
    /// group.
    pub group: Option<Arc<GroupPermits>>,
}

impl KeySet {
    /// Creates a set of keys without a group.
    #[must_use]
    pub fn new(source: impl Into<KeySource>) -> Self {
        Self { source: source.into(), group: None }
    }

    /// Returns the set as part of a group.
    #[must_use]
    pub fn of_group(self, group: Arc<GroupPermits>) -> Self {
        Self { group: Some(group), ..self }
    }
}

impl From<PathBuf> for KeySource {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

/// The keys of all sources, in their order.
#[derive(Debug)]
pub(super) struct KeyStore {
    sources: Vec<SourceKeys>,
    /// The sets from which the sources were made.
    sets: Vec<KeySet>,
    modes: Option<StrictModes>,
}

impl KeyStore {
    /// # Errors
    /// The thread that checks a file cannot be started.
    pub(super) fn new(sets: Vec<KeySet>, modes: Option<StrictModes>) -> io::Result<Self> {
        let sources = sets.iter().cloned().map(|set| SourceKeys::new(set, modes.clone()));
        Ok(Self { sources: sources.collect::<io::Result<_>>()?, sets, modes })
    }

    /// Returns whether the keys are those of these sources, trusted under the same conditions.
    pub(super) fn is_of(&self, sets: &[KeySet], modes: Option<&StrictModes>) -> bool {
        self.sets == sets && self.modes.as_ref() == modes
    }

    /// Makes the sources' threads read the files again that changed, or could not be read before. The
    /// checks start after this call.
    pub(super) async fn refresh(&self) {
        let checks: Vec<_> = self.sources.iter().map(SourceKeys::begin_refresh).collect();
        for check in checks {
            check.await;
        }
    }

    /// Refreshes the files as [`Self::refresh`] does, and then the knowledge about a key that attaches
    /// from this address, if it takes a command.
    pub(super) async fn refresh_for(&self, key: &PublicKey, from: IpAddr) {
        self.refresh().await;
        if self.view().needs_commands(key, from) {
            for command in self.commands() {
                command.ask(key, from).await;
            }
        }
    }

    /// Refreshes the knowledge about a key that has a tunnel, as [`Self::refresh_for`] does. If the
    /// earlier answer of a command admits it, the new one is not waited for: it ends the tunnel later,
    /// if it does not.
    pub(super) async fn refresh_again_for(&self, key: &PublicKey, from: IpAddr) {
        self.refresh().await;
        let view = self.view();
        if !view.needs_commands(key, from) {
            return;
        }
        let is_admitted = view.judge(key, from).is_ok();
        for command in self.commands() {
            if is_admitted {
                command.ask_without_waiting(key, from);
            } else {
                command.ask(key, from).await;
            }
        }
    }

    fn commands(&self) -> impl Iterator<Item = &CommandKeys> {
        self.sources.iter().filter_map(SourceKeys::command)
    }

    /// Returns the answers of commands about a key, for a successor.
    pub(super) fn kept_answers(&self, key: &PublicKey) -> Vec<KeptAnswer> {
        self.commands().take(MAX_KEPT_ANSWERS).filter_map(|command| command.kept(key)).collect()
    }

    /// Takes over the answers of commands about a key that an earlier process has got.
    #[cfg(target_os = "linux")]
    pub(super) fn remember(&self, key: &PublicKey, kept: &[KeptAnswer]) {
        self.commands().for_each(|command| command.remember(key, kept, false));
    }

    /// Takes over the answers of the same commands in earlier sources, about keys that have tunnels.
    /// The commands run again soon.
    pub(super) fn inherit(&self, earlier: &Self, used: impl Iterator<Item = PublicKey>) {
        if self.commands().next().is_none() {
            return;
        }
        for key in used {
            let kept = earlier.kept_answers(&key);
            self.commands().for_each(|command| command.remember(&key, &kept, true));
        }
    }

    /// Renews the knowledge of commands about keys that have tunnels, without waiting.
    pub(super) fn renew(&self, used: impl Iterator<Item = (PublicKey, IpAddr)>) {
        let mut commands = self.commands().peekable();
        if commands.peek().is_none() {
            return;
        }
        let view = self.view();
        let used = used.filter(|(key, from)| view.needs_commands(key, *from));
        let used: BTreeMap<_, _> = used.collect();
        commands.for_each(|command| command.renew(&used));
    }

    /// Makes the threads read the files again even if nothing shows that they changed.
    pub(super) async fn reload(&self) {
        self.sources.iter().for_each(SourceKeys::forget_stamp);
        self.refresh().await;
    }

    /// Returns whether a key may be admitted: a file has keys, or a command decides.
    pub(super) fn has_keys(&self) -> bool {
        self.sources.iter().any(SourceKeys::has_keys)
    }

    /// Returns the current knowledge of the sources.
    pub(super) fn view(&self) -> KeyView {
        KeyView::new(self.sources.iter().map(SourceKeys::view).collect())
    }

    /// Returns whether the key may have a new tunnel from this address.
    pub(super) fn admit(&self, key: &PublicKey, from: IpAddr) -> Result<Admission, Refusal> {
        let view = self.view();
        let judged = view.judge_at_hand(key, from);
        if judged.is_err() && !view.is_at_hand(key, from) {
            let advice =
                "the server cannot read its authorized keys: its log names the file and what to do";
            return Err(Refusal::for_now(RefusalCode::NotReady, advice));
        }
        judged.map_err(|denial| {
            let is_changing = view.judge(key, from).is_ok();
            if is_changing { changing(&denial) } else { refusal(&denial) }
        })
    }

    /// Returns whether the key may keep a tunnel that it has.
    pub(super) fn readmit(&self, key: &PublicKey, from: IpAddr) -> Result<(), Refusal> {
        let view = self.view();
        let judged = view.judge(key, from);
        let explain = |denial| {
            if view.is_final(&denial, key, from) { refusal(&denial) } else { changing(&denial) }
        };
        judged.map(|_| ()).map_err(explain)
    }

    /// Returns whether the key is that of a client, even if it is refused for its options.
    pub(super) fn knows(&self, key: &PublicKey, from: IpAddr) -> bool {
        !matches!(self.judge(key, from), Err(Denial::KeyUnknown))
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
        let source = SourceKeys::of_file(path, looks, Arc::clone(&state));
        let store = KeyStore { sources: vec![source], sets: Vec::new(), modes: None };
        store.refresh().await;
        assert!(store.judge(&key, HERE).is_ok(), "tunnels go on");
        assert_eq!(store.admit(&key, HERE).unwrap_err().code, RefusalCode::NotReady);
        lock(&state).find_unchanged(Path::new("/nowhere"));
        assert!(store.admit(&key, HERE).is_ok());
    }

    #[tokio::test]
    async fn a_look_begins_after_it_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("authorized_keys");
        let [one, two] = [(); 2].map(|()| Identity::generate().unwrap().public_key());
        write(&path, &[&one]);
        let store = KeyStore::new(vec![KeySet::new(path.clone())], None).unwrap();
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
        let store = KeyStore::new(vec![KeySet::new(path.clone())], None).unwrap();
        store.refresh().await;
        write(&path, &[]);
        store.refresh().await;
        let refused = |key| store.admit(key, HERE).unwrap_err();
        assert_eq!((refused(&one).code, refused(&one).is_final), (RefusalCode::NotReady, false));
        assert_eq!((refused(&two).code, refused(&two).is_final), (RefusalCode::KeyUnknown, true));
        assert!(store.readmit(&one, HERE).is_ok());
        // Its tunnel was created by a line that the file no longer contains.
        assert!(!store.readmit(&two, HERE).unwrap_err().is_final);
        assert!(!store.view().is_final(&Denial::KeyUnknown, &two, HERE));
    }
}
