//! Keys that no server may have any more: the file of `RevokedHostKeys` (ssh_config(5)).

use std::io::{self, Read};
use std::path::Path;

use super::files::open;
use super::{meaningful_lines, parse_key};
use eternaltcp_tls::{KeyError, PublicKey};

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 64 << 20;

/// The start of a key revocation list (PROTOCOL.krl of OpenSSH).
const KRL: &[u8] = b"SSHKRL\n\0";

/// Returns whether `file`, with one public key per line, revokes `key`. As for ssh, a line that is
/// not a key, a comment or blank spoils the file: it may be meant for `key`. Blocks.
///
/// # Errors
/// The reason why the file gives no answer: then no server can be trusted.
pub(crate) fn is_revoked(file: &Path, key: &PublicKey) -> Result<bool, String> {
    let failed = |why: &dyn std::fmt::Display| {
        format!(
            "no server is trusted, because the file of RevokedHostKeys, {}, {why}",
            file.display()
        )
    };
    let unreadable = |error: io::Error| failed(&format!("cannot be read: {error}"));
    let opened = open(file).map_err(unreadable)?;
    let found = opened.metadata().map_err(unreadable)?;
    if !found.is_file() {
        return Err(failed(&"is not a regular file"));
    }
    if found.len() > MAX_FILE {
        return Err(failed(&"is larger than 64 MiB"));
    }
    let mut bytes = Vec::new();
    (&opened).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.starts_with(KRL) {
        return Err(failed(
            &"is a key revocation list (KRL), which is not supported: list the public keys, one a line",
        ));
    }
    // A comment behind a key may have any encoding.
    for (line, text) in meaningful_lines(&String::from_utf8_lossy(&bytes)) {
        match parse_key(text) {
            Ok(revoked) if revoked == *key => return Ok(true),
            Ok(_) | Err(KeyError::Unsupported(_)) => {}
            Err(_) => return Err(failed(&format!("has no public key on line {line}"))),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use eternaltcp_tls::Identity;

    #[test]
    fn a_key_on_a_line_of_its_own_is_revoked_and_a_file_that_says_nothing_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("revoked");
        let [key, other] = [(); 2].map(|()| Identity::generate().unwrap().public_key());
        assert!(is_revoked(&file, &key).unwrap_err().contains("cannot be read"));
        assert!(is_revoked(folder.path(), &key).unwrap_err().contains("not a regular file"));
        let rsa = super::super::test_keys::RSA;
        let lines = format!("# old\n \r\n{rsa}\n  {key} of Andr");
        std::fs::write(&file, [lines.as_bytes(), b"\xe9\r\n"].concat()).unwrap();
        assert_eq!(is_revoked(&file, &key), Ok(true));
        assert_eq!(is_revoked(&file, &other), Ok(false));
        let fingerprint = key.fingerprint();
        for odd in ["odd line", &fingerprint, "ssh-ed25519 AAAA", "no-pty ", "host ", "\u{feff}"] {
            std::fs::write(&file, format!("{other}\n{odd}{key}\n")).unwrap();
            let why = is_revoked(&file, &key).unwrap_err();
            assert!(why.ends_with("has no public key on line 2"), "{odd}: {why}");
        }
        std::fs::write(&file, [KRL, &[0; 40]].concat()).unwrap();
        assert!(is_revoked(&file, &key).unwrap_err().contains("one a line"));
    }
}
