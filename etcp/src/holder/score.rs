//! The order in which the kernel kills holder and worker when memory runs out
//! (proc_pid_oom_score_adj(5)).

use std::fs::{self, File};
use std::io;

use rustix::io::pwrite;

/// The amount by which a worker's score exceeds the holder's.
const SOONER: i32 = 100;

/// The maximum value of the file.
const HIGHEST: i32 = 1000;

/// The scores of this process and its workers.
#[derive(Debug)]
pub(super) struct Score {
    file: File,
    own: String,
    workers: String,
}

impl Score {
    pub(super) fn open() -> io::Result<Self> {
        const PATH: &str = "/proc/self/oom_score_adj";
        let own: i32 = fs::read_to_string(PATH)?.trim().parse().map_err(io::Error::other)?;
        Ok(Self {
            file: File::options().write(true).open(PATH)?,
            own: own.to_string(),
            workers: (own + SOONER).min(HIGHEST).to_string(),
        })
    }

    /// Runs `work` with the score of workers, which a process that is started meanwhile inherits. A
    /// worker cannot change its own score once it has hidden its memory.
    pub(super) fn with_that_of_workers<T>(&self, work: impl FnOnce() -> T) -> T {
        // Without the score the kernel chooses by size alone.
        let _ = pwrite(&self.file, self.workers.as_bytes(), 0);
        let result = work();
        let _ = pwrite(&self.file, self.own.as_bytes(), 0);
        result
    }
}
