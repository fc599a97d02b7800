//! Reads and writes the files of policy.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{AuthorizedKeys, HostKey, HostSearch, StrictModes};
use eternaltcp_tls::PublicKey;

/// The largest `authorized_keys` that is read.
const MAX_FILE: u64 = 8 << 20;
/// The number of bytes of a `known_hosts` file that are read at once.
const BUFFER: usize = 64 * 1024;

/// A file of policy that cannot be used, as opposed to an empty one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// There is no such file.
    #[error(
        "{0} does not exist: create it with the public keys that may connect, one on each line"
    )]
    Missing(PathBuf),
    /// It cannot be opened or read.
    #[error("cannot read {0}: {1} (make it readable for this user, or name another file)")]
    Unreadable(PathBuf, #[source] io::Error),
    /// It cannot be written, or its folder cannot be created.
    #[error("cannot add a line to {0}: {1} (make it writable for this user, or name another file)")]
    Unwritable(PathBuf, #[source] io::Error),
    /// It is a folder, a device or a pipe.
    #[error("{0} is not a regular file: name another file")]
    NotRegular(PathBuf),
    /// It is larger than a file of keys can reasonably be.
    #[error("{0} is larger than 8 MiB: remove lines, or name another file")]
    TooLarge(PathBuf),
    /// Users other than its owner could admit themselves, through the file or a folder above it.
    #[error("others may write to {path} (mode {mode:04o}): run chmod go-w {path}")]
    WritableByOthers {
        /// The file, or the folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is below a folder in which everybody may create files, such as `/tmp`.
    #[error(
        "everybody may write to {path} (mode {mode:04o}): keep the file in a folder of your own"
    )]
    InSharedFolder {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file, or a folder above it, belongs to another user.
    #[error(
        "{path} belongs to user {owner}, and is trusted only if it belongs to user {user} or to root: run chown {user} {path}"
    )]
    WrongOwner {
        /// The file, or the folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The required owner.
        user: u32,
    },
}

/// Reads an `authorized_keys` file, and returns the opened file with its keys. If `modes` must be
/// observed, a file that others could change or replace is not trusted.
///
/// # Errors
/// The file is missing, cannot be read, or must not be trusted.
pub(crate) fn open_authorized_keys(
    path: &Path,
    modes: Option<&StrictModes>,
) -> Result<(AuthorizedKeys, File), FileError> {
    let file = open(path).map_err(|error| missing_or_unreadable(path, error))?;
    let metadata = file.metadata().map_err(|e| FileError::Unreadable(path.to_owned(), e))?;
    modes.map_or(Ok(()), |modes| modes.check(path, &metadata))?;
    Ok((AuthorizedKeys::parse(&read(path, &file)?), file))
}

/// Reads an `authorized_keys` file as a server does.
///
/// # Errors
/// The file is missing, cannot be read, or must not be trusted.
pub fn load_authorized_keys(
    path: &Path,
    modes: Option<&StrictModes>,
) -> Result<AuthorizedKeys, FileError> {
    open_authorized_keys(path, modes).map(|(keys, _)| keys)
}

/// Returns the reason why a required file cannot be opened.
pub(crate) fn missing_or_unreadable(path: &Path, error: io::Error) -> FileError {
    match error.kind() {
        io::ErrorKind::NotFound => FileError::Missing(path.to_owned()),
        _ => FileError::Unreadable(path.to_owned(), error),
    }
}

/// Checks a server's key against a `known_hosts` file of any size, which is read completely. A
/// missing file has no entries.
///
/// # Errors
/// The file exists and cannot be read.
pub fn check_known_hosts(
    path: &Path,
    search: &HostSearch,
    key: &PublicKey,
) -> Result<HostKey, FileError> {
    let checked = read_known_hosts(path, |file| search.check(file, key))?;
    Ok(checked.unwrap_or(HostKey::Unknown))
}

/// Returns the first line of a `known_hosts` file, counted from 1, by which ssh would trust certificates
/// of a server. A file that cannot be read has none.
pub(crate) fn find_authority(path: &Path, search: &HostSearch) -> Option<usize> {
    read_known_hosts(path, |file| search.find_authority(file)).ok().flatten().flatten()
}

/// Reads a `known_hosts` file. Returns `None` if there is none.
fn read_known_hosts<T>(
    path: &Path,
    read: impl FnOnce(BufReader<File>) -> io::Result<T>,
) -> Result<Option<T>, FileError> {
    if path == Path::new("/dev/null") {
        // Users of ssh name this file to mean "none".
        return Ok(None);
    }
    let unreadable = |error| FileError::Unreadable(path.to_owned(), error);
    let file = match open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(FileError::NotRegular(path.to_owned()));
    }
    read(BufReader::with_capacity(BUFFER, file)).map(Some).map_err(unreadable)
}

