//! `etcp keygen`: creates an Ed25519 key pair on a machine without ssh, and shows what a key file
//! holds.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use eternaltcp::clean;
use eternaltcp::tls::{IdentityError, NewKey, PrivateFile, PublicKey};
use zeroize::Zeroizing;

use crate::cli::KeygenArgs;
use crate::exit::ExitError;
use crate::print::lines as print;
use crate::{passphrase, paths};

/// The shortest passphrase, as for ssh-keygen.
const MIN_PASSPHRASE: usize = 5;
/// The longest file of public keys that is read.
const MAX_FILE: u64 = 1 << 20;

pub(crate) fn run(args: KeygenArgs) -> Result<(), ExitError> {
    let path = match args.file.or(args.path) {
        Some(path) => path,
        None => paths::ssh("id_ed25519")?,
    };
    if args.list {
        return list(&path);
    }
    if args.public {
        return show(&path);
    }
    let comment = args.comment.unwrap_or_else(default_comment);
    if comment.chars().any(char::is_control) {
        return Err(ExitError::Usage("a comment is one line of text".to_owned()));
    }
    let say = |text: &str| if args.quiet { Ok(()) } else { print(text) };
    say("Generating public/private ed25519 key pair.")?;
    let replace = path.symlink_metadata().is_ok();
    if replace && !may_replace(&path)? {
        return Err(exists(&path));
    }
    let passphrase = match args.new_passphrase {
        Some(passphrase) => check_length(passphrase.into())?,
        None => ask_passphrase()?,
    };
    let key = NewKey::generate(&comment).map_err(ExitError::failed)?;
    if !key.write(&path, &passphrase, replace).map_err(ExitError::failed)? {
        return Err(exists(&path));
    }
    let name = path.display();
    say(&format!(
        "Your identification has been saved in {name}\nYour public key has been saved in {name}.pub\n\
         The key fingerprint is:\n{} {comment}\nThe key's randomart image is:\n{}",
        key.fingerprint(),
        key.randomart(),
    ))
}

fn exists(path: &Path) -> ExitError {
    ExitError::Failed(format!("{} already exists: name another file with -f", path.display()))
}

/// Asks on the terminal whether a key may be overwritten.
fn may_replace(path: &Path) -> Result<bool, ExitError> {
    let Some(mut terminal) = passphrase::open_terminal() else { return Ok(false) };
    let prompt = format!("{} already exists.\nOverwrite (y/n)? ", path.display());
    terminal.write_all(prompt.as_bytes()).map_err(ExitError::failed)?;
    let mut answer = String::new();
    BufReader::new(terminal).read_line(&mut answer).map_err(ExitError::failed)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn ask_passphrase() -> Result<Zeroizing<String>, ExitError> {
    let ask = |prompt| {
        passphrase::ask(prompt).map_err(ExitError::failed)?.ok_or_else(|| {
            ExitError::Usage(
                "nobody can be asked for a passphrase: give one with -N ('' for none)".to_owned(),
            )
        })
    };
    loop {
        let first = ask("Enter passphrase (empty for no passphrase): ")?;
        if *first == *ask("Enter same passphrase again: ")? {
            return check_length(first);
        }
        print("Passphrases do not match.  Try again.")?;
    }
}

fn check_length(passphrase: Zeroizing<String>) -> Result<Zeroizing<String>, ExitError> {
    match passphrase.chars().count() {
        0 | MIN_PASSPHRASE.. => Ok(passphrase),
        _ => {
            Err(ExitError::Usage(format!("a passphrase has at least {MIN_PASSPHRASE} characters")))
        }
    }
}

/// Returns the comment that ssh-keygen writes.
fn default_comment() -> String {
    let user = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let system = rustix::system::uname();
    format!("{}@{}", user.unwrap_or_else(|| "user".to_owned()), system.nodename().to_string_lossy())
}

/// Prints the public half of a private key.
fn show(path: &Path) -> Result<(), ExitError> {
    let file = PrivateFile::read(path).map_err(ExitError::failed)?;
    let line = format!("{} {}", file.public_key(), file.comment());
    print(line.trim_end())
}

/// Prints the fingerprints of a file with one private key, or with public keys.
fn list(path: &Path) -> Result<(), ExitError> {
    let (key, comment) = match PrivateFile::read(path) {
        Ok(file) => (file.public_key().clone(), file.comment().to_owned()),
        Err(IdentityError::Malformed { .. } | IdentityError::Exposed { .. }) => {
            return list_public(path);
        }
        Err(error) => return Err(ExitError::failed(error)),
    };
    let beside = PathBuf::from(format!("{}.pub", path.display()));
    // If the key has a passphrase, only the public half has its comment.
    let comment = match comment.is_empty() {
        true => std::fs::read_to_string(beside).map(|text| comment_of(&text)).unwrap_or_default(),
        false => comment,
    };
    print(&describe(&key, &comment))
}

fn list_public(path: &Path) -> Result<(), ExitError> {
    let failed = |error| ExitError::Failed(format!("{}: {error}", path.display()));
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_FILE), &mut bytes)
        .map_err(failed)?;
    // A comment may be in any encoding.
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().filter_map(|line| {
        let key = PublicKey::from_openssh(line).ok()?;
        Some(describe(&key, &comment_of(line)))
    });
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() {
        let why = "no ssh-ed25519 or ecdsa-sha2-nistp256 key in it";
        return Err(ExitError::Failed(format!("{}: {why}", path.display())));
    }
    print(&lines.join("\n"))
}

/// Formats a key as `ssh-keygen -l` does. Both types have 256 bits.
fn describe(key: &PublicKey, comment: &str) -> String {
    // The key may belong to somebody else.
    let comment = if comment.is_empty() { "no comment".into() } else { clean(comment) };
    let kind = if key.to_string().starts_with("ssh-ed25519") { "ED25519" } else { "ECDSA" };
    format!("256 {} {comment} ({kind})", key.fingerprint())
}

fn comment_of(line: &str) -> String {
    line.split_whitespace().skip(2).collect::<Vec<_>>().join(" ")
}
