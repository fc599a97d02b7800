//! The answers of a command about each key, and the time for which they count.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use super::KeyCommand;
use super::run::PATIENCE;
use crate::policy::{Admission, AuthorizedKeys, Denial, judge};
use crate::server::gate::source_of;
use eternaltcp_tls::PublicKey;

/// The time for which an answer counts at further attaches: a client repeats an attach that takes
/// long.
const FRESH: Duration = Duration::from_secs(5);

/// The time after which the command is run again for a key that has a tunnel. An answer about
/// another key is forgotten then.
const RENEWED: Duration = Duration::from_secs(60);

/// The maximum number of runs at a time, and of those for one source.
const MAX_RUNS: usize = 16;
const MAX_RUNS_OF_SOURCE: usize = 4;

/// The maximum number of answers. Of more, the oldest are forgotten.
const MAX_ANSWERS: usize = 8192;

/// The maximum size of an answer that is kept for a successor, with its command, in bytes.
const MAX_KEPT: usize = 2048;

/// The interval at which failures are logged.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// The answer of the command about a key.
#[derive(Clone, Debug)]
struct CommandAnswer {
    /// The lines of the last run that succeeded.
    keys: Option<Arc<AuthorizedKeys>>,
    /// The lines among them that have the key, as they were printed.
    about: Arc<str>,
    /// Whether the last run failed.
    is_failed: bool,
    at: Instant,
    /// Whether the next attach must run the command again.
    is_old: bool,
}

/// An answer that outlives its process, or the source that it came from: otherwise the command would
/// have to be asked for each key again, and nobody with such a key would be admitted before it works.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::server) struct KeptAnswer {
    /// The command, as [`KeyCommand::id`] describes it.
    pub(in crate::server) command: String,
    /// The lines about the key.
    pub(in crate::server) lines: String,
}

/// A run of the command.
#[derive(Debug)]
struct Run {
    source: IpAddr,
    /// A reload came meanwhile: its result is an old answer.
    is_old: bool,
    /// Ends with the run.
    end: watch::Receiver<()>,
}

impl CommandAnswer {
    /// Returns the answer of a command that has never succeeded.
    fn none() -> Self {
        Self { keys: None, about: "".into(), is_failed: true, at: Instant::now(), is_old: false }
    }
}

#[derive(Debug, Default)]
struct AnswersState {
    answers: Arc<BTreeMap<PublicKey, CommandAnswer>>,
    runs: BTreeMap<PublicKey, Run>,
    /// The last log line about a failure.
    told_at: Option<Instant>,
}

/// The keys that a command knows. Each is asked for when it is needed, and concurrent attaches of a
/// key share a run.
#[derive(Clone, Debug)]
pub(in crate::server::keys) struct CommandKeys {
    command: Arc<KeyCommand>,
    state: Arc<Mutex<AnswersState>>,
}

impl CommandKeys {
    pub(in crate::server::keys) fn new(command: KeyCommand) -> Self {
        Self { command: Arc::new(command), state: Arc::default() }
    }

    pub(in crate::server::keys) fn program(&self) -> &Path {
        self.command.program()
    }

    /// Returns the present answers.
    pub(in crate::server::keys) fn view(&self) -> AnswersView {
        AnswersView(Arc::clone(&self.lock().answers))
    }

    /// Runs the command for a key that attaches from an address, unless it was just run, and waits for
    /// its end. If too many runs are under way, the earlier answer stays.
    pub(in crate::server::keys) async fn ask(&self, key: &PublicKey, from: IpAddr) {
        if let Some(mut end) = self.begin(key, from, FRESH) {
            // The sender is dropped at the end.
            let _ = timeout(2 * PATIENCE, end.changed()).await;
        }
    }

    /// Runs the command for a key as [`Self::ask`] does, but does not wait.
    pub(in crate::server::keys) fn ask_without_waiting(&self, key: &PublicKey, from: IpAddr) {
        drop(self.begin(key, from, FRESH));
    }

    /// Returns the answer about a key for a successor, unless it is too long to be kept.
    pub(in crate::server::keys) fn kept(&self, key: &PublicKey) -> Option<KeptAnswer> {
        let lines = self.lock().answers.get(key)?.about.to_string();
        let command = self.command.id();
        let is_short = lines.len() + command.len() <= MAX_KEPT;
        (is_short && !lines.is_empty()).then_some(KeptAnswer { command, lines })
    }

    /// Takes over the answer of a predecessor, as if the command had just given it, or as an old one.
    /// An answer of this process stays.
    pub(in crate::server::keys) fn remember(
        &self,
        key: &PublicKey,
        kept: &[KeptAnswer],
        is_old: bool,
    ) {
        let id = self.command.id();
        let Some(kept) = kept.iter().find(|kept| kept.command == id) else { return };
        let mut state = self.lock();
        if state.answers.contains_key(key) {
            return;
        }
        let keys = Some(Arc::new(AuthorizedKeys::parse(&kept.lines)));
        let about = kept.lines.as_str().into();
        let answer = CommandAnswer { keys, about, is_failed: false, at: Instant::now(), is_old };
        Arc::make_mut(&mut state.answers).insert(key.clone(), answer);
    }

