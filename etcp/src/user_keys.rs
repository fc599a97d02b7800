//! The keys that a client proves, and their order: those of the agent and those in files, as in
//! ssh.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use eternaltcp::CleanText;
use eternaltcp::client::{LoadKey, MAX_KEYS, UserKey, UserKeys};
use eternaltcp::report::counted;
use eternaltcp::tls::{Agent, AgentKey, Identity, IdentityError, PrivateFile, PublicKey};
use tracing::{debug, info, warn};

use crate::exit::ExitError;
use crate::passphrase;

/// The number of times that a passphrase may be typed, as in ssh.
const TRIES: usize = 3;

/// The files that may hold keys.
pub(crate) struct Sources {
    pub(crate) agent: Option<Agent>,
    pub(crate) files: Vec<PathBuf>,
    /// The user named these files: a fault in one is an error.
    pub(crate) are_named: bool,
    /// Keys of the agent that are in none of the files are not tried.
    pub(crate) is_files_only: bool,
}

/// A key, and all ways to use it.
struct FoundKey {
    public: PublicKey,
    /// The comment of the key in the agent, if the agent holds it.
    comment: Option<CleanText>,
    file: Option<FoundFile>,
}

struct FoundFile {
    path: PathBuf,
    /// The file of the private half; unset if the file is a public key.
    kind: FileKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FileKind {
    Plain,
    Encrypted,
    Public,
}

impl Sources {
    /// Returns the keys in the order in which they are tried.
    pub(crate) fn keys(self) -> Result<UserKeys, ExitError> {
        let mut notes = Vec::new();
        let held = self.ask_agent(&mut notes);
        let mut found = self.read_files(&mut notes)?;
        let in_files = found.len();
        let mut strangers = Vec::new();
        for (public, comment) in held {
            match found.iter_mut().find(|known| known.public == public) {
                Some(known) => known.comment = Some(comment),
                None => strangers.push(FoundKey { public, comment: Some(comment), file: None }),
            }
        }
        if !self.is_files_only {
            found.extend(strangers);
        }
        if !self.are_named {
            // As in ssh: keys of the agent first, and among them those that are also in files.
            found.sort_by_key(|found| found.comment.is_none());
        }
        let usable = found.iter().filter_map(|found| self.key(found, &mut notes));
        let keys: Vec<_> = usable.collect();
        debug!("{} to try, {in_files} of them in files", counted(keys.len(), "key", "keys"));
        if let Some(more) = keys.len().checked_sub(MAX_KEYS).filter(|more| *more > 0) {
            let more = counted(more, "more key is", "more keys are");
            info!("{more} not tried: name the right one with -i");
        }
        UserKeys::from_list(keys).ok_or_else(|| ExitError::Failed(nothing(&notes)))
    }

    /// Returns the keys of the agent that a carrier can use.
    fn ask_agent(&self, notes: &mut Vec<String>) -> Vec<(PublicKey, CleanText)> {
        let Some(agent) = &self.agent else { return Vec::new() };
        let keys = agent.keys().unwrap_or_else(|error| {
            debug!("{error}");
            notes.push(error.to_string());
            Vec::new()
        });
        if keys.is_empty() && notes.is_empty() {
            notes.push("the agent holds no key (ssh-add adds one)".to_owned());
        }
        let usable = keys.into_iter().filter_map(|AgentKey { key, comment }| match key {
            Ok(key) => Some((key, comment)),
            Err(kind) => {
                notes.push(unusable(&kind, &comment));
                None
            }
        });
        usable.collect()
    }

    fn read_files(&self, notes: &mut Vec<String>) -> Result<Vec<FoundKey>, ExitError> {
        let mut found: Vec<FoundKey> = Vec::new();
        for path in &self.files {
            match read(path) {
                Ok((public, kind)) => {
                    if found.iter().all(|known| known.public != public) {
                        let file = Some(FoundFile { path: path.clone(), kind });
                        found.push(FoundKey { public, comment: None, file });
                    }
                }
                Err(error) if self.are_named => return Err(ExitError::failed(error)),
                Err(IdentityError::Missing { .. }) => {}
                Err(error) => {
                    debug!("{error}");
                    notes.push(error.to_string());
                }
            }
        }
        Ok(found)
    }

