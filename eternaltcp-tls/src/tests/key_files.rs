//! The forms that a private-key file may have, compared with ssh-keygen if that is installed.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64ct::{Base64, Encoding as _};

use crate::{Identity, IdentityError, PrivateFile, PublicKey};

const WHOLE: &str = include_str!("keys/ed25519");
const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\n";
const END: &str = "-----END OPENSSH PRIVATE KEY-----\n";

/// The position of the private part's length in `WHOLE`.
const PRIVATE: usize = 94;

/// Returns the base64 of `WHOLE`, in one line.
fn base64() -> String {
    WHOLE.strip_prefix(BEGIN).unwrap().strip_suffix(END).unwrap().replace('\n', "")
}

fn folded(width: usize, end: &str) -> String {
    let lines: Vec<_> = base64().as_bytes().chunks(width).map(<[u8]>::to_vec).collect();
    lines.into_iter().map(|line| String::from_utf8(line).unwrap() + end).collect()
}

/// Returns a file whose private part ends with this comment and this many bytes of padding.
fn ending(comment: &[u8], padding: usize) -> String {
    let mut blob = Base64::decode_vec(&base64()).unwrap();
    let start = PRIVATE;
    let fixed = 8 + 4 + 11 + 4 + 32 + 4 + 64;
    let mut private = blob[start + 4..start + 4 + fixed].to_vec();
    private.extend(u32::try_from(comment.len()).unwrap().to_be_bytes());
    private.extend(comment);
    let shortest = private.len().next_multiple_of(8) - private.len();
    private.extend((1..).take(shortest + padding));
    blob.truncate(start);
    blob.extend(u32::try_from(private.len()).unwrap().to_be_bytes());
    blob.extend(private);
    format!("{BEGIN}{}\n{END}", Base64::encode_string(&blob))
}

fn read(content: &[u8]) -> Result<PrivateFile, IdentityError> {
    let folder = tempfile::tempdir().unwrap();
    PrivateFile::read(&write(folder.path(), content))
}

fn write(folder: &Path, content: &[u8]) -> std::path::PathBuf {
    let path = folder.join("id");
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

/// Returns whether ssh-keygen reads the file; `None` without ssh-keygen.
fn is_read_by_ssh(content: &[u8]) -> Option<bool> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("ssh-keygen");
    command.args(["-y", "-P", "", "-f"]).arg(write(folder.path(), content));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().ok().map(|status| status.success())
}

#[test]
fn a_key_is_read_in_lines_of_any_width_and_with_any_text_around_it() {
    let key = read(WHOLE.as_bytes()).unwrap().public_key().clone();
    let whole = |text: &str| format!("{BEGIN}{text}{END}");
    let of_ssh = [
        whole(&folded(1, "\n")),
        whole(&folded(60, "\n")),
        whole(&folded(64, "\n")),
        whole(&folded(76, "\n")),
        whole(&folded(1000, "\n")),
        whole(&folded(70, "\n\n")),
        whole(&folded(70, "  \n\t")).replace("\t-----END", "-----END"),
        format!("{WHOLE}\n\n"),
        format!("{WHOLE}the key of the build machine\n"),
        format!("{WHOLE}{}", "long text\n".repeat(20_000)),
    ];
    let of_others = [
        format!("\n\n{WHOLE}"),
        format!("\u{feff}{WHOLE}"),
        format!("the key of the build machine\n{WHOLE}"),
        WHOLE.replace('\n', "\r\n"),
        WHOLE.trim_end().to_owned(),
    ];
    for (text, ssh) in
        of_ssh.iter().map(|text| (text, Some(true))).chain(of_others.iter().map(|it| (it, None)))
    {
        let file = read(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(file.identity().unwrap().public_key(), key, "{text}");
        if let (Some(expected), Some(found)) = (ssh, is_read_by_ssh(text.as_bytes())) {
            assert_eq!(found, expected, "ssh-keygen: {text}");
        }
    }
}

#[test]
fn a_key_is_read_with_any_comment_and_any_padding() {
    let key = read(WHOLE.as_bytes()).unwrap().public_key().clone();
    let long = "x".repeat(100_000);
    for (comment, shown) in [
        (&b""[..], ""),
        (b"me@host", "me@host"),
        ("Jos\u{e9}'s cl\u{e9} \u{1f511}".as_bytes(), "Jos\u{e9}'s cl\u{e9} \u{1f511}"),
        (b"Jos\xe9", "Jos\u{fffd}"),
        (long.as_bytes(), long.as_str()),
    ] {
        // PuTTYgen pads to 16 bytes, and by at least one.
        for padding in [0, 8, 16] {
            let text = ending(comment, padding);
            let file = read(text.as_bytes()).unwrap();
            assert_eq!((file.public_key(), file.comment()), (&key, shown));
            file.identity().unwrap();
            assert_ne!(is_read_by_ssh(text.as_bytes()), Some(false), "{shown} and {padding}");
        }
    }
}

#[test]
fn a_scalar_that_begins_with_a_zero_is_shorter_in_its_file_and_read() {
    let text = include_bytes!("keys/ecdsa-p256-short");
    let folder = tempfile::tempdir().unwrap();
    let identity = Identity::load(&write(folder.path(), text)).unwrap();
    let fingerprint = "SHA256:0ZGu+MWKgKum8MWwHAXVtVG5DCKa+EUx9zB67KPrybk";
    assert_eq!(identity.public_key().fingerprint(), fingerprint);
}

#[test]
fn a_key_file_with_a_changed_byte_is_refused_or_unchanged() {
    let key = read(WHOLE.as_bytes()).unwrap().public_key().clone();
    let blob = Base64::decode_vec(&base64()).unwrap();
    let mut unnoticed = 0;
    for at in 0..blob.len() {
        let mut blob = blob.clone();
        blob[at] ^= 0x10;
        let text = format!("{BEGIN}{}\n{END}", Base64::encode_string(&blob));
        if let Ok(identity) = read(text.as_bytes()).and_then(|file| file.identity()) {
            assert_eq!(identity.public_key(), key, "byte {at}");
            unnoticed += 1;
        }
    }
    // A comment of ten bytes stands for any other, as few lengths need two forms.
    assert!(unnoticed < 16, "{unnoticed}");
}

#[test]
fn other_formats_are_named_with_the_program_that_converts_them() {
    let complaint = |text: &str| read(text.as_bytes()).unwrap_err().to_string();
    let pem = include_str!("keys/pem");
    for text in [pem.to_owned(), format!("\n\n{pem}"), pem.replace('\n', "\r\n")] {
        assert!(complaint(&text).contains("ssh-keygen -p -f "), "{text}");
    }
    let putty = "PuTTY-User-Key-File-3: ssh-ed25519\r\nEncryption: none\r\n";
    assert!(complaint(putty).contains("puttygen "), "{}", complaint(putty));
    let half = WHOLE.split("-----END").next().unwrap();
    assert!(complaint(half).contains("there is no line END"), "{}", complaint(half));
}

#[test]
fn a_public_key_is_read_with_any_blanks_and_any_comment() {
    let key = "AAAAC3NzaC1lZDI1NTE5AAAAIOZ8cHXggwNa8w4hZ7orTUBBqDWynLjA2dSMmmq0KF9+";
    for text in [
        format!("ssh-ed25519 {key}"),
        format!("  ssh-ed25519 {key}  \r\n"),
        format!("ssh-ed25519\t{key}\tme\n"),
        format!("ssh-ed25519   {key} Jos\u{e9} at \u{fffd}, of many words"),
    ] {
        assert!(PublicKey::from_openssh(&text).is_ok(), "{text:?}");
    }
}
