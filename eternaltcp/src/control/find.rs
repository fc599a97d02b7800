//! The search for control sockets, and for those that killed programs have left.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::geteuid;

use super::kind::ProxyKind;
use super::place::{ENDING, LOCK_ENDING, beside};
use crate::lock_file::{Locked, lock};
use eternaltcp_sys::unix::is_abandoned;

/// The maximum number of files that are examined in one folder: sockets and their locks.
const MAX_FILES: usize = 16 * 1024;

/// The maximum number of locks that [`sweep`] examines in one folder.
const EXAMINED: usize = 8;

/// The least age of a lock that [`sweep`] examines: younger ones belong to programs that are just
/// starting.
const SETTLED: Duration = Duration::from_secs(60);

/// The list of the Unix sockets of this network namespace.
const ALL_SOCKETS: &str = "/proc/net/unix";

/// The flag of a socket that listens, in that list.
const LISTENS: u32 = 1 << 16;

/// A socket that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundSocket {
    /// The place where it is.
    pub path: PathBuf,
    /// Its name without the ending: `cproxy.1234`.
    pub name: String,
    /// The number of its user.
    pub user: Option<u32>,
}

impl FoundSocket {
    /// Returns the socket at a path.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self::named(path.to_owned(), path.display().to_string())
    }

    fn named(path: PathBuf, name: String) -> Self {
        let user = path.symlink_metadata().ok().map(|it| it.uid());
        Self { path, name, user }
    }

    /// Returns the kind of its program, if its name has the usual form.
    #[must_use]
    pub fn kind(&self) -> Option<ProxyKind> {
        kind_and_process(&self.name).map(|(kind, _)| kind)
    }

    /// Returns its place in a list: programs of a kind together, older process ids first.
    fn order(&self) -> (usize, u32, String) {
        let (kind, process) = kind_and_process(&self.name).unzip();
        let at = ProxyKind::ALL.iter().position(|it| Some(*it) == kind);
        (at.unwrap_or(usize::MAX), process.unwrap_or(0), self.name.clone())
    }
}

/// Returns the kind of a program and its process id from the name of its socket: `cproxy.1234`, or
/// `cproxy.1234-2`.
fn kind_and_process(name: &str) -> Option<(ProxyKind, u32)> {
    let (kind, process) = name.split_once('.')?;
    let digits = process.split_once('-').map_or(process, |(digits, _)| digits);
    Some((ProxyKind::of_name(kind)?, digits.parse().ok()?))
}

/// Returns the control sockets in these folders, those of one kind together. Removes those whose
/// process no longer exists.
#[must_use]
pub fn find(folders: &[PathBuf]) -> Vec<FoundSocket> {
    let mut found: Vec<_> = folders.iter().flat_map(|folder| sockets(folder)).collect();
    found.sort_by_cached_key(FoundSocket::order);
    found
}

/// Returns the control sockets of other users that listen now, wherever they are, if this process
/// runs as root. They are those of this network namespace. Nothing is removed: their folders are not
/// root's.
#[must_use]
pub fn find_of_others() -> Vec<FoundSocket> {
    let own = geteuid();
    if !own.is_root() {
        return Vec::new();
    }
    let list = fs::read_to_string(ALL_SOCKETS).unwrap_or_default();
    let found =
        list.lines().filter_map(listening).map(|(path, name)| FoundSocket::named(path, name));
    let mut found: Vec<_> =
        found.filter(|it| it.user.is_some_and(|user| user != own.as_raw())).collect();
    found.sort_by_cached_key(|it| (it.user, it.order()));
    found
}

/// Returns the path and the name of the control socket that a line of [`ALL_SOCKETS`] shows, if it
/// listens (proc(5)).
fn listening(line: &str) -> Option<(PathBuf, String)> {
    let flags = line.split_whitespace().nth(3)?;
    if u32::from_str_radix(flags, 16).ok()? & LISTENS == 0 {
        return None;
    }
    // Only the path may have a slash, or spaces.
    let path = Path::new(&line[line.find(" /")? + 1..]);
    let name =
        path.file_stem()?.to_str().filter(|_| path.extension() == Some(OsStr::new(ENDING)))?;
    kind_and_process(name)?;
    Some((path.to_owned(), name.to_owned()))
}

