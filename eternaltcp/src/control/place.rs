//! Where control sockets are, and which ones there are.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, geteuid, test_kill_process};

use super::message::Role;

/// What every socket's name ends with.
const ENDING: &str = "sock";

/// Sockets that are looked at in one folder.
const MOST: usize = 1024;

/// The folders of this user's control sockets, the first that can be used is:
/// `$XDG_RUNTIME_DIR/eternaltcp`, and `control` in the state folder.
#[must_use]
pub fn default_folders() -> Vec<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    // It is the system's to make, and to remove when the user has left.
    let runtime = absolute("XDG_RUNTIME_DIR").filter(|folder| folder.is_dir());
    let runtime = runtime.map(|folder| folder.join("eternaltcp"));
    let home = || Some(env::home_dir().filter(|it| it.is_absolute())?.join(".local/state"));
    let state = absolute("XDG_STATE_HOME").or_else(home);
    let state = state.map(|folder| folder.join("eternaltcp/control"));
    runtime.into_iter().chain(state).collect()
}

/// The path of this process's socket in the first of `folders` that can be used. The
/// folder is made with mode 0700 if it is not there.
///
/// # Errors
/// Why the last folder cannot be used.
pub fn name(role: Role, folders: &[PathBuf]) -> io::Result<PathBuf> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "there is no home folder");
    for folder in folders {
        match prepare(folder) {
            Ok(()) => return Ok(folder.join(format!("{role}.{}.{ENDING}", std::process::id()))),
            Err(error) => {
                last = io::Error::new(error.kind(), format!("{}: {error}", folder.display()));
            }
        }
    }
    Err(last)
}

/// Makes a folder that its user alone may enter, or checks that it is one.
fn prepare(folder: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().mode(0o700).recursive(true).create(folder)?;
    let metadata = std::fs::metadata(folder)?;
    if metadata.uid() != geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is another user's"));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o700))?;
    }
    Ok(())
}

/// A socket that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// Its name without the ending: `cproxy.1234`.
    pub name: String,
}

/// The control sockets in these folders, in the order of their names. Those whose
/// process is gone are removed.
#[must_use]
pub fn find(folders: &[PathBuf]) -> Vec<Found> {
    let mut found: Vec<_> = folders.iter().flat_map(|folder| sockets(folder)).collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn sockets(folder: &Path) -> Vec<Found> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let files = entries.take(MOST).flatten().map(|entry| entry.path());
    let mut found = Vec::new();
    for path in files.filter(|path| path.extension() == Some(OsStr::new(ENDING))) {
        let is_socket = path.symlink_metadata().is_ok_and(|it| it.file_type().is_socket());
        let Some(name) = path.file_stem().and_then(OsStr::to_str).filter(|_| is_socket) else {
            continue;
        };
        if is_orphan(name) {
            // Somebody else may have removed it.
            let _ = std::fs::remove_file(&path);
        } else {
            found.push(Found { name: name.to_owned(), path });
        }
    }
    found
}

/// Whether the process that a name tells of is gone for sure.
fn is_orphan(name: &str) -> bool {
    let process = name.rsplit_once('.').and_then(|(_, process)| process.parse().ok());
    process
        .and_then(Pid::from_raw)
        .is_some_and(|process| test_kill_process(process) == Err(rustix::io::Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_folder_is_its_users_alone_and_orphans_are_removed() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("deep/eternaltcp");
        let folders = [PathBuf::from("/proc/nowhere/eternaltcp"), folder.clone()];
        let own = name(Role::Cproxy, &folders).unwrap();
        assert_eq!(own.parent(), Some(folder.as_path()));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).unwrap();
        name(Role::Cproxy, &folders).unwrap();
        assert_eq!(mode(&folder), 0o700);

        let _own = UnixListener::bind(&own).unwrap();
        // Process ids end below this one.
        let orphan = folder.join("sproxy.4194305.sock");
        drop(UnixListener::bind(&orphan).unwrap());
        std::fs::write(folder.join("sproxy.4194306.sock"), "no socket").unwrap();
        let found = find(&folders);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((&found[0].path, found[0].name.starts_with("cproxy.")), (&own, true));
        assert!(!orphan.exists(), "it is removed");
        assert!(folder.join("sproxy.4194306.sock").exists(), "no socket, not ours");
    }

    #[test]
    fn a_folder_of_another_user_is_not_used() {
        if geteuid().is_root() {
            let temporary = tempfile::tempdir().unwrap();
            std::os::unix::fs::chown(temporary.path(), Some(65534), None).unwrap();
            let error = name(Role::Sproxy, &[temporary.path().to_owned()]).unwrap_err();
            assert!(error.to_string().contains("another user's"), "{error}");
        }
    }
}
