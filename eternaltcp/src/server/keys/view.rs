//! The basis for decisions about keys, of all sources together.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::command::AnswersView;
use super::state::SourceView;
use crate::policy::{Admission, Denial, GroupPermits};
use eternaltcp_tls::PublicKey;

/// The present knowledge of all sources of keys.
///
/// A key is admitted if one source admits it, as with several files of sshd. The first one that does
/// decides about its restrictions. The permits of all its groups count.
#[derive(Debug)]
pub(in crate::server) struct KeyView(Vec<ViewedSource>);

/// The present knowledge of one source, and its group.
#[derive(Debug)]
pub(super) struct ViewedSource {
    pub(super) known: KnownKeys,
    pub(super) group: Option<Arc<GroupPermits>>,
    /// The file or the command, for the log; `None`: the keys are fixed.
    pub(super) path: Option<PathBuf>,
}

impl ViewedSource {
    fn judge_latest(&self, key: &PublicKey, from: IpAddr) -> Result<Admission, Denial> {
        match &self.known {
            KnownKeys::OfFile(file) => file.judge_latest(key, from),
            KnownKeys::OfCommand(answers) => answers.judge(key, from),
        }
    }

    /// Describes a line for the log of the server.
    fn place(&self, line: usize) -> String {
        let group = self.group.as_ref().map(|group| group.name());
        match (&self.path, group) {
            (Some(path), Some(group)) => format!("{}:{line} (group {group})", path.display()),
            (Some(path), None) => format!("{}:{line}", path.display()),
            (None, Some(group)) => format!("key {line} of group {group}"),
            (None, None) => format!("key {line}"),
        }
    }
}

/// The present knowledge of one source.
#[derive(Debug)]
pub(super) enum KnownKeys {
    /// A file, or fixed keys.
    OfFile(SourceView),
    /// A command.
    OfCommand(AnswersView),
}

impl KeyView {
    pub(super) fn new(sources: Vec<ViewedSource>) -> Self {
        Self(sources)
    }

    /// Decides by the latest contents. Without any contents, nothing is known.
    pub(in crate::server) fn judge_latest(
        &self,
        key: &PublicKey,
        from: IpAddr,
    ) -> Result<Admission, Denial> {
        self.combine(|file| file.judge_latest(key, from), |answers| answers.judge(key, from))
    }

    /// Decides by the latest contents of the sources that can be read in the time that an attach has.
    pub(in crate::server) fn judge_at_hand(
        &self,
        key: &PublicKey,
        from: IpAddr,
    ) -> Result<Admission, Denial> {
        self.combine(
            |file| match file.is_at_hand() {
                true => file.judge_latest(key, from),
                false => Err(Denial::KeyUnknown),
            },
            |answers| match answers.is_known(key) {
                true => answers.judge(key, from),
                false => Err(Denial::KeyUnknown),
            },
        )
    }

    /// Decides by the latest contents, but continues to admit a key that is no longer listed until
    /// its source settles.
    pub(in crate::server) fn judge(
        &self,
        key: &PublicKey,
        from: IpAddr,
    ) -> Result<Admission, Denial> {
        self.combine(|file| file.judge(key, from), |answers| answers.judge(key, from))
    }

    /// Returns whether commands decide about a key: as in sshd, they do if no file admits it.
    pub(super) fn needs_commands(&self, key: &PublicKey, from: IpAddr) -> bool {
        self.commands().next().is_some() && !self.files().any(|it| it.judge(key, from).is_ok())
    }

    fn files(&self) -> impl Iterator<Item = &SourceView> {
        self.0.iter().filter_map(|source| match &source.known {
            KnownKeys::OfFile(view) => Some(view),
            KnownKeys::OfCommand(_) => None,
        })
    }

    fn commands(&self) -> impl Iterator<Item = &AnswersView> {
        self.0.iter().filter_map(|source| match &source.known {
            KnownKeys::OfFile(_) => None,
            KnownKeys::OfCommand(answers) => Some(answers),
        })
    }

    /// Returns whether every command that decides about a key has answered.
    fn is_answered(&self, key: &PublicKey, from: IpAddr) -> bool {
        !self.needs_commands(key, from) || self.commands().all(|answers| answers.is_known(key))
    }

    fn combine(
        &self,
        judge_file: impl Fn(&SourceView) -> Result<Admission, Denial>,
        judge_answers: impl Fn(&AnswersView) -> Result<Admission, Denial>,
    ) -> Result<Admission, Denial> {
        let (mut admitted, mut strongest): (Option<Admission>, _) = (None, Denial::KeyUnknown);
        for ViewedSource { known, group, .. } in &self.0 {
            let judged = match known {
                KnownKeys::OfFile(view) => judge_file(view),
                KnownKeys::OfCommand(answers) => judge_answers(answers),
            };
            match judged {
                Ok(admission) => {
                    admitted.get_or_insert(admission).groups.extend(group.clone());
                }
                Err(denial) => {
                    // As within a file: no later source may grant what this line may have forbidden.
                    let ends_search = denial.ends_search() && admitted.is_none();
                    if denial.weight() > strongest.weight() {
                        strongest = denial;
                    }
                    if ends_search {
                        break;
                    }
                }
            }
        }
        admitted.ok_or(strongest)
    }

    /// Returns the place of the line that denies a key, for the log of the server: clients are not
    /// told of its files.
    pub(in crate::server) fn place_of(
        &self,
        denial: &Denial,
        key: &PublicKey,
        from: IpAddr,
    ) -> Option<String> {
        let line = denial.line()?;
        let is_it = |source: &&ViewedSource| {
            source.judge_latest(key, from).is_err_and(|found| found == *denial)
        };
        self.0.iter().find(is_it).map(|source| source.place(line))
    }

    /// Returns a denial for the log of the server, with its place.
    pub(in crate::server) fn tell(&self, denial: &Denial, key: &PublicKey, from: IpAddr) -> String {
        match self.place_of(denial, key, from) {
            Some(place) => format!("{denial}: {place}"),
            None => denial.to_string(),
        }
    }

    /// Returns whether the last checks could read all sources that decide about a key, and trust them.
    pub(in crate::server) fn is_readable(&self, key: &PublicKey, from: IpAddr) -> bool {
        self.files().all(SourceView::is_readable) && self.is_answered(key, from)
    }

    /// Returns whether all sources that decide about a key can be read in the time that an attach has.
    pub(in crate::server) fn is_at_hand(&self, key: &PublicKey, from: IpAddr) -> bool {
        self.files().all(SourceView::is_at_hand) && self.is_answered(key, from)
    }

    /// Returns whether all sources that decide about a key can be read, and have settled.
    pub(in crate::server) fn is_settled(&self, key: &PublicKey, from: IpAddr) -> bool {
        self.files().all(SourceView::is_settled) && self.is_answered(key, from)
    }

    /// Returns whether the key stays denied unless a source changes.
    pub(in crate::server) fn is_final(
        &self,
        denial: &Denial,
        key: &PublicKey,
        from: IpAddr,
    ) -> bool {
        self.files().all(|file| file.is_final(denial)) && self.is_answered(key, from)
    }
}
