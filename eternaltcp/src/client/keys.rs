//! The keys that a user may prove, and the one that is tried now.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use eternaltcp_tls::{ClientTls, Identity, PublicKey};

/// The maximum number of keys that are tried: as many as sshd allows (`MaxAuthTries`).
pub const MAX_KEYS: usize = 6;

/// Loads a key's private half when it is first needed. May block, and ask the user. An error is one
/// line that says why the key cannot be used, and what to do.
pub type LoadKey = Arc<dyn Fn() -> Result<Identity, String> + Send + Sync>;

/// A key that a user may prove.
#[derive(Clone)]
pub struct UserKey {
    name: String,
    public: PublicKey,
    load: LoadKey,
}

impl UserKey {
    /// Creates a key that is loaded when it is tried; `name` identifies it to its user.
    #[must_use]
    pub fn new(name: impl Into<String>, public: PublicKey, load: LoadKey) -> Self {
        Self { name: name.into(), public, load }
    }

    /// Returns its public half.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }
}

/// Formats `SHA256:… (NAME)`.
impl fmt::Display for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fingerprint = self.public.fingerprint();
        if self.name.is_empty() {
            return f.write_str(&fingerprint);
        }
        write!(f, "{fingerprint} ({})", self.name)
    }
}

impl fmt::Debug for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserKey({self})")
    }
}

/// The keys that a client may prove, in the order in which they are tried: one to [`MAX_KEYS`]. The
/// server refuses the ones that it does not know.
#[derive(Clone, Debug)]
pub struct UserKeys {
    first: UserKey,
    others: Vec<UserKey>,
}

impl UserKeys {
    /// Returns the first keys of a list; `None` for an empty list.
    #[must_use]
    pub fn from_list(keys: Vec<UserKey>) -> Option<Self> {
        let mut keys = keys.into_iter().take(MAX_KEYS);
        keys.next().map(|first| Self { first, others: keys.collect() })
    }

    /// Returns the public half of the key that is tried first.
    #[must_use]
    pub fn first(&self) -> &PublicKey {
        &self.first.public
    }

    fn at(&self, index: usize) -> &UserKey {
        let others = index.checked_sub(1).and_then(|index| self.others.get(index));
        others.unwrap_or(&self.first)
    }

    fn len(&self) -> usize {
        1 + self.others.len()
    }
}

impl From<Identity> for UserKeys {
    fn from(identity: Identity) -> Self {
        let (public, load) = (identity.public_key(), Arc::new(move || Ok(identity.clone())));
        Self { first: UserKey::new("", public, load), others: Vec::new() }
    }
}

/// The keys of a running client.
#[derive(Debug)]
pub(super) struct KeyRing {
    keys: UserKeys,
    state: Mutex<KeyRingState>,
    /// Locked while a key is loaded, so that nobody is asked twice.
    loading: Mutex<()>,
}

#[derive(Default, Debug)]
struct KeyRingState {
    index: usize,
    loaded: Option<Loaded>,
    /// The reason why the key cannot be used: nobody is asked again in the same dial.
    failed: Option<String>,
    /// The results of earlier keys: those that the server rejected, and the reasons why others
    /// could not be used.
    refused: Vec<UserKey>,
    unusable: Vec<String>,
    /// The key with which the server has admitted the tunnel.
    admitted: Option<UserKey>,
}

/// The means of proof of the key.
#[derive(Clone, Debug)]
pub(super) enum Loaded {
    /// Immediately.
    Here(ClientTls),
    /// The key is proved by an agent, which may take time.
    Agent(Identity),
}

impl KeyRing {
    pub(super) fn new(keys: UserKeys) -> Self {
        Self { keys, state: Mutex::default(), loading: Mutex::default() }
    }

    /// Returns the key that is tried now, if it is loaded and usable.
    pub(super) fn loaded(&self) -> Option<Loaded> {
        let state = self.lock();
        state.loaded.clone().filter(|_| state.failed.is_none())
    }

