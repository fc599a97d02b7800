//! Files that a holder opens before anything else.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, open};

use super::check::own_program;
use super::handover::TakenOver;
use super::score::Score;

/// Files about this process that cannot be opened when its memory is hidden.
#[derive(Debug)]
pub(super) struct OwnFiles {
    /// The handover from another program, if there is one.
    pub(super) taken: Option<io::Result<TakenOver>>,
    /// `/proc/self/stat`.
    pub(super) state: io::Result<File>,
    /// `None`: the system has no such scores.
    pub(super) score: Option<Score>,
    /// The executable of this program.
    pub(super) executable: io::Result<OwnedFd>,
    /// The path of this program, as the user started it.
    pub(super) program: PathBuf,
}

impl OwnFiles {
    /// Takes over what another program hands over, and opens the files.
    pub(super) fn open() -> Self {
        // The handover comes first, because it treats every open descriptor as inherited.
        let taken = TakenOver::of_environment();
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let program = match &taken {
            Some(Ok(taken)) => Ok(taken.said.program.clone()),
            _ => own_program(),
        };
        Self {
            taken,
            state: File::open("/proc/self/stat"),
            score: Score::open().ok(),
            executable: open("/proc/self/exe", flags, Mode::empty()).map_err(io::Error::from),
            program: program.unwrap_or_default(),
        }
    }

    /// Returns whether this program replaces another one.
    pub(super) fn takes_over(&self) -> bool {
        self.taken.is_some()
    }
}
