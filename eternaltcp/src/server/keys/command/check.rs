//! Whether the program of a command can be run, and is to be trusted.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::{Access, access};

use super::KeyCommand;
use crate::policy::StrictModes;

/// The reason why the program of a command is not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyCommandError {
    /// There is no such program.
    #[error("{0} does not exist: install it, or name another program")]
    Missing(PathBuf),
    /// The program cannot be examined.
    #[error("cannot look at {0}: {1}")]
    Unreadable(PathBuf, #[source] io::Error),
    /// It is a folder, a device or a pipe.
    #[error("{0} is not a program: name a file")]
    NotFile(PathBuf),
    /// Its mode does not let the user of the command execute it.
    #[error("{path} may not be executed by user {user}: run chmod a+x {path}")]
    NotExecutable {
        /// The program.
        path: PathBuf,
        /// The user who runs the command.
        user: String,
    },
    /// Users other than root could change or replace it.
    #[error("{0}")]
    Untrusted(String),
}

impl KeyCommand {
    /// Checks that the user of the command may execute the program, and that only root can change or
    /// replace it, as sshd does.
    ///
    /// # Errors
    /// The program is missing or not executable, or others may change it or a folder above it.
    pub fn check(&self) -> Result<(), KeyCommandError> {
        let path = || self.program.clone();
        let metadata = fs::metadata(&self.program).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => KeyCommandError::Missing(path()),
            _ => KeyCommandError::Unreadable(path(), error),
        })?;
        if !metadata.is_file() {
            return Err(KeyCommandError::NotFile(path()));
        }
        StrictModes::of_root()
            .check(&self.program, &metadata)
            .map_err(|error| KeyCommandError::Untrusted(error.to_string()))?;
        if self.is_executable(&metadata) {
            return Ok(());
        }
        Err(KeyCommandError::NotExecutable { path: path(), user: self.user.name.clone() })
    }

    fn is_executable(&self, metadata: &Metadata) -> bool {
        match self.user.ids {
            None => access(&self.program, Access::EXEC_OK).is_ok(),
            Some(ids) => executes(metadata.mode(), (metadata.uid(), metadata.gid()), ids),
        }
    }
}

/// Returns whether a file with this mode, owner and group may be executed by a user with one group.
fn executes(mode: u32, (owner, group): (u32, u32), ids: (u32, u32)) -> bool {
    let bit = match ids {
        (0, _) => 0o111,
        (user, _) if user == owner => 0o100,
        (_, own) if own == group => 0o010,
        _ => 0o001,
    };
    mode & bit != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_executes_what_the_bits_of_its_class_allow() {
        let (root, ann, staff, other) = ((0, 0), (1000, 1000), (1001, 50), (1002, 1002));
        let by = |mode, ids| executes(mode, (1000, 50), ids);
        assert!(by(0o755, root) && by(0o755, ann) && by(0o755, staff) && by(0o755, other));
        assert!(by(0o001, root) && by(0o001, other) && !by(0o001, ann) && !by(0o001, staff));
        assert!(by(0o010, staff) && !by(0o010, ann) && !by(0o644, root));
    }
}