    /// Loads the key that is tried now. Blocks, even while another thread loads it.
    pub(super) fn load(&self) -> Result<Loaded, String> {
        let _alone = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = self.loaded() {
            return Ok(loaded);
        }
        let (index, failed) = {
            let state = self.lock();
            (state.index, state.failed.clone())
        };
        failed.map_or(Ok(()), Err)?;
        let identity = (self.keys.at(index).load)().map_err(|why| self.note_failed(why))?;
        let loaded = if identity.is_in_agent() {
            Loaded::Agent(identity)
        } else {
            Loaded::Here(ClientTls::new(&identity).map_err(|error| error.to_string())?)
        };
        let mut state = self.lock();
        if state.index == index {
            state.loaded = Some(loaded.clone());
        }
        Ok(loaded)
    }

    /// Starts a new dial: a key that was unusable before may be usable now.
    pub(super) fn begin(&self) {
        self.lock().failed = None;
    }

    /// Resets the state of all keys: they are tried again, from the first.
    pub(super) fn reset(&self) {
        let mut state = self.lock();
        let admitted = state.admitted.take();
        *state = KeyRingState { admitted, ..KeyRingState::default() };
    }

    /// Records that the current key is unusable. Returns the reason: that of the first failure in a
    /// dial, because later ones only follow from it.
    pub(super) fn note_failed(&self, why: String) -> String {
        self.lock().failed.get_or_insert(why).clone()
    }

    /// Returns whether this key is tried now, and did not fail in the current dial.
    pub(super) fn is_tried(&self, key: &PublicKey) -> bool {
        let state = self.lock();
        state.failed.is_none() && self.keys.at(state.index).public == *key
    }

    /// Handles the server's rejection of the current key. Returns whether there is another key to
    /// try.
    pub(super) fn handle_refused(&self) -> bool {
        self.note_refused();
        self.advance(&mut self.lock())
    }

    /// Records the server's rejection of the current key, when no other one will be tried.
    pub(super) fn note_refused(&self) {
        let mut state = self.lock();
        let refused = self.keys.at(state.index).clone();
        if !state.refused.iter().any(|known| known.public == refused.public) {
            state.refused.push(refused);
        }
    }

    /// Tries all keys again from the first: the rejected key, or another one, may be admitted now.
    pub(super) fn start_over(&self) {
        let mut state = self.lock();
        if state.index > 0 {
            (state.index, state.loaded, state.failed) = (0, None, None);
        }
        (state.refused, state.unusable) = (Vec::new(), Vec::new());
    }

    /// Handles a key that cannot be used. Returns whether there is another key to try.
    pub(super) fn handle_unusable(&self, why: String) -> bool {
        let mut state = self.lock();
        state.unusable.push(why);
        self.advance(&mut state)
    }

    /// Handles an attach: the results of other keys are discarded. For a new tunnel, the current
    /// key was admitted.
    pub(super) fn handle_attached(&self, is_new: bool) {
        let mut state = self.lock();
        (state.refused, state.unusable) = (Vec::new(), Vec::new());
        if is_new {
            state.admitted = Some(self.keys.at(state.index).clone());
        }
    }

    /// Describes the key with which the server has admitted the tunnel.
    pub(super) fn admitted(&self) -> Option<String> {
        self.lock().admitted.as_ref().map(ToString::to_string)
    }

    fn advance(&self, state: &mut KeyRingState) -> bool {
        let is_another = state.index + 1 < self.keys.len();
        if is_another {
            (state.index, state.loaded, state.failed) = (state.index + 1, None, None);
        }
        is_another
    }

    /// Returns the key that is tried now.
    pub(super) fn current(&self) -> UserKey {
        self.keys.at(self.lock().index).clone()
    }

