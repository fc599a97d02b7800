//! Runs the system's tools ip(8) and nft(8).

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::exit::ExitError;

/// Folders of the tools on systems whose users' PATH lacks them.
const FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Runs a tool that reads its commands from stdin.
pub(super) fn feed(
    tool: &str,
    package: &str,
    args: &[&str],
    script: &str,
) -> Result<(), ExitError> {
    let program = find(tool).ok_or_else(|| {
        ExitError::Failed(format!("the program {tool} is not installed: install {package}"))
    })?;
    let failed = |error: &dyn std::fmt::Display| {
        ExitError::Failed(format!("{tool} cannot set up the command's network: {error}"))
    };
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&error))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that fails at once does not read stdin, and reports why.
        let _ = stdin.write_all(script.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed(&error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().map(str::trim).find(|line| !line.is_empty());
    Err(failed(&line.unwrap_or("it says nothing")))
}

fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(FOLDERS.map(PathBuf::from))
        .map(|folder| folder.join(tool))
        .find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(tool: &str, args: &[&str]) -> String {
        match feed(tool, "some-package", args, "exit 3\n") {
            Err(ExitError::Failed(text)) => text,
            other => panic!("{tool} {args:?}: {other:?}"),
        }
    }

    #[test]
    fn a_tool_that_is_missing_or_fails_is_named_with_what_to_do() {
        let text = failure("no-such-tool", &[]);
        assert_eq!(text, "the program no-such-tool is not installed: install some-package");
        let text = failure("sh", &["-c", "echo >&2; echo ' it broke' >&2; exit 1"]);
        assert_eq!(text, "sh cannot set up the command's network: it broke");
        assert!(failure("sh", &[]).ends_with("it says nothing"));
        assert!(feed("sh", "", &[], "exit 0\n").is_ok());
    }
}
