//! The groups of the configuration file, as sources of keys with their permits and limits.

use std::sync::Arc;

use eternaltcp::policy::{AuthorizedKeys, GroupLimits, GroupPermits};
use eternaltcp::server::{KeyCommand, KeySet, KeySource};

use crate::cli::{GroupLine, GroupSetting, settings_of_groups};
use crate::exit::ExitError;

/// Returns the keys of all groups, in the order of the groups' names. Those of commands come last.
/// `user` runs them.
pub(super) fn sets(lines: &[GroupLine], user: Option<&str>) -> Result<Vec<KeySet>, ExitError> {
    let (mut sets, mut commands) = (Vec::new(), Vec::new());
    for (name, settings) in settings_of_groups(lines) {
        let of_group = sets_of_group(name, settings, |line| command(line, user, name))?;
        let is_command = |set: &KeySet| matches!(set.source, KeySource::Command(_));
        let (last, first): (Vec<_>, Vec<_>) = of_group.into_iter().partition(is_command);
        sets.extend(first);
        commands.extend(last);
    }
    sets.extend(commands);
    Ok(sets)
}

fn sets_of_group(
    name: &str,
    settings: Vec<&GroupSetting>,
    command: impl Fn(&str) -> Result<KeySource, ExitError>,
) -> Result<Vec<KeySet>, ExitError> {
    let (mut keys, mut sources) = (String::new(), Vec::new());
    let (mut targets, mut listens, mut limits) = (Vec::new(), Vec::new(), GroupLimits::default());
    for setting in settings {
        match setting {
            GroupSetting::Key(line) => keys += &format!("{line}\n"),
            GroupSetting::KeyFile(path) => sources.push(KeySource::File(path.clone())),
            GroupSetting::Command(line) => sources.push(command(line)?),
            GroupSetting::Permit(permit) => targets.push(permit.clone()),
            GroupSetting::Listen(permit) => listens.push(permit.clone()),
            GroupSetting::Limit(limit) => limits = limits.replaced_by(limit.limits),
        }
    }
    let group = Arc::new(GroupPermits::new(name, targets, listens).within(limits));
    let own = (!keys.is_empty()).then(|| KeySource::Fixed(AuthorizedKeys::parse(&keys)));
    let sources = own.into_iter().chain(sources);
    Ok(sources.map(|source| KeySet::new(source).of_group(Arc::clone(&group))).collect())
}

/// Returns the source of keys that a command of a group is.
fn command(line: &str, user: Option<&str>, group: &str) -> Result<KeySource, ExitError> {
    source_of_command(line, user)
        .map_err(|why| ExitError::Usage(format!("command of group {group}: {why}")))
}

/// Returns the source of keys that a command is.
pub(super) fn source_of_command(line: &str, user: Option<&str>) -> Result<KeySource, String> {
    let user = user.ok_or(
        "it needs --authorized-keys-command-user: best a user who does nothing else, as for sshd",
    )?;
    KeyCommand::new(line, user).map(KeySource::Command)
}
