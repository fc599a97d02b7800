//! The groups of the configuration file, as sources of keys with their permits.

use std::collections::BTreeMap;
use std::sync::Arc;

use eternaltcp::policy::{AuthorizedKeys, GroupPermits};
use eternaltcp::server::{KeySet, KeySource};

use crate::cli::{GroupLine, GroupSetting};

/// Returns the keys of all groups, in the order of the groups' names.
pub(super) fn sets(lines: &[GroupLine]) -> Vec<KeySet> {
    let mut groups: BTreeMap<&str, Vec<&GroupSetting>> = BTreeMap::new();
    for line in lines {
        groups.entry(&line.name).or_default().push(&line.setting);
    }
    groups.values().flat_map(|settings| sets_of_group(settings)).collect()
}

fn sets_of_group(settings: &[&GroupSetting]) -> Vec<KeySet> {
    let (mut keys, mut files) = (String::new(), Vec::new());
    let (mut targets, mut listens) = (Vec::new(), Vec::new());
    for setting in settings {
        match setting {
            GroupSetting::Key(line) => keys += &format!("{line}\n"),
            GroupSetting::KeyFile(path) => files.push(KeySource::File(path.clone())),
            GroupSetting::Permit(permit) => targets.push(permit.clone()),
            GroupSetting::Listen(permit) => listens.push(permit.clone()),
        }
    }
    let group = Arc::new(GroupPermits::new(targets, listens));
    let own = (!keys.is_empty()).then(|| KeySource::Fixed(AuthorizedKeys::parse(&keys)));
    let sources = own.into_iter().chain(files);
    sources.map(|source| KeySet::new(source).of_group(Arc::clone(&group))).collect()
}
