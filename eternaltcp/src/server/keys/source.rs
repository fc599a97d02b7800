//! One source of admitted keys.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::command::CommandKeys;
use super::state::KeyFileState;
use super::view::{KnownKeys, ViewedSource};
use super::watch::{CheckRequests, tell, watch};
use super::{KeySet, KeySource, lock};
use crate::policy::{GroupPermits, StrictModes};

/// The time for which an attach waits for a check of the file; after that the file counts as
/// unreadable.
const PATIENCE: Duration = Duration::from_secs(2);

/// The keys of one source, and the group that they belong to. Additions count at once, for new
/// tunnels. Existing tunnels continue by the previous contents until the file has settled, and while
/// it cannot be read.
///
/// A separate thread checks the file, so that no other blocking call delays an attach. Concurrent
/// attaches share a check.
#[derive(Debug)]
pub(super) struct SourceKeys {
    kind: SourceKind,
    state: Arc<Mutex<KeyFileState>>,
    group: Option<Arc<GroupPermits>>,
}

#[derive(Debug)]
enum SourceKind {
    Fixed,
    File(File),
    Command(CommandKeys),
}

/// The file, and the channel for requesting a check of it.
#[derive(Debug)]
struct File {
    path: PathBuf,
    looks: CheckRequests,
}

impl SourceKeys {
    /// # Errors
    /// The thread that checks the file cannot be started.
    pub(super) fn new(set: KeySet, modes: Option<StrictModes>) -> io::Result<Self> {
        let KeySet { source, group } = set;
        match source {
            KeySource::File(path) => {
                let state = Arc::default();
                let looks = watch(path.clone(), modes, Arc::clone(&state))?;
                Ok(Self { kind: SourceKind::File(File { path, looks }), state, group })
            }
            KeySource::Fixed(keys) => {
                let state = Arc::new(Mutex::new(KeyFileState::fixed(keys)));
                Ok(Self { kind: SourceKind::Fixed, state, group })
            }
            KeySource::Command(command) => {
                let kind = SourceKind::Command(CommandKeys::new(command));
                Ok(Self { kind, state: Arc::default(), group })
            }
        }
    }

    /// Asks the thread to read the file again if it changed, or could not be read before, and returns
    /// a future that waits for that.
    pub(super) fn begin_refresh(&self) -> impl Future<Output = ()> {
        let (done, looked) = oneshot::channel();
        let is_asked = self.file().is_none_or(|file| file.looks.send(done).is_ok());
        let deadline = Instant::now() + PATIENCE;
        async move {
            let Some(File { path, .. }) = self.file() else { return };
            if is_asked && timeout_at(deadline, looked).await.is_ok_and(|looked| looked.is_ok()) {
                return;
            }
            let why = format!("{}: reading it takes too long", path.display());
            tell(lock(&self.state).find_slow(why));
        }
    }

    /// Makes the next check read the file even if nothing shows that it changed.
    pub(super) fn forget_stamp(&self) {
        lock(&self.state).stamp = None;
        self.command().map(CommandKeys::forget_ages);
    }

    fn file(&self) -> Option<&File> {
        match &self.kind {
            SourceKind::File(file) => Some(file),
            _ => None,
        }
    }

    /// Returns the command, if the source is one.
    pub(super) fn command(&self) -> Option<&CommandKeys> {
        match &self.kind {
            SourceKind::Command(command) => Some(command),
            _ => None,
        }
    }

    /// Returns whether a key may be admitted by it.
    pub(super) fn has_keys(&self) -> bool {
        self.command().is_some() || lock(&self.state).view().has_keys()
    }

    /// Returns the current knowledge of the source, and its group.
    pub(super) fn view(&self) -> ViewedSource {
        let known = match &self.kind {
            SourceKind::Command(command) => KnownKeys::OfCommand(command.view()),
            _ => KnownKeys::OfFile(lock(&self.state).view()),
        };
        let path = match &self.kind {
            SourceKind::Fixed => None,
            SourceKind::File(file) => Some(file.path.clone()),
            SourceKind::Command(command) => Some(command.program().to_owned()),
        };
        ViewedSource { known, group: self.group.clone(), path }
    }
}

#[cfg(test)]
impl SourceKeys {
    /// Returns keys of a file that another thread answers for.
    pub(super) fn of_file(
        path: PathBuf,
        looks: CheckRequests,
        state: Arc<Mutex<KeyFileState>>,
    ) -> Self {
        Self { kind: SourceKind::File(File { path, looks }), state, group: None }
    }
}
