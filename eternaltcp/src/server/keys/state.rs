//! The knowledge about a file of keys, and when a change of it counts.
//!
//! A program that writes a file in place first makes it shorter, possibly empty. Therefore a
//! missing key counts as removed only when checks of a settled file agree; an added key counts at
//! once.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tracing::{info, warn};

use crate::policy::{Admission, AuthorizedKeys, Denial, judge};
use eternaltcp_tls::PublicKey;

/// A changed file settles when checks agree for this long, and nobody has it open for writing.
const SETTLES: Duration = Duration::from_secs(3);
/// The same for a file without keys, and if the system does not report writers.
const SETTLES_IF_DOUBTFUL: Duration = Duration::from_secs(10);
/// Time after which a file that did not settle is logged.
const TOLD_AFTER: Duration = Duration::from_secs(15);

/// The properties that change with the file, its owner or its mode. Nobody can set `changed` back,
/// as `touch` and `cp -p` do with the time of modification.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    pub(super) changed: (i64, i64),
    pub(super) length: u64,
    pub(super) inode: u64,
}

impl Stamp {
    /// Returns whether a later change would show: file systems distinguish times only by some
    /// milliseconds, at worst by seconds.
    fn is_distinct(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        now.saturating_sub(self.changed.0) >= 2
    }
}

/// The result of a check of the file.
#[derive(Debug)]
pub(super) struct FileCheck {
    pub(super) stamp: Stamp,
    pub(super) keys: AuthorizedKeys,
    /// Whether a process has the file open for writing, if known.
    pub(super) has_writer: Option<bool>,
}

/// Keys that differ from those in force, in a file that may still change.
#[derive(Debug)]
struct PendingKeys {
    stamp: Stamp,
    keys: Arc<AuthorizedKeys>,
    /// The time since which checks agree; `None` while a process writes.
    since: Option<Instant>,
}

/// The keys of a file, or fixed ones.
#[derive(Debug, Default)]
pub(super) struct KeyFileState {
    /// The keys in force; `None`: the file was never read.
    stable: Option<Arc<AuthorizedKeys>>,
    draft: Option<PendingKeys>,
    /// The time since which the file is changing, until that is logged.
    changing: Option<Instant>,
    /// The stamp of the file that was last read. `None`: it must be read again.
    pub(super) stamp: Option<Stamp>,
    /// Whether the last check could read the file, and trusts it.
    is_readable: bool,
    /// A check takes longer than its requesters wait.
    is_slow: bool,
    /// The last logged reason why the file cannot be read.
    reported: Option<String>,
}

impl KeyFileState {
    /// Creates the state for keys without a file.
    pub(super) fn fixed(keys: AuthorizedKeys) -> Self {
        let stable = Some(Arc::new(keys));
        Self { stable, is_readable: true, ..Self::default() }
    }

    /// Returns the current basis for decisions.
    pub(super) fn view(&self) -> SourceView {
        let draft = self.draft.as_ref().map(|draft| Arc::clone(&draft.keys));
        let (latest, before) = match (draft, self.stable.clone()) {
            (Some(draft), stable) => (Some(draft), stable),
            (None, stable) => (stable, None),
        };
        SourceView { latest, before, is_readable: self.is_readable, is_slow: self.is_slow }
    }

    /// Returns whether a file with this stamp must be read.
    pub(super) fn needs(&self, stamp: Stamp) -> bool {
        self.draft.is_some() || self.stamp != Some(stamp)
    }

    /// Records that the file is unchanged. If the check took too long before, the file counts as
    /// readable again.
    pub(super) fn find_unchanged(&mut self, path: &Path) {
        (self.is_readable, self.is_slow) = (self.stable.is_some(), false);
        if self.reported.take().is_some() {
            info!("{}: it can be read again", path.display());
        }
    }

