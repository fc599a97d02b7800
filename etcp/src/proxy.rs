//! The proxy that carriers go through: that of `--proxy`, else that of the environment.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::Command;

use eternaltcp::client::Proxy;
use eternaltcp::process::{PRIVATE_VARIABLE, as_started};
use tracing::warn;

use crate::cli::{self, Cli};
use crate::exit::ExitError;

/// Has the meaning of `--proxy`, but other users cannot see it.
const VARIABLE: &str = "ETCP_PROXY";

/// The user's choice for this program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ProxyChoice {
    /// No proxy, whatever the environment and ssh's configuration say.
    None,
    Through(Proxy),
}

impl ProxyChoice {
    /// Returns the choice of the flag, even if it was [hidden](hide_password), or else of the
    /// variable, or `None` if there is no choice.
    pub(crate) fn of(flag: Option<&str>) -> Result<Option<Self>, ExitError> {
        let variable = |name| std::env::var(name).ok().filter(|text: &String| !text.is_empty());
        let flag = flag.map(str::to_owned).or_else(|| variable(PRIVATE_VARIABLE));
        let (name, text) = match (flag, variable(VARIABLE)) {
            (Some(text), _) => ("--proxy", text),
            (None, Some(text)) => (VARIABLE, text),
            (None, None) => return Ok(None),
        };
        if text == "none" {
            return Ok(Some(Self::None));
        }
        // The text is not shown: it may have a password.
        let proxy = text.parse().map_err(|error| ExitError::Usage(format!("{name}: {error}")))?;
        Ok(Some(Self::Through(proxy)))
    }
}

/// Returns the proxy that the environment names for all programs. Values that are not meant for
/// etcp are ignored.
pub(crate) fn of_environment() -> Option<Proxy> {
    Proxy::from_env().unwrap_or_else(|(name, error)| {
        warn!("${name} is ignored: {error}");
        None
    })
}

/// Restarts this program with the password of `--proxy` in a variable, because other users can read
/// its arguments. Returns if there is no password, or if the restart fails.
pub(crate) fn hide_password(cli: &Cli, args: &[OsString]) {
    let Some(text) = cli::proxy_of(cli) else { return };
    if !text.parse::<Proxy>().is_ok_and(|proxy| proxy.has_password()) {
        return;
    }
    let (Ok(this), Some(hidden)) = (std::env::current_exe(), without(args, text)) else { return };
    let mut command = Command::new(this);
    as_started(&mut command).args(hidden.get(1..).unwrap_or_default()).env(PRIVATE_VARIABLE, text);
    if let Some(name) = args.first() {
        command.arg0(name);
    }
    // The program continues as the user started it.
    let _ = command.exec();
}

/// Returns the arguments without the first `--proxy TEXT`. Later ones may belong to another
/// program.
fn without(args: &[OsString], text: &str) -> Option<Vec<OsString>> {
    let joined = OsString::from(format!("--proxy={text}"));
    let mut left = args.to_vec();
    if let Some(at) = args.iter().position(|arg| *arg == joined) {
        left.remove(at);
        return Some(left);
    }
    let is_flag = |pair: &[OsString]| pair[0] == "--proxy" && pair[1] == OsStr::new(text);
    let at = args.windows(2).position(is_flag)?;
    left.drain(at..at + 2);
    Some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_goes_before_the_variable_and_none_is_a_choice() {
        assert_eq!(ProxyChoice::of(Some("none")).unwrap(), Some(ProxyChoice::None));
        let Ok(Some(ProxyChoice::Through(proxy))) = ProxyChoice::of(Some("http://a:1")) else {
            panic!("not taken")
        };
        assert_eq!(proxy.to_string(), "http://a:1");
        let Err(ExitError::Usage(text)) = ProxyChoice::of(Some("ftp://me:secret@a:1")) else {
            panic!("taken")
        };
        assert!(text.starts_with("--proxy: ") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn only_the_first_flag_is_hidden() {
        let url = "http://me:pw@a:1";
        let of = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        for (line, left) in [
            ("etcp run --proxy URL curl --proxy URL", "etcp run curl --proxy URL"),
            ("etcp connect --proxy=URL -s a", "etcp connect -s a"),
        ] {
            let args = of(&line.replace("URL", url));
            assert_eq!(without(&args, url), Some(of(&left.replace("URL", url))));
        }
        assert_eq!(without(&of("etcp connect -s a"), url), None);
    }
}
