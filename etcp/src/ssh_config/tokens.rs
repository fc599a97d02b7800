//! Expands `~`, `%` tokens and `${VARIABLES}` in file names of ssh's configuration (ssh_config(5),
//! TOKENS and ENVIRONMENT VARIABLES).

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::SshConfig;

/// The values of tokens for one host.
pub(crate) struct Tokens<'a> {
    pub(crate) home: &'a Path,
    /// The host as the user wrote it.
    pub(crate) host: &'a str,
    pub(crate) config: &'a SshConfig,
}

impl Tokens<'_> {
    /// Expands `text` to a path.
    ///
    /// # Errors
    /// The part that cannot be expanded, and why.
    pub(crate) fn path(&self, text: &str) -> Result<PathBuf, String> {
        self.expand(&self.tilde(text)?, true).map(PathBuf::from)
    }

    /// Expands only a home folder.
    ///
    /// # Errors
    /// There is no such user.
    pub(crate) fn tilde(&self, text: &str) -> Result<String, String> {
        let Some(rest) = text.strip_prefix('~') else { return Ok(text.to_owned()) };
        let (user, inside) = rest.split_once('/').unwrap_or((rest, ""));
        let home = match user {
            "" => self.home.to_path_buf(),
            user => home_of(user).ok_or_else(|| format!("~{user}: there is no such user"))?,
        };
        let path = home.join(inside.trim_start_matches('/'));
        path.into_os_string().into_string().map_err(|_| "the home folder is not UTF-8".to_owned())
    }

    /// Expands only tokens: variables are expanded by the shell.
    pub(crate) fn command(&self, text: &str) -> Result<String, String> {
        self.expand(text, false)
    }

    /// Expands tokens and variables in one pass: the values are not expanded again.
    fn expand(&self, text: &str, has_variables: bool) -> Result<String, String> {
        let (mut expanded, mut rest) = (String::new(), text);
        while let Some(at) = rest.find(['%', '$']) {
            expanded.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(variable) = rest.strip_prefix("${").filter(|_| has_variables) {
                let (name, after) = variable.split_once('}').ok_or("a ${ is not closed")?;
                let value = env::var(name).map_err(|_| format!("${{{name}}} is not set"))?;
                expanded.push_str(&value);
                rest = after;
            } else if let Some(token) = rest.strip_prefix('%') {
                let letter = token.chars().next().ok_or("a % is at the end")?;
                expanded.push_str(&self.token(letter)?);
                rest = &token[letter.len_utf8()..];
            } else {
                expanded.push('$');
                rest = &rest[1..];
            }
        }
        expanded.push_str(rest);
        Ok(expanded)
    }

    fn token(&self, letter: char) -> Result<String, String> {
        let config = self.config;
        let value = match letter {
            '%' => Some("%".to_owned()),
            'C' => config.connection_hash.clone(),
            'd' => self.home.to_str().map(str::to_owned),
            'h' => Some(config.hostname.as_deref().unwrap_or(self.host).to_owned()),
            'i' => Some(rustix::process::getuid().as_raw().to_string()),
            'j' => Some(config.jump_host().to_owned()),
            'k' => Some(config.host_key_alias.as_deref().unwrap_or(self.host).to_owned()),
            'L' => Some(node_name().split('.').next().unwrap_or_default().to_owned()),
            'l' => Some(node_name()),
            'n' => Some(self.host.to_owned()),
            'p' => Some(config.port.to_string()),
            'r' => Some(config.user.clone()),
            'u' => config.local_user.clone().or_else(local_user),
            _ => return Err(format!("%{letter} is not a token that it may have")),
        };
        value.ok_or_else(|| format!("the value of %{letter} is unknown"))
    }
}

fn node_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn local_user() -> Option<String> {
    let named = |name| env::var(name).ok().filter(|value| !value.is_empty());
    named("USER").or_else(|| named("LOGNAME"))
}