    /// Takes over the contents of the file.
    pub(super) fn find(&mut self, path: &Path, found: FileCheck) {
        let now = Instant::now();
        (self.is_readable, self.is_slow) = (true, false);
        self.stamp = Some(found.stamp).filter(Stamp::is_distinct);
        if self.reported.take().is_some() {
            info!("{}: it can be read again", path.display());
        }
        if self.stable.as_deref() == Some(&found.keys) {
            (self.draft, self.changing) = (None, None);
            return;
        }
        let agreed = self
            .draft
            .take()
            .filter(|draft| draft.stamp == found.stamp && *draft.keys == found.keys)
            .and_then(|draft| draft.since);
        let is_written = found.has_writer == Some(true);
        let since = if is_written { None } else { agreed.or(Some(now)) };
        let keys = Arc::new(found.keys);
        if since == Some(now) {
            warn_of(path, &keys);
        }
        let is_doubtful = found.has_writer.is_none() || keys.is_empty();
        let settles = if is_doubtful { SETTLES_IF_DOUBTFUL } else { SETTLES };
        let has_settled = since.is_some_and(|since| now.duration_since(since) >= settles);
        if has_settled || self.stable.is_none() {
            info!("keys in {}: {}", path.display(), keys.len());
            (self.stable, self.changing) = (Some(keys), None);
        } else {
            self.draft = Some(PendingKeys { stamp: found.stamp, keys, since });
            self.tell_changing(path, now);
        }
    }

    fn tell_changing(&mut self, path: &Path, now: Instant) {
        let since = *self.changing.get_or_insert(now);
        if now.duration_since(since) >= TOLD_AFTER {
            // The line is repeated from time to time while the file keeps changing.
            self.changing = Some(now + 3 * TOLD_AFTER);
            let path = path.display();
            warn!("{path}: it is being written: tunnels continue with its previous content");
        }
    }

    /// Records that the file cannot be read, or must not be trusted. Returns the reason if it
    /// should be logged.
    pub(super) fn find_unreadable(&mut self, why: String) -> Option<String> {
        // The cause that prevents reading may disappear without a change of the file.
        (self.is_readable, self.is_slow, self.stamp) = (false, false, None);
        if let Some(draft) = &mut self.draft {
            // Earlier contents do not count as a check with which the next one could agree.
            draft.since = None;
        }
        self.note(why)
    }

    /// Records that a check does not end in time; earlier results stay. Returns the reason if it
    /// should be logged.
    pub(super) fn find_slow(&mut self, why: String) -> Option<String> {
        self.is_slow = true;
        self.note(why)
    }

    fn note(&mut self, why: String) -> Option<String> {
        let is_new = self.reported.as_ref() != Some(&why);
        self.reported = Some(why);
        self.reported.clone().filter(|_| is_new)
    }
}

/// Logs the lines that admit nobody.
fn warn_of(path: &Path, keys: &AuthorizedKeys) {
    for warning in keys.warnings() {
        warn!("{}:{}: {}", path.display(), warning.line, warning.reason);
    }
}

/// The basis for decisions about the keys of one source.
#[derive(Debug)]
pub(super) struct SourceView {
    latest: Option<Arc<AuthorizedKeys>>,
    /// The contents before the file began to change; `None` when it has settled.
    before: Option<Arc<AuthorizedKeys>>,
    is_readable: bool,
    is_slow: bool,
}

impl SourceView {
    /// Decides by the latest contents. Before the first contents, no key is known.
    pub(super) fn judge_latest(&self, key: &PublicKey, from: IpAddr) -> Result<Admission, Denial> {
        let keys = self.latest.as_ref().ok_or(Denial::KeyUnknown)?;
        judge(keys, key, from, SystemTime::now())
    }

    /// Decides by the latest contents, but continues to admit a key that is no longer listed until
    /// the file settles.
    pub(super) fn judge(&self, key: &PublicKey, from: IpAddr) -> Result<Admission, Denial> {
        self.judge_latest(key, from).or_else(|denial| {
            let before = self.before.as_ref().ok_or_else(|| denial.clone())?;
            judge(before, key, from, SystemTime::now()).map_err(|_| denial)
        })
    }

    /// Returns whether there are keys.
    pub(super) fn has_keys(&self) -> bool {
        [&self.latest, &self.before].into_iter().flatten().any(|keys| !keys.is_empty())
    }

    /// Returns whether the last check could read the file, and trusts it.
    pub(super) fn is_readable(&self) -> bool {
        self.is_readable
    }

    /// Returns whether it can be read in the time that an attach has.
    pub(super) fn is_at_hand(&self) -> bool {
        self.is_readable && !self.is_slow
    }

    /// Returns whether the file can be read, and has settled.
    pub(super) fn is_settled(&self) -> bool {
        self.is_readable && self.before.is_none()
    }