fn sockets(folder: &Path) -> Vec<FoundSocket> {
    let mut found = Vec::new();
    for (path, is_socket) in names(folder) {
        let Some(name) = path.file_stem().and_then(OsStr::to_str) else { continue };
        let is_left = if is_socket { remove_orphan(&path) } else { remove_lock(&path) };
        if is_socket && !is_left && is_socket_file(&path) {
            found.push(FoundSocket::named(path.clone(), name.to_owned()));
        }
    }
    found
}

/// Returns the paths of the sockets in a folder, each with whether its file exists. If it does not,
/// only the lock of the socket exists.
fn names(folder: &Path) -> BTreeMap<PathBuf, bool> {
    let entries = fs::read_dir(folder).into_iter().flatten().take(MAX_FILES).flatten();
    let mut names = BTreeMap::new();
    for path in entries.map(|entry| entry.path()) {
        let is_socket = path.extension() == Some(OsStr::new(ENDING));
        if is_socket || path.extension() == Some(OsStr::new(LOCK_ENDING)) {
            *names.entry(path.with_extension(ENDING)).or_default() |= is_socket;
        }
    }
    names
}

fn is_socket_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|it| it.file_type().is_socket())
}

/// Removes a socket whose process certainly no longer exists: its lock is free, and nothing
/// listens.
fn remove_orphan(path: &Path) -> bool {
    if !is_socket_file(path) {
        return false;
    }
    let Ok(Locked::Here(lock)) = lock(&beside(path), false) else { return false };
    if !is_abandoned(path) {
        // A process without a lock listens: the lock's file stays.
        lock.leave();
        return false;
    }
    // Its user may have removed it.
    let _ = fs::remove_file(path);
    true
}

/// Removes the lock of a process that was killed before it had its socket, if the lock is free.
fn remove_lock(path: &Path) -> bool {
    let is_ours = path.file_stem().and_then(OsStr::to_str).and_then(kind_and_process).is_some();
    is_ours && matches!(lock(&beside(path), false), Ok(Locked::Here(_)))
}

