//! sshd's `StrictModes`: checks whether another user could change or replace a file of keys.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{Account, FileError};
use crate::paths;

/// The permission bits that let the group write, and all other users.
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
/// In such a folder only its owner may remove a file, as in `/tmp`.
const STICKY: u32 = 0o1000;
const ALL_BITS: u32 = 0o7777;
const ROOT: u32 = 0;

/// Trusts a file only if nobody except one user and root can change or replace it: the rule of
/// sshd's `StrictModes`.
///
/// The file and every folder above it, up to the user's home or else to the root, belong to the
/// user or to root, and nobody else may write to them. As in Debian's sshd, a group may write if
/// the user is its only member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrictModes {
    user: u32,
    home: Option<PathBuf>,
}

impl StrictModes {
    /// Returns the rule for files of the user of this process.
    #[must_use]
    pub fn of_this_user() -> Self {
        Self { user: rustix::process::geteuid().as_raw(), home: paths::home().ok() }
    }

    /// Returns the rule for files that only root may change.
    pub(crate) fn of_root() -> Self {
        Self { user: ROOT, home: None }
    }

    /// Returns the rule with another home folder.
    #[cfg(test)]
    pub(super) fn at_home(self, home: &Path) -> Self {
        Self { home: Some(home.to_owned()), ..self }
    }

    /// Checks a file whose metadata are `file`, and the folders above it.
    pub(crate) fn check(&self, path: &Path, file: &Metadata) -> Result<(), FileError> {
        let unreadable = |error| FileError::Unreadable(path.to_owned(), error);
        // sshd stops at the home folder, whatever is above it.
        let home = self.home.as_ref().and_then(|home| fs::canonicalize(home).ok());
        let real = fs::canonicalize(path).map_err(unreadable)?;
        if file.is_file() {
            self.judge(&real, file)?;
        }
        for folder in real.ancestors().skip(1) {
            self.judge(folder, &fs::metadata(folder).map_err(unreadable)?)?;
            if home.as_deref() == Some(folder) {
                break;
            }
        }
        Ok(())
    }

    fn judge(&self, path: &Path, found: &Metadata) -> Result<(), FileError> {
        let (owner, mode) = (found.uid(), found.mode() & ALL_BITS);
        let path = || path.to_owned();
        if owner != self.user && owner != ROOT {
            return Err(FileError::WrongOwner { path: path(), owner, user: self.user });
        }
        let is_group_private = || {
            let read =
                |file| fs::read(file).map(|text| String::from_utf8_lossy(&text).into_owned());
            let files: io::Result<_> =
                read("/etc/passwd").and_then(|a| Ok((a, read("/etc/group")?)));
            files.is_ok_and(|(accounts, groups)| {
                is_private(found.gid(), owner, self.user, &accounts, &groups)
            })
        };
        if mode & OTHERS_WRITE == 0 && (mode & GROUP_WRITES == 0 || is_group_private()) {
            Ok(())
        } else if found.is_dir() && mode & STICKY != 0 {
            Err(FileError::InSharedFolder { path: path(), mode })
        } else {
            Err(FileError::WritableByOthers { path: path(), mode })
        }
    }
}