    /// Runs the command again for keys that have tunnels, if the answers are old, and forgets old
    /// answers about other keys. Does not wait.
    pub(in crate::server::keys) fn renew(&self, used: &BTreeMap<PublicKey, IpAddr>) {
        let is_over = |key: &PublicKey, answer: &CommandAnswer| {
            !used.contains_key(key) && answer.at.elapsed() >= RENEWED
        };
        let mut state = self.lock();
        if state.answers.iter().any(|(key, answer)| is_over(key, answer)) {
            Arc::make_mut(&mut state.answers).retain(|key, answer| !is_over(key, answer));
        }
        drop(state);
        for (key, from) in used {
            drop(self.begin(key, *from, RENEWED));
        }
    }

    /// Makes each answer old, so that the next look runs the command again.
    pub(in crate::server::keys) fn forget_ages(&self) {
        let mut state = self.lock();
        state.runs.values_mut().for_each(|run| run.is_old = true);
        Arc::make_mut(&mut state.answers).values_mut().for_each(|answer| answer.is_old = true);
    }

    /// Starts a run, if the answer is older than `age` and no limit forbids it. Returns a receiver
    /// that ends with the run that is under way.
    fn begin(&self, key: &PublicKey, from: IpAddr, age: Duration) -> Option<watch::Receiver<()>> {
        let source = source_of(from);
        let mut state = self.lock();
        let is_fresh = |answer: &CommandAnswer| !answer.is_old && answer.at.elapsed() < age;
        if state.answers.get(key).is_some_and(is_fresh) {
            return None;
        }
        if let Some(run) = state.runs.get(key) {
            return Some(run.end.clone());
        }
        let of_source = state.runs.values().filter(|run| run.source == source).count();
        if state.runs.len() >= MAX_RUNS || of_source >= MAX_RUNS_OF_SOURCE {
            debug!("{}: too many runs at once", self.command.program().display());
            return None;
        }
        let (running, end) = watch::channel(());
        state.runs.insert(key.clone(), Run { source, is_old: false, end: end.clone() });
        drop(state);
        let (this, key) = (self.clone(), key.clone());
        tokio::spawn(async move {
            let found = this.command.run(&key).await;
            this.note(key, found);
            drop(running);
        });
        Some(end)
    }

    /// Takes over the result of a run.
    fn note(&self, key: PublicKey, found: Result<String, String>) {
        let (now, program) = (Instant::now(), self.command.program().display());
        let mut state = self.lock();
        let is_old = state.runs.remove(&key).is_some_and(|run| run.is_old);
        let answer = match found {
            Ok(text) => {
                if state.told_at.take().is_some() {
                    info!("{program}: it works again");
                }
                CommandAnswer {
                    keys: Some(Arc::new(AuthorizedKeys::parse(&text))),
                    about: AuthorizedKeys::lines_about(&text, &key).into(),
                    is_failed: false,
                    at: now,
                    is_old,
                }
            }
            Err(why) => {
                if state.told_at.is_none_or(|at| now.duration_since(at) >= TOLD_EVERY) {
                    state.told_at = Some(now);
                    warn!("{program}: {why}; no new tunnel is admitted by it until then");
                }
                let before = state.answers.get(&key).cloned().unwrap_or_else(CommandAnswer::none);
                CommandAnswer { is_failed: true, at: now, is_old, ..before }
            }
        };
        let answers = Arc::make_mut(&mut state.answers);
        answers.insert(key, answer);
        if answers.len() > MAX_ANSWERS {
            let oldest = answers.iter().min_by_key(|(_, answer)| answer.at);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                answers.remove(&key);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, AnswersState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answers of a command at one time.
#[derive(Clone, Debug)]
pub(in crate::server::keys) struct AnswersView(Arc<BTreeMap<PublicKey, CommandAnswer>>);

impl AnswersView {
    /// Decides by the last answer about a key.
    pub(in crate::server::keys) fn judge(
        &self,
        key: &PublicKey,
        from: IpAddr,
    ) -> Result<Admission, Denial> {
        let keys = self.0.get(key).and_then(|answer| answer.keys.as_ref());
        judge(keys.ok_or(Denial::KeyUnknown)?, key, from, SystemTime::now())
    }

    /// Returns whether the last run for a key succeeded.
    pub(in crate::server::keys) fn is_known(&self, key: &PublicKey) -> bool {
        self.0.get(key).is_some_and(|answer| !answer.is_failed)
    }
}
