//! The program that follows this one, and the time in which the worker prepares for it.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::ssh_config::SshAnswer;

/// The time allowed for the preparation. Three round trips are enough, and without the preparation
/// the upgrade only costs two more of them.
const PATIENCE: Duration = Duration::from_secs(3);

/// The next program.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) program: PathBuf,
    /// The answers of ssh about the servers in the check.
    pub(super) ssh: Vec<SshAnswer>,
    /// The file, if the previous program returns.
    pub(super) executable: Option<OwnedFd>,
    /// The reason why the present program cannot continue, if the previous one returns.
    pub(super) failure: Option<String>,
}

/// A program that may take over as soon as the worker has prepared for it.
#[derive(Debug)]
pub(super) struct Preparation {
    next: Next,
    until: Instant,
}

impl Preparation {
    /// Begins the preparation for a program.
    pub(super) fn begin(next: Next) -> Self {
        Self { next, until: Instant::now() + PATIENCE }
    }

    /// Returns the time that is left.
    pub(super) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Ends the preparation, and returns the program.
    pub(super) fn into_next(self) -> Next {
        self.next
    }
}