    /// Returns whether the key stays denied unless the file changes. An expired key stays expired,
    /// whatever the file contains.
    pub(super) fn is_final(&self, denial: &Denial) -> bool {
        self.is_settled() || matches!(denial, Denial::KeyExpired { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eternaltcp_tls::Identity;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const FREE: Option<bool> = Some(false);

    /// A file with one key that was read, and its checks.
    struct CheckedFile {
        state: KeyFileState,
        key: PublicKey,
        number: u64,
    }

    impl CheckedFile {
        fn new() -> Self {
            let key = Identity::generate().unwrap().public_key();
            let mut looks = Self { state: KeyFileState::default(), key, number: 0 };
            looks.find(&looks.key.to_string(), 1, FREE);
            assert!(looks.state.view().is_settled(), "the first is believed");
            looks
        }

        /// Simulates a check after the `change`th change of the file, and one a second later.
        fn find(&mut self, text: &str, change: i64, has_writer: Option<bool>) {
            let stamp = Stamp { changed: (change, 0), length: text.len() as u64, inode: 1 };
            let found = FileCheck { stamp, keys: AuthorizedKeys::parse(text), has_writer };
            self.state.find(Path::new("keys"), found);
            self.number += 1;
        }

        fn is_admitted(&self) -> bool {
            self.state.view().judge(&self.key, HERE).is_ok()
        }

        /// Returns the number of checks for which, one per second, the key stays admitted.
        async fn seconds(&mut self, text: &str, has_writer: Option<bool>) -> Option<u32> {
            for second in 0..100 {
                self.find(text, 2, has_writer);
                if !self.is_admitted() {
                    return Some(second);
                }
                tokio::time::advance(Duration::from_secs(1)).await;
            }
            None
        }
    }

    fn other() -> String {
        Identity::generate().unwrap().public_key().to_string()
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_removed_when_looks_at_a_settled_file_agree() {
        assert_eq!(CheckedFile::new().seconds(&other(), FREE).await, Some(3));
        assert_eq!(
            CheckedFile::new().seconds(&other(), None).await,
            Some(10),
            "nobody knows who writes"
        );
        assert_eq!(CheckedFile::new().seconds("", FREE).await, Some(10), "it may be filled again");
        assert_eq!(
            CheckedFile::new().seconds(&other(), Some(true)).await,
            None,
            "it is being written"
        );
        let (mut looks, text) = (CheckedFile::new(), other());
        looks.seconds(&text, Some(true)).await;
        assert_eq!(looks.seconds(&text, FREE).await, Some(3), "since nobody writes");
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_changes_on_removes_nobody() {
        let mut looks = CheckedFile::new();
        for change in 2..100 {
            looks.find("", change, FREE);
            assert!(looks.is_admitted());
            tokio::time::advance(Duration::from_secs(2)).await;
        }
        looks.find(&looks.key.to_string(), 100, FREE);
        assert!(looks.state.view().is_settled() && looks.is_admitted());
    }

    #[tokio::test(start_paused = true)]
    async fn looks_do_not_agree_across_one_that_failed() {
        let mut looks = CheckedFile::new();
        let text = other();
        for _ in 0..10 {
            looks.find(&text, 2, FREE);
            tokio::time::advance(Duration::from_secs(2)).await;
            let reported = looks.state.find_unreadable("no".to_owned());
            assert!(reported.is_some() && !looks.state.view().is_settled());
            tokio::time::advance(Duration::from_secs(9)).await;
            assert!(looks.is_admitted());
        }
        assert_eq!(looks.seconds(&text, FREE).await, Some(3));
        assert!(looks.state.view().is_settled());
    }

    #[tokio::test(start_paused = true)]
    async fn an_added_key_is_admitted_at_once_and_an_unreadable_file_is_reported_once() {
        let mut looks = CheckedFile::new();
        let added = Identity::generate().unwrap().public_key();
        looks.find(&added.to_string(), 2, Some(true));
        let view = looks.state.view();
        assert!(
            view.judge_latest(&added, HERE).is_ok() && view.judge_latest(&looks.key, HERE).is_err()
        );
        assert!(
            !view.is_final(&Denial::KeyUnknown) && view.is_final(&Denial::KeyExpired { line: 1 })
        );
        let mut tell = |why: &str| looks.state.find_unreadable(why.to_owned()).is_some();
        assert!(tell("one") && !tell("one") && tell("two"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_disk_keeps_no_key_that_is_removed() {
        let mut looks = CheckedFile::new();
        let text = other();
        for second in 0..4 {
            looks.state.find_slow("slow".to_owned());
            assert!(looks.is_admitted() && !looks.state.view().is_at_hand(), "{second}");
            looks.find(&text, 2, FREE);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        looks.state.find_slow("slow".to_owned());
        assert!(looks.state.view().is_settled() && !looks.is_admitted());
    }
}