/// Adds a line to a `known_hosts` file in one write, so that lines of several programs do not mix.
/// Creates the file (mode 0600) and its folder (0700) if they are missing, and first ends an
/// unfinished last line.
///
/// # Errors
/// The folder, the file or the line cannot be written.
pub(crate) fn append_known_host(path: &Path, line: &str) -> Result<(), FileError> {
    append(path, line).map_err(|error| FileError::Unwritable(path.to_owned(), error))
}

/// Opens a file without waiting for the writer of a pipe.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Reads everything, with a replacement character for bytes that are not UTF-8: keys and options
/// are ASCII, and a comment may have any encoding.
fn read(path: &Path, file: &File) -> Result<String, FileError> {
    let unreadable = |error| FileError::Unreadable(path.to_owned(), error);
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(FileError::NotRegular(path.to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(FileError::TooLarge(path.to_owned()));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn append(path: &Path, line: &str) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut file =
        OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let text = if is_unfinished(&mut file)? { format!("\n{line}\n") } else { format!("{line}\n") };
    if file.write(text.as_bytes())? == text.len() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::WriteZero, "the line was written only in part"))
}

/// Returns whether the last line lacks its end.
fn is_unfinished(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use super::{super::test_keys::ED25519, *};
    use std::{
        fs,
        os::unix::fs::{MetadataExt, PermissionsExt},
    };

    fn file(text: impl AsRef<[u8]>, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn an_authorized_keys_file_is_read_also_with_a_comment_in_latin_1() {
        let text = [ED25519.as_bytes(), b" Andr\xe9\n"].concat();
        let (_folder, path) = file(text, 0o644);
        let keys = load_authorized_keys(&path, None).unwrap();
        assert_eq!((keys.len(), keys.warnings()), (1, &[][..]));
    }

    #[test]
    fn an_empty_file_is_not_an_error_and_a_missing_one_is() {
        let (folder, path) = file("", 0o600);
        assert!(load_authorized_keys(&path, None).unwrap().is_empty());
        let missing = load_authorized_keys(&folder.path().join("none"), None);
        assert!(matches!(missing, Err(FileError::Missing(_))));
        let folder = load_authorized_keys(folder.path(), None);
        assert!(matches!(folder, Err(FileError::NotRegular(_))));
    }

    #[test]
    fn a_file_that_others_may_write_to_is_not_believed() {
        for mode in [0o602, 0o646, 0o666] {
            let (folder, path) = file(ED25519, mode);
            let modes = StrictModes::of_this_user().at_home(folder.path());
            let error = load_authorized_keys(&path, Some(&modes)).unwrap_err().to_string();
            assert!(load_authorized_keys(&path, None).is_ok());
            assert!(error.ends_with(&format!("run chmod go-w {}", path.display())), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let (_folder, path) = file("#".repeat(1 + MAX_FILE as usize), 0o600);
        assert!(matches!(load_authorized_keys(&path, None), Err(FileError::TooLarge(_))));
    }

    #[test]
    fn a_known_hosts_file_may_be_large_and_must_be_a_file() {
        let key = PublicKey::from_openssh(ED25519).unwrap();
        let search = HostSearch::new(&"a".parse().unwrap());
        let check = |path: &Path| check_known_hosts(path, &search, &key);
        let many = format!("b,c,d,e {ED25519}\n").repeat(200_000);
        assert!(many.len() as u64 > MAX_FILE);
        let (folder, path) = file(format!("{many}[a]:6200 {ED25519}"), 0o600);
        assert_eq!(check(&path).unwrap(), HostKey::Known);
        assert!(matches!(check(folder.path()), Err(FileError::NotRegular(_))));
        assert!(matches!(check(&path.join("below")), Err(FileError::Unreadable(..))));
        for nothing in [Path::new("/dev/null"), &folder.path().join("none")] {
            assert_eq!(check(nothing).unwrap(), HostKey::Unknown);
        }
    }

    #[test]
    fn a_known_hosts_file_is_made_with_its_folder_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ssh/known_hosts");
        append_known_host(&path, "first").unwrap();
        append_known_host(&path, "second").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "first\nsecond\n");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    }

    #[test]
    fn an_unfinished_last_line_is_ended_first() {
        let (_folder, path) = file("first", 0o600);
        append_known_host(&path, "second").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "first\nsecond\n");
    }
}
