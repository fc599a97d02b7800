//! The name of a client's instance, which stays the same over restarts and is unique among clients.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use eternaltcp_proto::Instance;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use tracing::debug;

use crate::container::{self, container_boot};
use crate::paths;

/// The length of a machine's id: 128 bits in hexadecimal digits (machine-id(5)).
const ID_LENGTH: usize = 32;

/// The maximum number of attempts to lock the file of the id, with a pause between them: ten
/// seconds in total.
const LOCK_TRIES: u32 = 1_000;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Returns this machine, its current boot, this user, and `name`.
///
/// The machine's id is sent as a keyed hash, because machine-id(5) asks not to expose it. A machine
/// without an id, and a container, which may have the id of its image or host, have a random one in
/// the file `client_id` of the state folder.
#[must_use]
pub fn this_instance(name: impl Into<String>) -> Instance {
    static MACHINE: OnceLock<(String, String)> = OnceLock::new();
    let (machine, boot) = MACHINE.get_or_init(this_machine).clone();
    Instance {
        machine: machine.into(),
        boot: boot.into(),
        user: rustix::process::getuid().as_raw().to_string().into(),
        name: short(name.into()).into(),
    }
}

/// Returns the hash of the machine's id, and its boot.
fn this_machine() -> (String, String) {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let boot = boot.trim().to_owned();
    let is_container = container::is_here(Path::new("/"));
    let id = if is_container { None } else { machine_id(Path::new("/etc/machine-id")) };
    let id = id.unwrap_or_else(|| {
        let file = paths::state().ok().map(|folder| folder.join("client_id"));
        file.and_then(|file| kept_id(&file)).unwrap_or_else(|| {
            debug!("this client cannot keep an id: it uses one for this process only");
            random_id()
        })
    });
    // All containers share the kernel's boot.
    (hashed(&id), if is_container { short(format!("{boot} {}", container_boot())) } else { boot })
}

/// Returns the id in this file, unless it is one that several machines may have.
fn machine_id(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let id = text.trim();
    let is_id = id.len() == ID_LENGTH
        && id.bytes().all(|byte| byte.is_ascii_hexdigit())
        && id.bytes().any(|byte| byte != b'0');
    is_id.then(|| id.to_owned())
}

/// Returns the id in this file, and creates the file if it is missing; `None` if the id cannot be
/// stored. Processes that start at the same time get the same id.
fn kept_id(path: &Path) -> Option<String> {
    machine_id(path).or_else(|| make_id(path).ok())
}

/// Writes an id into the file, unless another process has done so meanwhile, and returns the one in
/// the file. The file is locked and never removed. A reader that finds no id yet waits for the
/// lock.
fn make_id(path: &Path) -> io::Result<String> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().mode(0o700).recursive(true).create(folder)?;
    }
    let mut options = File::options();
    let mut file = options.read(true).write(true).create(true).mode(0o600).open(path)?;
    lock(&file)?;
    if let Some(id) = machine_id(path) {
        return Ok(id);
    }
    // The contents are not an id, as in an image that was made to be copied.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.set_len(0)?;
    let id = random_id();
    writeln!(file, "{id}")?;
    machine_id(path).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Locks the file until it is closed. A process holds the lock only briefly.
///
/// # Errors
/// The lock is not free in time, or the file cannot be locked.
fn lock(file: &File) -> io::Result<()> {
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            result => return Ok(result?),
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn random_id() -> String {
    let mut bytes = [0; ID_LENGTH / 2];
    if getrandom::fill(&mut bytes).is_err() {
        // An identification by the process is better than none.
        return std::process::id().to_string();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Replaces a name that is too long for the protocol by its hash.
fn short(name: String) -> String {
    if name.len() > 200 { hashed(&name) } else { name }
}

fn hashed(id: &str) -> String {
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(id.as_bytes()) else { return String::new() };
    mac.update(b"eternaltcp instance");
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_constant_and_hides_the_machine_id() {
        let instance = this_instance("127.0.0.1:5200");
        assert_eq!(instance, this_instance("127.0.0.1:5200"));
        assert_eq!(instance.machine.len(), 40);
        if let Ok(id) = fs::read_to_string("/etc/machine-id") {
            assert_ne!(instance.machine, id.trim());
        }
    }

    #[test]
    fn an_id_that_several_machines_may_have_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("machine-id");
        assert_eq!(machine_id(&path), None);
        let zeros = "0".repeat(32);
        for text in [
            "",
            "\n",
            "uninitialized\n",
            &zeros,
            "0123456789abcdef",
            "not 32 hexadecimal digits at all",
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(machine_id(&path), None, "{text:?}");
        }
        fs::write(&path, "0123456789abcdef0123456789abcdef\n").unwrap();
        assert_eq!(machine_id(&path).unwrap(), "0123456789abcdef0123456789abcdef");
    }

    #[test]
    fn a_kept_id_is_made_once_for_all_that_start_together_and_for_its_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/client_id");
        let start_together = || {
            let ids: Vec<_> = std::thread::scope(|scope| {
                let start = || scope.spawn(|| kept_id(&path).unwrap());
                let threads: Vec<_> = (0..16).map(|_| start()).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(ids.iter().all(|id| *id == ids[0] && id.len() == ID_LENGTH), "{ids:?}");
            ids
        };
        for round in 0..50 {
            let ids = start_together();
            match round % 2 {
                0 => fs::remove_file(&path).unwrap(),
                _ => fs::write(&path, "uninitialized, and longer than any id may ever be").unwrap(),
            }
            assert_ne!(start_together(), ids);
        }
        let ids = start_together();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "").unwrap();
        let other = kept_id(&path).unwrap();
        assert_ne!(other, ids[0], "an image without an id");
        assert_eq!(kept_id(&path).unwrap(), other);
        assert_eq!(kept_id(&path.join("below")), None, "it cannot be kept there");
    }
}