    /// Explains why no key was admitted, as far as keys were tried.
    pub(super) fn explain(&self, server: &str) -> String {
        let state = self.lock();
        let unusable = match &state.unusable[..] {
            [] => String::new(),
            reasons => format!("{}; ", reasons.join("; ")),
        };
        match &state.refused[..] {
            [] => unusable.trim_end_matches("; ").to_owned(),
            [key] => format!(
                "{unusable}{server} does not know the key {key}; to admit it, add this line there to the \
                 file of --authorized-keys, or else, for the user who runs sproxy, to ~/.ssh/authorized_keys: {}",
                key.public
            ),
            [first, ..] => {
                let all: Vec<_> = state.refused.iter().map(ToString::to_string).collect();
                format!(
                    "{unusable}{server} knows none of the keys {}; to admit the first, add this line \
                     there to the file of --authorized-keys, or else, for the user who runs sproxy, to \
                     ~/.ssh/authorized_keys: {}",
                    all.join(", "),
                    first.public
                )
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, KeyRingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn key(name: &str, loads: &Arc<AtomicUsize>) -> UserKey {
        let identity = Identity::generate().unwrap();
        let (public, loads) = (identity.public_key(), Arc::clone(loads));
        let load = move || {
            loads.fetch_add(1, Ordering::Relaxed);
            Ok(identity.clone())
        };
        UserKey::new(name, public, Arc::new(load))
    }

    #[test]
    fn each_key_is_loaded_once_when_its_turn_comes_and_six_at_most_are_tried() {
        let loads = Arc::default();
        let keys: Vec<_> = (0..9).map(|number| key(&number.to_string(), &loads)).collect();
        let ring = KeyRing::new(UserKeys::from_list(keys.clone()).unwrap());
        assert_eq!(loads.load(Ordering::Relaxed), 0);
        for expected in 1..=MAX_KEYS {
            ring.load().unwrap();
            ring.load().unwrap();
            assert_eq!(loads.load(Ordering::Relaxed), expected);
            assert_eq!(ring.handle_refused(), expected < MAX_KEYS);
        }
        let text = ring.explain("server");
        assert!(text.ends_with(&keys[0].public.to_string()), "{text}");
        assert!(keys[..6].iter().all(|key| text.contains(&key.to_string())), "{text}");
        assert!(!text.contains(&keys[6].to_string()));
    }

    #[test]
    fn a_key_that_failed_is_not_tried_again_in_the_same_dial() {
        let keys = [key("first", &Arc::default()), key("second", &Arc::default())];
        let ring = KeyRing::new(UserKeys::from_list(keys.to_vec()).unwrap());
        let is_tried = |index: usize| ring.is_tried(&keys[index].public);
        assert_eq!([is_tried(0), is_tried(1)], [true, false]);
        assert_eq!(ring.note_failed("declined".to_owned()), "declined");
        assert_eq!(ring.note_failed("not needed any more".to_owned()), "declined");
        assert_eq!([is_tried(0), is_tried(1)], [false, false]);
        ring.begin();
        assert!(is_tried(0), "the next dial asks again");
        ring.note_failed("declined".to_owned());
        assert!(ring.handle_unusable("declined".to_owned()));
        assert_eq!([is_tried(0), is_tried(1)], [false, true]);
    }

    #[test]
    fn a_key_that_cannot_be_loaded_is_reported_with_those_that_were_refused() {
        let loads = Arc::default();
        let bad = Identity::generate().unwrap().public_key();
        let bad = UserKey::new("bad", bad, Arc::new(|| Err("no passphrase".to_owned())));
        let good = key("good", &loads);
        let ring = KeyRing::new(UserKeys::from_list(vec![bad, good.clone()]).unwrap());
        let why = ring.load().unwrap_err();
        assert!(ring.handle_unusable(why));
        assert_eq!(ring.explain("server"), "no passphrase");
        assert!(ring.load().is_ok() && !ring.handle_refused());
        let text = ring.explain("server");
        let start = format!("no passphrase; server does not know the key {good}; to admit it");
        assert!(text.starts_with(&start), "{text}");
        ring.start_over();
        assert_eq!(ring.current().to_string(), ring.keys.at(0).to_string());
        assert_eq!(ring.explain("server"), "", "what became of them is forgotten");
    }
}
