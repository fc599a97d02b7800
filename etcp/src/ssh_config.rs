//! What ssh's configuration says of a host, as `ssh -G` reports it. Its port is
//! that of sshd, and not used.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use tracing::debug;

/// How long ssh may take: `Match exec` runs programs.
const LIMIT: Duration = Duration::from_secs(10);
/// The most that is read of what it says.
const MOST: u64 = 1 << 20;
/// The most files of one kind.
const MOST_FILES: usize = 64;

/// Which configuration is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ConfigFile {
    /// Those that ssh reads: `~/.ssh/config` and `/etc/ssh/ssh_config`.
    Default,
    /// This one alone.
    File(PathBuf),
    /// None.
    None,
}

/// Where the agent is.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) enum AgentChoice {
    /// Where `$SSH_AUTH_SOCK` says.
    #[default]
    Environment,
    /// At this path, or where this variable (`$NAME`) says.
    At(String),
    /// There is to be none.
    None,
}

/// What to do about a server whose key is not known.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Strictness {
    /// Ask.
    #[default]
    Ask,
    /// Refuse it.
    Yes,
    /// Trust it, and keep its key.
    AcceptNew,
}

/// What ssh would use for a host. The default is what there is without ssh.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct SshConfig {
    /// The name or address to dial.
    pub(crate) hostname: Option<String>,
    /// The name in `known_hosts`.
    pub(crate) host_key_alias: Option<String>,
    /// As written: with `~` and `%` in it.
    pub(crate) identity_files: Vec<String>,
    /// Keys of the agent that are in none of these files are not tried.
    pub(crate) identities_only: bool,
    pub(crate) agent: AgentChoice,
    pub(crate) user_known_hosts: Vec<PathBuf>,
    pub(crate) global_known_hosts: Vec<PathBuf>,
    pub(crate) hash_known_hosts: bool,
    pub(crate) strictness: Strictness,
    /// The login at the host, for `%r`.
    pub(crate) user: String,
}

/// What is put in place of the tokens of a file's name (ssh_config, TOKENS).
pub(crate) struct Tokens<'a> {
    pub(crate) home: &'a Path,
    /// As the user wrote it.
    pub(crate) host: &'a str,
    pub(crate) config: &'a SshConfig,
}

impl SshConfig {
    /// Asks ssh about `host`. Where there is no ssh, there is no configuration.
    ///
    /// # Errors
    /// Why ssh has no answer, in one line.
    pub(crate) fn query(host: &str, file: &ConfigFile) -> Result<Self, String> {
        let mut command = Command::new("ssh");
        command.arg("-G");
        match file {
            ConfigFile::Default => {}
            ConfigFile::File(path) => {
                command.arg("-F").arg(path);
            }
            ConfigFile::None => return Ok(Self::default()),
        }
        command.arg("--").arg(host);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        match command.spawn() {
            Ok(child) => Ok(Self::parse(&output(child)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                debug!("there is no ssh here, and so no configuration of it");
                Ok(Self::default())
            }
            Err(error) => Err(format!("cannot run ssh -G: {error}")),
        }
    }

    /// Reads lines of a keyword and its value. Whatever else stands there has no
    /// effect.
    fn parse(text: &str) -> Self {
        let mut config = Self::default();
        for line in text.lines() {
            let (keyword, value) = line.trim().split_once(' ').unwrap_or_default();
            config.set(keyword, value.trim());
        }
        config
    }

    fn set(&mut self, keyword: &str, value: &str) {
        match keyword {
            "hostname" => self.hostname = Some(value.to_owned()),
            "hostkeyalias" => self.host_key_alias = Some(value.to_owned()),
            "user" => value.clone_into(&mut self.user),
            "identityfile" if value != "none" && self.identity_files.len() < MOST_FILES => {
                self.identity_files.push(value.to_owned());
            }
            "identitiesonly" => self.identities_only = is_yes(value),
            "identityagent" => {
                self.agent = match value {
                    "none" => AgentChoice::None,
                    "SSH_AUTH_SOCK" => AgentChoice::Environment,
                    other => AgentChoice::At(other.to_owned()),
                };
            }
            "userknownhostsfile" => self.user_known_hosts = files(value),
            "globalknownhostsfile" => self.global_known_hosts = files(value),
            "hashknownhosts" => self.hash_known_hosts = is_yes(value),
            "stricthostkeychecking" => {
                self.strictness = match value {
                    "true" | "yes" => Strictness::Yes,
                    // Also "no": a key that has changed is refused all the same.
                    "false" | "no" | "off" | "accept-new" => Strictness::AcceptNew,
                    _ => Strictness::Ask,
                };
            }
            _ => {}
        }
    }
}

impl Tokens<'_> {
    /// The path that is meant by `text`; `None` for a token that is not known.
    pub(crate) fn expand(&self, text: &str) -> Option<PathBuf> {
        let mut path = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                path.push(c);
                continue;
            }
            match chars.next()? {
                '%' => path.push('%'),
                'd' => path.push_str(self.home.to_str()?),
                'h' => path.push_str(self.config.hostname.as_deref().unwrap_or(self.host)),
                'n' => path.push_str(self.host),
                'r' => path.push_str(&self.config.user),
                'u' => path.push_str(&std::env::var("USER").ok()?),
                _ => return None,
            }
        }
        match path.strip_prefix("~/") {
            Some(rest) => Some(self.home.join(rest)),
            None => Some(path.into()),
        }
    }
}

