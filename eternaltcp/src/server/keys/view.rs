//! The basis for decisions about keys, of all sources together.

use std::net::IpAddr;
use std::sync::Arc;

use super::state::SourceView;
use crate::policy::{Admission, Denial, GroupPermits};
use eternaltcp_tls::PublicKey;

/// The present knowledge of all sources of keys.
///
/// A key is admitted if one source admits it, as with several files of sshd. The first one that does
/// decides about its restrictions. The permits of all its groups count.
#[derive(Debug)]
pub(in crate::server) struct KeyView(Vec<(SourceView, Option<Arc<GroupPermits>>)>);

impl KeyView {
    pub(super) fn new(sources: Vec<(SourceView, Option<Arc<GroupPermits>>)>) -> Self {
        Self(sources)
    }

    /// Decides by the latest contents. Without any contents, nothing is known.
    pub(in crate::server) fn judge_latest(
        &self,
        key: &PublicKey,
        from: IpAddr,
    ) -> Result<Admission, Denial> {
        self.combine(|source| source.judge_latest(key, from))
    }

    /// Decides by the latest contents of the sources that can be read in the time that an attach has.
    pub(in crate::server) fn judge_at_hand(
        &self,
        key: &PublicKey,
        from: IpAddr,
    ) -> Result<Admission, Denial> {
        self.combine(|source| match source.is_at_hand() {
            true => source.judge_latest(key, from),
            false => Err(Denial::KeyUnknown),
        })
    }

    /// Decides by the latest contents, but continues to admit a key that is no longer listed until
    /// its source settles.
    pub(in crate::server) fn judge(
        &self,
        key: &PublicKey,
        from: IpAddr,
    ) -> Result<Admission, Denial> {
        self.combine(|source| source.judge(key, from))
    }

    fn combine(
        &self,
        judge: impl Fn(&SourceView) -> Result<Admission, Denial>,
    ) -> Result<Admission, Denial> {
        let (mut admitted, mut strongest): (Option<Admission>, _) = (None, Denial::KeyUnknown);
        for (source, group) in &self.0 {
            match judge(source) {
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

    /// Returns whether the last checks could read all sources, and trust them.
    pub(in crate::server) fn is_readable(&self) -> bool {
        self.0.iter().all(|(source, _)| source.is_readable())
    }

    /// Returns whether all sources can be read in the time that an attach has.
    pub(in crate::server) fn is_at_hand(&self) -> bool {
        self.0.iter().all(|(source, _)| source.is_at_hand())
    }

    /// Returns whether all sources can be read, and have settled.
    pub(in crate::server) fn is_settled(&self) -> bool {
        self.0.iter().all(|(source, _)| source.is_settled())
    }

    /// Returns whether the key stays denied unless a source changes.
    pub(in crate::server) fn is_final(&self, denial: &Denial) -> bool {
        self.0.iter().all(|(source, _)| source.is_final(denial))
    }
}