/// Returns whether `user` is the only member of a group, by the texts of `/etc/passwd` and
/// `/etc/group`. `owner` owns the file, and may be a member under another name.
fn is_private(group: u32, owner: u32, user: u32, accounts: &str, groups: &str) -> bool {
    let accounts = || accounts.lines().filter_map(Account::parse);
    let members = groups.lines().find_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        let is_it = fields.get(2).and_then(|id| id.parse().ok()) == Some(group);
        is_it.then(|| fields.get(3).copied().unwrap_or_default().trim())
    });
    let Some(members) = members else { return false };
    let mut primary = accounts().filter(|account| account.group == group).peekable();
    let has_primary = primary.peek().is_some();
    if primary.any(|account| account.user != user) {
        return false;
    }
    match members {
        "" => has_primary,
        name => accounts().any(|account| account.user == owner && account.name == name),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const ACCOUNTS: &str = "root:x:0:0:root:/root:/bin/bash\nann:x:1000:1000::/home/ann:/bin/sh\n\
                            bob:x:1001:1001::/home/bob:/bin/sh\ncid:x:1002:100::/home/cid:/bin/sh\n\
                            dee:x:1003:100::/home/dee:/bin/sh\n+::::::\n";
    const GROUPS: &str = "root:x:0:\nann:x:1000:\nbob:x:1001:ann\nusers:x:100:\nempty:x:50:\nown:x:51:ann\n\
                          two:x:52:ann,bob\n";

    #[test]
    fn a_group_is_private_that_has_one_member_and_that_is_the_user() {
        let private = |group, user| is_private(group, user, user, ACCOUNTS, GROUPS);
        assert!(private(1000, 1000) && private(0, 0) && private(51, 1000));
        for (group, user) in
            [(1000, 1001), (1001, 1001), (100, 1002), (50, 1000), (52, 1000), (51, 1001), (99, 0)]
        {
            assert!(!private(group, user), "group {group} of user {user}");
        }
        assert!(!is_private(51, 0, 1000, ACCOUNTS, GROUPS), "a file of root, a group of ann's");
    }

    /// Creates a home with `.ssh/authorized_keys` in it, each with a mode, and the folder above it
    /// with mode 0777.
    fn home(modes: [u32; 3]) -> (tempfile::TempDir, StrictModes, PathBuf) {
        let above = tempfile::tempdir().unwrap();
        let home = above.path().join("home");
        let file = home.join(".ssh/authorized_keys");
        fs::create_dir_all(home.join(".ssh")).unwrap();
        fs::write(&file, "").unwrap();
        let paths = [above.path(), &home, &home.join(".ssh"), &file];
        for (path, mode) in paths.into_iter().zip([0o777, modes[0], modes[1], modes[2]]) {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let user = rustix::process::geteuid().as_raw();
        (above, StrictModes { user, home: Some(home) }, file)
    }

    fn check(modes: &StrictModes, file: &Path) -> Result<(), String> {
        let found = fs::metadata(file).unwrap();
        modes.check(file, &found).map_err(|error| error.to_string())
    }

    #[test]
    fn the_file_its_folder_and_the_home_are_judged_and_nothing_above_it() {
        let (_above, modes, file) = home([0o755, 0o700, 0o644]);
        assert_eq!(check(&modes, &file), Ok(()));
        for (bad, name) in [
            ([0o757, 0o700, 0o600], "home"),
            ([0o755, 0o777, 0o600], ".ssh"),
            ([0o755, 0o700, 0o602], "keys"),
        ] {
            let (_above, modes, file) = home(bad);
            let error = check(&modes, &file).unwrap_err();
            let (_, command) = error.split_once("run chmod go-w ").unwrap();
            assert!(error.contains(" (mode 0") && command.ends_with(name), "{error}");
        }
    }

    #[test]
    fn a_link_is_judged_by_where_it_leads() {
        let (above, modes, file) = home([0o755, 0o700, 0o600]);
        let elsewhere = above.path().join("elsewhere");
        fs::rename(&file, &elsewhere).unwrap();
        symlink(&elsewhere, &file).unwrap();
        let error = check(&modes, &file).unwrap_err();
        assert!(error.contains(&format!("{} (mode 0777)", above.path().display())), "{error}");
    }

    #[test]
    fn a_file_outside_the_home_is_judged_up_to_the_root() {
        let (_above, modes, file) = home([0o755, 0o700, 0o600]);
        let modes = StrictModes { home: Some("/nowhere".into()), ..modes };
        assert!(check(&modes, &file).is_err());
        let shared = tempfile::Builder::new().tempdir_in("/tmp").unwrap();
        let file = shared.path().join("keys");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let error = check(&modes, &file).unwrap_err();
        assert!(error.contains("/tmp (mode 1777)") && !error.contains("chmod"), "{error}");
    }

    #[test]
    fn a_file_of_somebody_else_is_not_trusted() {
        let (_above, modes, file) = home([0o755, 0o700, 0o600]);
        let other = StrictModes { user: 4242, ..modes.clone() };
        let error = check(&other, &file);
        if modes.user == ROOT {
            assert_eq!(error, Ok(()), "root's files are believed for every user");
        } else {
            let error = error.unwrap_err();
            assert!(error.contains(&format!("belongs to user {}", modes.user)), "{error}");
        }
    }
}
