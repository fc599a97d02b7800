//! Process settings of a program that holds keys, starts other programs, and may be in the background
//! of a terminal.
//!
//! A parent process chooses limits and ignored signals. This process may need others, but its child
//! processes get the original ones: more than 1024 descriptors break programs that use select(2),
//! and a signal that `nohup` ignored must stay ignored.

use std::io;
#[cfg(all(feature = "client", feature = "server"))]
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process_group, setrlimit};

#[cfg(all(feature = "client", feature = "server"))]
use crate::control::UpgradeState;

/// Returns whether the signal of this number was ignored when this process was started.
#[must_use]
pub fn was_ignored(signal: i32) -> bool {
    eternaltcp_sys::was_ignored(signal)
}

/// Lets this process wait for its children even if it was started with SIGCHLD ignored.
pub fn wait_for_children() {
    eternaltcp_sys::wait_for_children();
}

/// Makes a write beyond the limit of file sizes (`ulimit -f`) an error like that of a full disk: by
/// default, it ends the process.
pub fn survive_file_size_limit() {
    eternaltcp_sys::survive_file_size_limit();
}

/// Lets the calling thread write to the terminal from the background.
///
/// After `stty tostop`, a terminal stops every background process that writes to it. For a proxy, a
/// log line would then stop all sessions.
pub fn write_from_background() {
    eternaltcp_sys::write_from_background();
}

/// Raises this process's soft limit of descriptors to the hard limit, if the system permits it.
/// [`Slots::from_limit`](crate::Slots::from_limit) then has more to distribute. Programs that use
/// select(2) must not do so; [`as_started`] starts other programs with the previous limit.
pub fn raise_descriptor_limit() {
    let hard = getrlimit(Resource::Nofile).maximum;
    // If even that is refused, the soft limit has to be enough.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard });
}

/// Keeps core dumps and other processes of the same user from reading the keys in this process's
/// memory, as ssh-agent does. Child processes are not affected.
///
/// # Errors
/// The system refuses.
pub fn hide_memory() -> io::Result<()> {
    eternaltcp_sys::hide_memory()
}

/// The environment variable with which a program tells its successor how to take over. Other child
/// processes do not get it.
pub const TAKEOVER_VARIABLE: &str = "ETCP_TAKEOVER";

/// The environment variable with which a program passes a secret to itself when it restarts. Other
/// child processes do not get it.
pub const PRIVATE_VARIABLE: &str = "ETCP_PRIVATE_PROXY";

/// Makes `command` start with the limits of descriptors and core dumps, and the ignored and blocked
/// signals, with which this process was started, and without [`PRIVATE_VARIABLE`] and
/// [`TAKEOVER_VARIABLE`].
pub fn as_started(command: &mut Command) -> &mut Command {
    eternaltcp_sys::give_back(command);
    command.env_remove(PRIVATE_VARIABLE).env_remove(TAKEOVER_VARIABLE)
}

/// The process group of a command that was started as its leader. Its processes are killed when this
/// is dropped, unless it was released.
#[derive(Debug)]
pub struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    /// Returns the group of a leader; of `None`, which stands for a leader that has ended, an empty one.
    #[must_use]
    pub fn of(leader: Option<u32>) -> Self {
        Self(leader.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    /// Lets the processes of the group run on.
    pub fn release(mut self) {
        self.0 = None;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // The command may have ended at this moment.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// A process that was started to serve in place of another one, its *holder*.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SupervisedProcess {
    /// The process id of the main process: the first holder of the program. After an upgrade it only
    /// waits.
    pub main: u32,
    /// The process id of the holder.
    pub holder: u32,
    /// The time at which the main process started.
    pub started_at: SystemTime,
    /// The number of earlier processes that died.
    pub restarts: u64,
    /// The death of the last of them.
    pub last_restart: Option<Restart>,
}

/// The death of a process that another one replaced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restart {
    /// The cause, in words.
    pub cause: String,
    /// The time at which it died.
    pub at: SystemTime,
}

static SUPERVISED: OnceLock<SupervisedProcess> = OnceLock::new();

/// Declares that this process has a holder. From now on it uses the main process's id as its own,
/// in control sockets and in `etcp status`. Returns whether it had no holder before.
pub fn set_supervised(process: SupervisedProcess) -> bool {
    SUPERVISED.set(process).is_ok()
}

/// Returns the data about this process's holder, if it has one.
#[must_use]
pub fn supervised() -> Option<&'static SupervisedProcess> {
    SUPERVISED.get()
}

/// Returns the process id of the program for others: that of the main process.
#[must_use]
pub fn main_process() -> u32 {
    supervised().map_or_else(std::process::id, |supervised| supervised.main)
}

/// Replaces the program of a process that has a holder.
#[cfg(all(feature = "client", feature = "server"))]
pub trait Upgrades: std::fmt::Debug + Send + Sync {
    /// Begins an upgrade to this program, or to the one that was started; or only its check.
    ///
    /// # Errors
    /// The reason why that is not possible, in one line.
    fn begin(&self, program: Option<&Path>, is_check: bool) -> Result<UpgradeStatus, String>;

    /// Returns the progress of the last upgrade.
    fn status(&self) -> UpgradeStatus;
}

/// The progress of an upgrade.
#[cfg(all(feature = "client", feature = "server"))]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpgradeStatus {
    /// Its number; 0 if there was none so far.
    pub number: u64,
    /// The stage that it has reached.
    pub state: UpgradeState,
    /// The result of the check, or the reason for a failure.
    pub text: String,
}

#[cfg(all(feature = "client", feature = "server"))]
static UPGRADES: OnceLock<Box<dyn Upgrades>> = OnceLock::new();

/// Lets control sockets of this process replace its program. Returns false, and changes nothing, if
/// that was done before.
#[cfg(all(feature = "client", feature = "server"))]
pub fn set_upgrades(upgrades: Box<dyn Upgrades>) -> bool {
    UPGRADES.set(upgrades).is_ok()
}

/// Returns the object that replaces the program of this process, if that is possible.
#[cfg(all(feature = "client", feature = "server"))]
pub(crate) fn upgrades() -> Option<&'static dyn Upgrades> {
    UPGRADES.get().map(AsRef::as_ref)
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
