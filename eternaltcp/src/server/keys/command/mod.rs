//! A command that prints the lines of a key, as sshd's `AuthorizedKeysCommand` does.
//!
//! - `answers`: the answers of the command about each key, and the time for which they count;
//! - `check`: whether the program can be run and is to be trusted;
//! - `run`: one run of the command, with its limits;
//! - `words`: the arguments of the command, and their tokens.

mod answers;
mod check;
mod run;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use crate::policy::Account;
pub(in crate::server) use answers::KeptAnswer;
pub(super) use answers::{AnswersView, CommandKeys};
pub use check::KeyCommandError;
use eternaltcp_tls::PublicKey;
use words::Word;

/// A command that prints the lines of `authorized_keys` that concern a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyCommand {
    program: PathBuf,
    args: Vec<Word>,
    user: CommandUser,
}

/// The account that runs the command.
#[derive(Clone, PartialEq, Eq, Debug)]
struct CommandUser {
    name: String,
    home: String,
    /// The numbers of the user and the group; `None`: the command runs as the user of this process.
    ids: Option<(u32, u32)>,
}

impl KeyCommand {
    /// Parses a command line, which an account of `/etc/passwd` runs. Words are separated by spaces,
    /// and may be in quotes. The arguments may contain the tokens `%u` (the user of this process),
    /// `%k` (the key, in base64), `%t` (its type), `%f` (its fingerprint) and `%%`. Without arguments,
    /// the only one is `%u`.
    ///
    /// # Errors
    /// The program has no absolute path, a token is unknown, or this process cannot run a command as
    /// that user.
    pub fn new(line: &str, user: &str) -> Result<Self, String> {
        let mut words = words::split(line)?.into_iter();
        let program = PathBuf::from(words.next().ok_or("expected a command")?);
        if !program.is_absolute() {
            return Err(format!("{}: write the absolute path of the program", program.display()));
        }
        let mut args: Vec<_> = words.map(|text| Word::parse(&text)).collect::<Result<_, _>>()?;
        if args.is_empty() {
            args.push(Word::parse("%u")?);
        }
        Ok(Self { program, args, user: CommandUser::find(user)? })
    }

    /// Returns the path of the program.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Returns a text by which the next process recognizes the command.
    fn id(&self) -> String {
        let words: Vec<_> = self.args.iter().map(Word::written).collect();
        format!("{}\0{}\0{}", self.user.name, self.program.display(), words.join("\0"))
    }

    fn arguments(&self, key: &PublicKey) -> Vec<String> {
        let own = own_name().unwrap_or_default();
        self.args.iter().map(|word| word.expand(key, &own)).collect()
    }
}

impl CommandUser {
    fn find(name: &str) -> Result<Self, String> {
        let text = accounts_text();
        let found = text.lines().filter_map(Account::parse).find(|account| account.name == name);
        let found = found.and_then(|it| Some((it.user, it.group, it.home?.to_owned())));
        let (user, group, home) =
            found.ok_or_else(|| format!("there is no user {name} in /etc/passwd"))?;
        let (own, name) = (geteuid(), name.to_owned());
        if own.as_raw() == user {
            return Ok(Self { name, home, ids: None });
        }
        if !own.is_root() {
            return Err(format!("only root can run a command as {name}: name this user"));
        }
        Ok(Self { name, home, ids: Some((user, group)) })
    }
}

/// Returns the name of the user of this process.
fn own_name() -> Option<String> {
    let (text, user) = (accounts_text(), geteuid().as_raw());
    let own = text.lines().filter_map(Account::parse).find(|account| account.user == user);
    Some(own?.name.to_owned())
}

/// Returns the text of `/etc/passwd`, empty if it cannot be read.
fn accounts_text() -> String {
    String::from_utf8_lossy(&fs::read("/etc/passwd").unwrap_or_default()).into_owned()
}