/// Removes a few sockets whose processes no longer exist. Each program that starts calls this once.
///
/// A killed program leaves at most one socket, and each program that starts examines eight, a
/// different part of the folder each time. So those that are left stay fewer than those that are in
/// use, and no start has to look at all of them.
pub fn sweep(folder: &Path) {
    let paths: Vec<_> = names(folder).into_keys().collect();
    let first = usize::try_from(std::process::id()).unwrap_or(0).wrapping_mul(EXAMINED);
    for at in 0..EXAMINED.min(paths.len()) {
        let path = &paths[(first + at) % paths.len()];
        let made = fs::symlink_metadata(beside(path)).and_then(|it| it.modified());
        let age = made.ok().and_then(|made| made.elapsed().ok());
        if age.is_some_and(|age| age >= SETTLED) && !remove_orphan(path) && !path.exists() {
            remove_lock(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::time::SystemTime;

    use eternaltcp_sys::testport::until_blocking;

    use super::super::place::Claim;
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        find(&[folder.to_owned()]).into_iter().map(|found| found.name).collect()
    }

    #[test]
    fn a_socket_is_removed_once_its_lock_is_free_and_nobody_listens() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let claim = Claim::take(ProxyKind::Sproxy, &[folder.path().to_owned()]).unwrap();
        let own = claim.path().file_stem().unwrap().to_str().unwrap().to_owned();
        // Nothing listens, as seen from another machine that shares the folder.
        drop(UnixListener::bind(claim.path()).unwrap());
        // Nothing listens here either, but nobody knows the state of its lock, and this is not a
        // socket.
        drop(UnixListener::bind(at("older.sock")).unwrap());
        fs::write(at("file.sock"), "no socket").unwrap();
        fs::write(at("file.lock"), "").unwrap();
        // A process listens.
        let _listener = UnixListener::bind(at("unlocked.sock")).unwrap();
        fs::write(at("unlocked.lock"), "").unwrap();
        let all = [own.clone(), "older".to_owned(), "unlocked".to_owned()];
        assert_eq!(names(folder.path()), all);
        let path = claim.path().to_owned();
        // A killed process leaves the file of its lock, but no lock.
        drop(claim);
        fs::write(path.with_extension("lock"), "").unwrap();
        until_blocking("the end of the lock", || names(folder.path()) == ["older", "unlocked"]);
        assert!(!path.exists() && !path.with_extension("lock").exists());
        assert!(at("file.sock").exists() && at("unlocked.lock").exists());
    }

    /// Makes the files that a program leaves if it was killed some time ago.
    fn leave(folder: &Path, name: &str, has_socket: bool) {
        let lock = fs::File::create(folder.join(format!("{name}.{LOCK_ENDING}"))).unwrap();
        lock.set_modified(SystemTime::now() - 2 * SETTLED).unwrap();
        if has_socket {
            drop(UnixListener::bind(folder.join(format!("{name}.{ENDING}"))).unwrap());
        }
    }

    fn files(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_lock_without_a_socket_is_removed_too_once_it_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let _own = Claim::take(ProxyKind::Connect, &[folder.path().to_owned()]).unwrap();
        leave(folder.path(), "connect.7", false);
        fs::write(folder.path().join("other.lock"), "").unwrap();
        until_blocking("the removal", || {
            names(folder.path()).is_empty() && files(folder.path()) == 2
        });
    }

    #[test]
    fn each_program_that_starts_removes_a_few_sockets_that_were_left() {
        let folder = tempfile::tempdir().unwrap();
        let _own = Claim::take(ProxyKind::Connect, &[folder.path().to_owned()]).unwrap();
        for number in 0..6 {
            leave(folder.path(), &format!("connect.{number}"), number % 2 == 0);
        }
        fs::write(folder.path().join("ssh.9.lock"), "").unwrap();
        // A process that another test starts may have the locks for a moment.
        until_blocking("the removal", || {
            sweep(folder.path());
            files(folder.path()) == 2
        });
        assert!(folder.path().join("ssh.9.lock").exists(), "it is new");
    }

    #[test]
    fn programs_are_listed_by_kind_and_process() {
        let folder = tempfile::tempdir().unwrap();
        let names =
            ["ssh.3", "sproxy.20", "sproxy.3", "cproxy.9", "odd", "connect.4-2", "one-user.1"];
        let _listeners: Vec<_> = names
            .iter()
            .map(|name| UnixListener::bind(folder.path().join(format!("{name}.sock"))).unwrap())
            .collect();
        let found = find(&[folder.path().to_owned()]);
        let listed: Vec<_> = found.iter().map(|it| it.name.as_str()).collect();
        let expected =
            ["cproxy.9", "connect.4-2", "ssh.3", "sproxy.3", "sproxy.20", "one-user.1", "odd"];
        assert_eq!(listed, expected);
        assert_eq!(found[1].kind(), Some(ProxyKind::Connect));
        assert_eq!(found[0].user, Some(geteuid().as_raw()));
    }

    #[test]
    fn only_control_sockets_that_listen_are_taken_from_the_list_of_the_system() {
        let line = |flags: &str, path: &str| {
            format!("0000000012345678: 00000002 00000000 {flags} 0001 01 48283 {path}")
        };
        let name = |line: String| listening(&line).map(|(_, name)| name);
        let at = "/run/user/1000/eternaltcp/ssh.4711.sock";
        assert_eq!(name(line("00010000", at)), Some("ssh.4711".to_owned()));
        let spaced = "/home/a b/.local/state/eternaltcp/control/cproxy.5-2.sock";
        assert_eq!(name(line("00010000", spaced)), Some("cproxy.5-2".to_owned()));
        for (flags, path) in [
            ("00000000", at),
            ("00010000", "@/ssh.4711.sock"),
            ("00010000", "ssh.4711.sock"),
            ("00010000", "/run/docker.sock"),
            ("00010000", "/run/ssh.4711"),
            ("zz", at),
        ] {
            assert_eq!(name(line(flags, path)), None, "{flags} {path}");
        }
        assert_eq!(listening("Num       RefCount Protocol Flags    Type St Inode Path"), None);
    }
}