fn is_yes(value: &str) -> bool {
    matches!(value, "yes" | "true")
}

fn files(value: &str) -> Vec<PathBuf> {
    let names = value.split_whitespace().filter(|name| *name != "none");
    names.take(MOST_FILES).map(PathBuf::from).collect()
}

/// Everything that ssh says, in bounded time and memory.
fn output(mut child: Child) -> Result<String, String> {
    let (sender, receiver) = channel();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let errors = thread::Builder::new().spawn(move || read(stderr));
    let reader = thread::Builder::new().spawn(move || sender.send(read(stdout)));
    let (errors, reader) = match (errors, reader) {
        (Ok(errors), Ok(reader)) => (errors, reader),
        (Err(error), _) | (_, Err(error)) => {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("cannot read what ssh -G says: {error}"));
        }
    };
    drop(reader);
    let answer = receiver.recv_timeout(LIMIT);
    if answer.is_err() {
        // What it has started itself may go on; nobody waits for it.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| format!("cannot wait for ssh -G: {error}"))?;
    match answer {
        Ok(text) if status.success() => Ok(text),
        Err(RecvTimeoutError::Timeout) => {
            Err(format!("ssh -G gave no answer in {} s", LIMIT.as_secs()))
        }
        _ => {
            let text = errors.join().unwrap_or_default();
            let said: Vec<_> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
            Err(format!("ssh -G failed: {}", said.join("; ")))
        }
    }
}

fn read(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What was read until a fault is what there is.
        let _ = pipe.take(MOST).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
host alias
user me
hostname db.example.org
port 2222
identitiesonly yes
hashknownhosts yes
stricthostkeychecking accept-new
hostkeyalias db
identityagent ~/agent.sock
identityfile ~/.ssh/id_rsa
identityfile ~/.ssh/%h-%r
identityfile none
userknownhostsfile /home/me/.ssh/a /home/me/.ssh/b
globalknownhostsfile none
";

    #[test]
    fn what_ssh_reports_is_read() {
        let config = SshConfig::parse(TEXT);
        let expected = SshConfig {
            hostname: Some("db.example.org".into()),
            host_key_alias: Some("db".into()),
            identity_files: vec!["~/.ssh/id_rsa".into(), "~/.ssh/%h-%r".into()],
            identities_only: true,
            agent: AgentChoice::At("~/agent.sock".into()),
            user_known_hosts: vec!["/home/me/.ssh/a".into(), "/home/me/.ssh/b".into()],
            global_known_hosts: Vec::new(),
            hash_known_hosts: true,
            strictness: Strictness::AcceptNew,
            user: "me".into(),
        };
        assert_eq!(config, expected);
        let tokens = Tokens { home: "/home/me".as_ref(), host: "alias", config: &config };
        let path = |text| tokens.expand(text);
        assert_eq!(path("~/.ssh/%h-%r"), Some("/home/me/.ssh/db.example.org-me".into()));
        assert_eq!(path("%d/100%%/%n"), Some("/home/me/100%/alias".into()));
        assert_eq!((path("/x/%Z"), path("/x/%")), (None, None));
    }

    #[test]
    fn the_strict_words_of_every_version_are_known() {
        for (word, expected) in [
            ("true", Strictness::Yes),
            ("yes", Strictness::Yes),
            ("ask", Strictness::Ask),
            ("false", Strictness::AcceptNew),
            ("off", Strictness::AcceptNew),
            ("odd", Strictness::Ask),
        ] {
            let config = SshConfig::parse(&format!("stricthostkeychecking {word}"));
            assert_eq!(config.strictness, expected, "{word}");
        }
    }

    #[test]
    fn no_text_is_too_odd() {
        let many = "identityfile x\n".repeat(1000);
        assert_eq!(SshConfig::parse(&many).identity_files.len(), MOST_FILES);
        let odd = SshConfig::parse("\n \nhostname\n\u{0}\u{ff} x\nidentityagent SSH_AUTH_SOCK");
        assert_eq!(odd, SshConfig::default());
    }
}