/// Returns the home folder of a user of this machine, from any name service.
fn home_of(user: &str) -> Option<PathBuf> {
    if user.starts_with('-') {
        return None;
    }
    let file = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    find_home(&file, user).or_else(|| {
        let mut getent = Command::new("getent");
        getent.args(["passwd", user]).stdin(Stdio::null()).stderr(Stdio::null());
        find_home(&String::from_utf8_lossy(&getent.output().ok()?.stdout), user)
    })
}

fn find_home(passwd: &str, user: &str) -> Option<PathBuf> {
    let mut entries = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let home = entries.find(|fields| fields.first() == Some(&user))?.get(5).map(PathBuf::from)?;
    Some(home).filter(|home| home.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> SshConfig {
        SshConfig {
            hostname: Some("db.example.org".into()),
            user: "me".into(),
            local_user: Some("ann".into()),
            connection_hash: Some("c0ffee".into()),
            port: 2222,
            ..SshConfig::default()
        }
    }

    #[test]
    fn every_token_stands_for_what_it_does_in_ssh() {
        let mut config = config();
        config.proxy_jump = Some("a@first,b@last.example.org:2201".into());
        let tokens = Tokens { home: "/home/me".as_ref(), host: "alias", config: &config };
        let uid = rustix::process::getuid().as_raw().to_string();
        let node = node_name();
        let short = node.split('.').next().unwrap();
        for (text, expected) in [
            ("~/.ssh/%h-%r", "/home/me/.ssh/db.example.org-me"),
            ("%d/100%%/%n", "/home/me/100%/alias"),
            ("/%C/%i/%j", &format!("/c0ffee/{uid}/last.example.org")),
            ("/%k/%L/%l", &format!("/alias/{short}/{node}")),
            ("/%p/%u/my key", "/2222/ann/my key"),
            ("~", "/home/me/"),
            ("~//x", "/home/me/x"),
            ("~root/x", "/root/x"),
            ("a~/$x/$", "a~/$x/$"),
        ] {
            assert_eq!(tokens.path(text), Ok(expected.into()), "{text}");
        }
        config.host_key_alias = Some("other".into());
        config.proxy_jump = Some("ssh://me@[2001:db8::1]:22".into());
        let tokens = Tokens { home: "/home/me".as_ref(), host: "alias", config: &config };
        assert_eq!(tokens.path("/%k/%j"), Ok("/other/2001:db8::1".into()));
    }

    #[test]
    fn variables_are_replaced_and_what_they_hold_is_taken_as_it_is() {
        let (config, path) = (config(), env::var("PATH").unwrap());
        let tokens = Tokens { home: "/home/me".as_ref(), host: "%n", config: &config };
        assert_eq!(tokens.path("/${PATH}/x"), Ok(format!("/{path}/x").into()));
        assert_eq!(tokens.path("/%n"), Ok("/%n".into()));
    }

    #[test]
    fn a_token_that_cannot_be_expanded_is_named() {
        let config = SshConfig::default();
        let tokens = Tokens { home: "/home/me".as_ref(), host: "alias", config: &config };
        for (text, part) in [
            ("/x/%Z", "%Z"),
            ("/x/%", "a % is at the end"),
            ("/x/%\u{e9}", "%\u{e9}"),
            ("/%C", "%C"),
            ("/${ETCP_NO_SUCH_VARIABLE}/x", "${ETCP_NO_SUCH_VARIABLE} is not set"),
            ("/${HOME", "not closed"),
            ("~etcp-no-such-user/x", "~etcp-no-such-user"),
            ("~-h/x", "~-h"),
        ] {
            let why = tokens.path(text).unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        }
    }

    #[test]
    fn a_users_home_is_the_sixth_field() {
        let passwd =
            "root:x:0:0:root:/root:/bin/bash\nann:x:1:1::/home/ann:\nodd:x\nrel:x:1:1::x:\n";
        assert_eq!(find_home(passwd, "ann"), Some("/home/ann".into()));
        for user in ["", "odd", "rel", "an"] {
            assert_eq!(find_home(passwd, user), None, "{user}");
        }
    }
}
