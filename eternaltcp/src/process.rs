//! What a program that holds keys, and starts other programs, owes those around it.
//!
//! Whoever starts a program chooses its limits, and which signals it ignores. This process may
//! need others, and what it starts itself is given the caller's again: more than 1024 descriptors
//! break programs that use select(2), and a signal that `nohup` has ignored stays ignored.

use std::io;
use std::process::Command;

/// Whether the signal of this number was ignored when this process was started.
#[must_use]
pub fn was_ignored(signal: i32) -> bool {
    eternaltcp_sys::was_ignored(signal)
}

/// Lets this process wait for its children also where it was started with SIGCHLD ignored.
pub fn wait_for_children() {
    eternaltcp_sys::wait_for_children();
}

/// Keeps the keys in this process's memory from core dumps and from other processes of the same
/// user, as ssh-agent does. Programs that it starts are not concerned.
///
/// # Errors
/// When the system refuses it.
pub fn hide_memory() -> io::Result<()> {
    eternaltcp_sys::hide_memory()
}

/// The variable of the environment by which a program tells itself a secret when it starts itself
/// anew. No other program that it starts is given it.
pub const PRIVATE_VARIABLE: &str = "ETCP_PRIVATE_PROXY";

/// Has `command` start with the limits of descriptors and core dumps, the ignored and the blocked
/// signals that this process was started with, and without [`PRIVATE_VARIABLE`].
pub fn as_started(command: &mut Command) -> &mut Command {
    eternaltcp_sys::give_back(command);
    command.env_remove(PRIVATE_VARIABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_private_variable_is_not_given_to_other_programs() {
        let mut command = Command::new("env");
        let output = as_started(command.env(PRIVATE_VARIABLE, "secret")).output().expect("it runs");
        assert!(!String::from_utf8_lossy(&output.stdout).contains("secret"));
    }
}