    /// Chooses the way to use a key: its file if that is enough, else the agent, else the file with
    /// its passphrase.
    fn key(&self, found: &FoundKey, notes: &mut Vec<String>) -> Option<UserKey> {
        let path = found.file.as_ref().map(|file| file.path.clone());
        let name = path.as_ref().map(|path| path.display().to_string());
        let kind = found.file.as_ref().map(|file| file.kind);
        let load: LoadKey = match (kind, path, &found.comment, &self.agent) {
            (Some(FileKind::Plain), Some(path), ..) => Arc::new(move || {
                PrivateFile::read(&path).and_then(|file| file.identity()).map_err(|e| e.to_string())
            }),
            (_, _, Some(comment), Some(agent)) => {
                let identity = Identity::of_agent(agent.clone(), found.public.clone());
                let name = format!("{} in the agent", name.as_deref().unwrap_or(comment));
                let load = Arc::new(move || Ok(identity.clone()));
                return Some(UserKey::new(name, found.public.clone(), load));
            }
            (Some(FileKind::Encrypted), Some(path), ..) => Arc::new(move || decrypt(&path)),
            (_, path, ..) => {
                let path = path.unwrap_or_default();
                notes.push(format!(
                    "{}: only the public half is there, and no agent has the private one: run: ssh-add",
                    path.display()
                ));
                return None;
            }
        };
        Some(UserKey::new(name.unwrap_or_default(), found.public.clone(), load))
    }
}

/// Reads the public half of a key file, and its kind.
fn read(path: &Path) -> Result<(PublicKey, FileKind), IdentityError> {
    let error = match PrivateFile::read(path) {
        Ok(file) if file.is_encrypted() => {
            return Ok((file.public_key().clone(), FileKind::Encrypted));
        }
        Ok(file) => return Ok((file.public_key().clone(), FileKind::Plain)),
        Err(error) => error,
    };
    // As in ssh, a public key alone names a key of the agent.
    let beside = PathBuf::from(format!("{}.pub", path.display()));
    let public = match &error {
        IdentityError::Malformed { .. } | IdentityError::Exposed { .. } => public_key(path),
        IdentityError::Missing { .. } => public_key(&beside),
        _ => None,
    };
    match public {
        Some(Ok(public)) => Ok((public, FileKind::Public)),
        Some(Err(kind)) => Err(IdentityError::Unsupported { path: path.into(), kind }),
        None => Err(error),
    }
}

/// Returns the public key in a file, or the type of one that cannot be used. Returns `None` if the
/// file has no public key.
fn public_key(path: &Path) -> Option<Result<PublicKey, String>> {
    let file = std::fs::File::open(path).ok()?;
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, 1 << 20), &mut bytes).ok()?;
    // A comment may have any encoding. As in ssh, the first line with a key counts.
    let text = String::from_utf8_lossy(&bytes);
    let mut kind = None;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if let Ok(key) = PublicKey::from_openssh(line) {
            return Some(Ok(key));
        }
        let word = line.split_whitespace().next().unwrap_or_default();
        let is_kind = ["ssh-", "sk-", "ecdsa-sha2-"].iter().any(|start| word.starts_with(start));
        kind = kind.or_else(|| is_kind.then(|| word.to_owned()));
    }
    kind.map(Err)
}

/// Asks for the passphrase, at most three times.
fn decrypt(path: &Path) -> Result<Identity, String> {
    let file = PrivateFile::read(path).map_err(|error| error.to_string())?;
    let prompt = format!("Enter passphrase for key '{}': ", path.display());
    let mut wrong = String::new();
    for number in 0..TRIES {
        let again = if number > 0 { "Bad passphrase, try again for key" } else { "" };
        let prompt = match again {
            "" => prompt.clone(),
            again => format!("{again} '{}': ", path.display()),
        };
        let asked = passphrase::ask(&prompt).map_err(|error| {
            format!("{}: no passphrase: {error}; or run: ssh-add", path.display())
        })?;
        let Some(passphrase) = asked else {
            return Err(IdentityError::Encrypted { path: path.into() }.to_string());
        };
        if passphrase.is_empty() {
            return Err(format!("{}: no passphrase was given", path.display()));
        }
        match file.decrypt(&passphrase) {
            Ok(identity) => return Ok(identity),
            Err(error @ IdentityError::WrongPassphrase { .. }) => wrong = error.to_string(),
            Err(error) => return Err(error.to_string()),
        }
    }
    warn!("{wrong}");
    Err(wrong)
}

/// Explains why a key in the agent is ignored, and what to do.
fn unusable(kind: &str, comment: &str) -> String {
    let why = match kind {
        kind if kind.contains("-cert-") => "certificates are not supported",
        kind if kind.starts_with("sk-") => "a hardware key does not sign what TLS wants",
        "ssh-rsa" => "an agent's RSA signatures are not those of TLS 1.3",
        _ => "TLS does not have it here",
    };
    format!("the agent's key {comment} ({kind}) cannot be used: {why}")
}

fn nothing(notes: &[String]) -> String {
    let notes: String = notes.iter().map(|note| format!("{note}; ")).collect();
    format!(
        "{notes}no key that can be used: make one with: etcp keygen (or ssh-keygen -t ed25519), or \
         name one with -i"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unusable_key_is_reported_with_the_reason_and_a_remedy() {
        for (kind, why) in [
            ("ssh-rsa", "RSA"),
            ("sk-ssh-ed25519@openssh.com", "hardware"),
            ("ssh-ed25519-cert-v01@openssh.com", "certificates"),
            ("ssh-odd", "TLS does not have it"),
        ] {
            let text = unusable(kind, "mine");
            assert!(text.contains(kind) && text.contains(why) && text.contains("mine"), "{text}");
        }
        let text = nothing(&["a".into(), "b".into()]);
        assert!(text.starts_with("a; b; no key") && text.contains("etcp keygen"), "{text}");
    }
}
