//! Private-key files: which are accepted, and the messages about the others.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::{Identity, IdentityError};

/// Copies the key `name` of `keys/` to `folder`, with the mode that ssh requires.
pub(super) fn install(folder: &Path, name: &str) -> PathBuf {
    let text = match name {
        "ed25519" => include_str!("keys/ed25519"),
        "ecdsa-p256" => include_str!("keys/ecdsa-p256"),
        "ecdsa-p384" => include_str!("keys/ecdsa-p384"),
        "rsa" => include_str!("keys/rsa"),
        "encrypted" => include_str!("keys/encrypted"),
        "pem" => include_str!("keys/pem"),
        other => panic!("no key {other}"),
    };
    write(folder, text.as_bytes())
}

fn write(folder: &Path, content: &[u8]) -> PathBuf {
    let path = folder.join("id");
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Returns the message about a file with `content`, with the path as `PATH`.
fn complaint(content: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), content);
    complaint_about(&path)
}

fn complaint_about(path: &Path) -> String {
    let text = Identity::load(path).unwrap_err().to_string();
    assert!(!text.contains('\n'), "{text}");
    text.replace(&path.display().to_string(), "PATH")
}

#[test]
fn keys_that_ssh_keygen_made_are_read() {
    for (name, fingerprint) in [
        ("ed25519", "SHA256:E/kPkXcDlovANkoEMDeTPUpYbMkhu4TYVhBTed9kv24"),
        ("ecdsa-p256", "SHA256:88tIu8AMCmDj5zbHUb6AtUFYbdjHImXhmjUqTzTP6Xc"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::load(&install(folder.path(), name)).unwrap();
        assert_eq!(identity.public_key().fingerprint(), fingerprint);
    }
}

#[test]
fn each_file_that_cannot_be_used_says_what_to_do() {
    for (name, expected) in [
        (
            "encrypted",
            "PATH: the key has a passphrase, and nobody can be asked for it: \
             run: ssh-add PATH (or use a key without one)",
        ),
        (
            "rsa",
            "PATH: key type ssh-rsa is not supported: use ssh-ed25519 \
             (ssh-keygen -t ed25519) or ecdsa-sha2-nistp256",
        ),
        (
            "ecdsa-p384",
            "PATH: key type ecdsa-sha2-nistp384 is not supported: use ssh-ed25519 \
             (ssh-keygen -t ed25519) or ecdsa-sha2-nistp256",
        ),
        ("pem", "PATH: not in OpenSSH's format: convert it with: ssh-keygen -p -f PATH"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(complaint_about(&install(folder.path(), name)), expected);
    }
}

#[test]
fn a_missing_key_says_how_to_make_one() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(
        complaint_about(&folder.path().join("none")),
        "PATH: no such key: make one with: ssh-keygen -t ed25519 -N '' -f PATH"
    );
}

#[test]
fn a_key_that_others_may_read_is_refused_with_the_command_that_mends_it() {
    for open in [0o644, 0o640, 0o620, 0o601] {
        let folder = tempfile::tempdir().unwrap();
        let path = install(folder.path(), "ed25519");
        fs::set_permissions(&path, Permissions::from_mode(open)).unwrap();
        assert_eq!(
            complaint_about(&path),
            format!(
                "PATH: permissions {open:04o} are too open for a private key: run: chmod 600 PATH"
            )
        );
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        Identity::load(&path).unwrap();
    }
}

#[test]
fn a_damaged_key_is_refused_at_whatever_length() {
    let whole = include_bytes!("keys/ed25519");
    for length in (0..whole.len() - 10).step_by(7) {
        let text = complaint(&whole[..length]);
        assert!(text.starts_with("PATH: not "), "{length}: {text}");
    }
}

#[test]
fn a_public_key_in_the_wrong_place_is_named() {
    let text = complaint(
        b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOZ8cHXggwNa8w4hZ7orTUBBqDWynLjA2dSMmmq0KF9+ me\n",
    );
    assert!(text.contains("it is a public key"), "{text}");
}

#[test]
fn a_file_that_is_too_long_is_not_read_whole() {
    assert_eq!(
        complaint(&[b'x'; 1_048_577]),
        "PATH: longer than 1048576 bytes, and therefore not a private key"
    );
    assert!(complaint(&[b'x'; 1_048_576]).contains("not an OpenSSH private key"));
}

#[test]
fn a_folder_is_not_a_key() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    assert!(complaint_about(folder.path()).starts_with("PATH: cannot read the private key: "));
}

#[test]
fn a_made_key_is_private_whole_and_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state/etcp/host_key");
    let made = Identity::load_or_create(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert_eq!(Identity::load_or_create(&path).unwrap().public_key(), made.public_key());

    let public = fs::read_to_string(folder.path().join("state/etcp/host_key.pub")).unwrap();
    assert_eq!(public, format!("{} eternaltcp\n", made.public_key()));
    let mut names: Vec<_> =
        fs::read_dir(path.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["host_key", "host_key.pub"], "drafts were left behind");
}

#[test]
fn processes_that_start_together_agree_on_one_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state/host_key");
    let made = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| Identity::load_or_create(&path).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap().public_key()).collect::<Vec<_>>()
    });
    assert!(made.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_key_that_exists_and_cannot_be_used_is_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), b"precious");
    assert!(matches!(Identity::load_or_create(&path), Err(IdentityError::Malformed { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn two_generated_keys_differ_and_neither_is_shown() {
    let (one, two) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    assert_ne!(one.public_key(), two.public_key());
    assert_eq!(format!("{one:?}"), format!("Identity({})", one.public_key().fingerprint()));
}
