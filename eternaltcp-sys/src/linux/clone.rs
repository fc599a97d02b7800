//! A process that shares the table of descriptors with the one that started it.
//!
//! Each descriptor that it opens is its parent's, too, at the moment it exists, and stays open when
//! it dies. A descriptor that it closes is closed for both.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open, stat};
use rustix::io::{Errno, read};
use rustix::process::{
    Pid, Resource, Signal, WaitOptions, WaitStatus, getpid, getppid, getrlimit, kill_process,
    set_parent_process_death_signal, wait, waitpid,
};

/// Milliseconds in which a thread that has ended is forgotten by the kernel.
const ENDING: u32 = 200;

/// The limit of a table of descriptors, unless an administrator has raised it (`fs.nr_open`).
const MAX_TABLE: u64 = 1 << 20;

/// The exit code of a worker that panicked, as that of a whole program.
pub const PANICKED: i32 = 101;

/// A process that was made by [`spawn_worker`].
///
/// It has to be [waited for](Self::wait); dropping this neither ends it nor waits.
#[derive(Debug)]
pub struct Worker {
    process: Pid,
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// It returned, or called exit(2), with this code.
    Exited(i32),
    /// A signal ended it.
    Signalled(i32),
}

/// The descriptors of a process that starts workers: all others in the table are its workers'.
#[derive(Debug)]
pub struct Holding {
    own: BTreeSet<RawFd>,
}

impl Holding {
    /// Counts the descriptors that are open now. Call it before the first worker is started.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn begin() -> io::Result<Self> {
        Ok(Self { own: open_descriptors()? })
    }

    /// Counts a descriptor that was opened later.
    pub fn add(&mut self, descriptor: BorrowedFd<'_>) {
        self.own.insert(descriptor.as_raw_fd());
    }

    /// Does the same in a program that took over from another one: the descriptors in `inherited` are
    /// those of the other one's workers.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn begin_without(inherited: &Inherited) -> io::Result<Self> {
        let mut own = open_descriptors()?;
        own.retain(|number| !inherited.open.contains(number));
        Ok(Self { own })
    }

    /// Returns the descriptors that workers have left open. To be called while no worker lives: what
    /// a living one has open is its own.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn left_open(&self) -> io::Result<Inherited> {
        Ok(Inherited { open: others_open(&self.own)?.into_iter().collect() })
    }

    /// Returns the own descriptors, but for the standard ones, that stay open when this process starts
    /// another program.
    #[must_use]
    pub fn kept_at_exec(&self) -> Vec<RawFd> {
        let is_kept = |number: &RawFd| *number > libc::STDERR_FILENO && is_kept_at_exec(*number);
        self.own.iter().copied().filter(is_kept).collect()
    }

    /// Counts a descriptor no more, because it is about to be closed.
    pub fn remove(&mut self, descriptor: BorrowedFd<'_>) {
        self.own.remove(&descriptor.as_raw_fd());
    }
}

/// The descriptors that workers before this one have left open, each to be taken once.
#[derive(Debug)]
pub struct Inherited {
    open: BTreeSet<RawFd>,
}

impl Inherited {
    /// Returns the descriptors that were open when this program was started, but for the standard
    /// ones. To be called before it opens anything.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn at_start() -> io::Result<Self> {
        let mut open = open_descriptors()?;
        open.retain(|number| *number > libc::STDERR_FILENO);
        Ok(Self { open })
    }

    /// Makes all of them close when another program is started: they were open to reach this one.
    pub fn close_at_exec(&self) {
        for number in &self.open {
            // SAFETY: only the flags of a descriptor change that nobody in this process uses so far.
            unsafe { libc::fcntl(*number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }

    /// Leaves a descriptor as it is: it is nobody's here.
    pub fn leave(&mut self, number: RawFd) {
        self.open.remove(&number);
    }

    /// Returns the descriptor with this number, if a worker before this one has left it open and it
    /// was not taken since.
    pub fn take(&mut self, number: RawFd) -> Option<OwnedFd> {
        // SAFETY: it was open when this process began, and is in none of the values that were copied
        // from the parent, whose descriptors are not in the set. The process that owned it is dead.
        self.open.remove(&number).then(|| unsafe { OwnedFd::from_raw_fd(number) })
    }

    /// Does the same if it is the one that is meant; otherwise it stays.
    pub fn take_if(
        &mut self,
        number: RawFd,
        is_meant: impl FnOnce(BorrowedFd<'_>) -> bool,
    ) -> Option<OwnedFd> {
        let taken = self.take(number)?;
        if is_meant(taken.as_fd()) {
            return Some(taken);
        }
        self.open.insert(taken.into_raw_fd());
        None
    }

    /// Returns those that were not taken, to look at them or to close them.
    pub fn take_rest(&mut self) -> impl Iterator<Item = OwnedFd> {
        // SAFETY: as for `take`.
        std::mem::take(&mut self.open).into_iter().map(|it| unsafe { OwnedFd::from_raw_fd(it) })
    }
}

/// Returns the descriptors that are open and not in `own`, in order. With thousands of them it takes a
/// tenth of the time that reading the folder of /proc takes.
fn others_open(own: &BTreeSet<RawFd>) -> io::Result<Vec<RawFd>> {
    match table_size()? {
        Some(size) if own.last().is_none_or(|last| *last < size) => {
            let mut open = Vec::new();
            for number in (0..size).filter(|number| !own.contains(number) && is_open(*number)) {
                // A process without memory must not die of it: its caller tries again.
                open.try_reserve(1)?;
                open.push(number);
            }
            Ok(open)
        }
        // A system that only looks like Linux.
        _ => Ok(open_descriptors()?.difference(own).copied().collect()),
    }
}

/// Returns a number that is above those of all descriptors, if the system tells one. Allocates nothing.
fn table_size() -> io::Result<Option<RawFd>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let status = match open(c"/proc/self/status", flags, Mode::empty()) {
        Ok(status) => status,
        // The limit of now may be lower than it was.
        Err(Errno::MFILE) => {
            let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(MAX_TABLE);
            return Ok(limit.min(MAX_TABLE).try_into().ok());
        }
        Err(error) => return Err(error.into()),
    };
    let mut text = [0; 4096];
    let length = read(&status, &mut text)?;
    let lines = text[..length].split(|byte| *byte == b'\n');
    let size = lines.filter_map(|line| line.strip_prefix(b"FDSize:")).next();
    Ok(size.and_then(|size| str::from_utf8(size).ok()?.trim().parse().ok()))
}

fn open_descriptors() -> io::Result<BTreeSet<RawFd>> {
    let names = fs::read_dir("/proc/self/fd")?;
    let numbers = names.map(|name| Ok(name?.file_name().to_str().and_then(|it| it.parse().ok())));
    let mut numbers: BTreeSet<_> =
        numbers.filter_map(Result::transpose).collect::<io::Result<_>>()?;
    // The one through which the folder was read is closed by now.
    numbers.retain(|number| is_open(*number));
    Ok(numbers)
}

fn is_kept_at_exec(number: RawFd) -> bool {
    // SAFETY: as for `is_open`.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags != -1 && flags & libc::FD_CLOEXEC == 0
}

fn is_open(number: RawFd) -> bool {
    // SAFETY: it reads the flags of a number, whether or not that is a descriptor.
    unsafe { libc::fcntl(number, libc::F_GETFD) != -1 }
}

/// Returns whether this process has one thread. Allocates nothing.
pub(super) fn has_one_thread() -> io::Result<bool> {
    for _ in 0..ENDING {
        // A folder has a link for itself, one in its parent, and one for each folder in it: the threads.
        if stat(c"/proc/self/task")?.st_nlink == 3 {
            return Ok(true);
        }
        // Whoever waited for a thread goes on a moment before the kernel forgets it.
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(false)
}

/// Starts a process that runs `work` and exits with the code that it returns. It is a copy of this
/// one, shares its descriptors, and ends with it. `work` gets the descriptors that earlier workers left
/// open when this was called.
///
/// A descriptor that either of the two processes closes is closed for both: values which own one
/// must be dropped in one of them only. The buffers of the standard library's streams are in both
/// copies: flush them first.
///
/// # Errors
/// This process has more than one thread, there is no `/proc`, or the system refuses a process or
/// memory. With several threads the copy could find a lock taken that nobody ever releases.
pub fn spawn_worker(holding: &Holding, work: impl FnOnce(Inherited) -> i32) -> io::Result<Worker> {
    if !has_one_thread()? {
        return Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "this process has several threads",
        ));
    }
    // Before there are two processes: neither can take what the other one opens for a worker's.
    let left = others_open(&holding.own)?;
    let parent = getpid();
    // SAFETY: as fork(2), in a process that has one thread, but for the shared table: the copy has
    // memory of its own, in which everything is as this thread left it. No stack is given, so it
    // goes on here.
    let result = unsafe { clone(libc::CLONE_FILES | libc::SIGCHLD, null_mut()) };
    match result {
        ..0 => Err(io::Error::last_os_error()),
        0 => run(parent, || work(Inherited { open: left.into_iter().collect() })),
        process => {
            let process = i32::try_from(process).ok().and_then(Pid::from_raw);
            Ok(Worker { process: process.ok_or(io::ErrorKind::InvalidData)? })
        }
    }
}

/// Calls clone(2) without a wrapper: that of the C library for fork(2) cannot share descriptors.
///
/// # Safety
/// The same as for fork(2), with the effects of the flags. With `CLONE_PIDFD`, `handle` is valid memory.
pub(super) unsafe fn clone(flags: libc::c_int, handle: *mut libc::c_int) -> libc::c_long {
    let (flags, none) = (libc::c_long::from(flags), 0 as libc::c_long);
    // The order of the first two arguments is another one on this machine (clone(2)).
    let (first, second) = if cfg!(target_arch = "s390x") { (none, flags) } else { (flags, none) };
    // SAFETY: the caller vouches for it.
    unsafe { libc::syscall(libc::SYS_clone, first, second, handle, none, none) }
}

/// The function that the copy runs. It never returns to the code that called [`spawn_worker`].
fn run(parent: Pid, work: impl FnOnce() -> i32) -> ! {
    // The parent may have died before this call.
    let is_bound = set_parent_process_death_signal(Some(Signal::KILL)).is_ok();
    let code = if is_bound && getppid() == Some(parent) {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or(PANICKED)
    } else {
        PANICKED
    };
    // SAFETY: it only ends the process: what was registered to be done at an exit is the parent's.
    unsafe { libc::_exit(code) }
}

impl Worker {
    /// Returns its process.
    #[must_use]
    pub fn process(&self) -> Pid {
        self.process
    }

    /// Sends it a signal. It is not waited for yet, so that the number is still its own.
    ///
    /// # Errors
    /// Those of kill(2).
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(self.process, signal)?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Those of waitpid(2), such as `EINTR` if a signal was caught.
    pub fn wait(&self) -> io::Result<Ended> {
        loop {
            if let Some(ended) = self.poll(WaitOptions::empty())? {
                return Ok(ended);
            }
        }
    }

    /// Returns how it ended, if it has.
    ///
    /// # Errors
    /// Those of waitpid(2).
    pub fn try_wait(&self) -> io::Result<Option<Ended>> {
        self.poll(WaitOptions::NOHANG)
    }

    /// Waits for all child processes that have ended, and returns how this one ended, if it has.
    /// The first process of a container is the parent of all that lose theirs. `other` is told of
    /// those that ended before this one.
    ///
    /// # Errors
    /// Those of waitpid(2). `ECHILD`: it was waited for before.
    pub fn reap(&self, mut other: impl FnMut(Pid, Ended)) -> io::Result<Option<Ended>> {
        while let Some((process, ended)) = reap_any()? {
            if process == self.process {
                return Ok(Some(ended));
            }
            other(process, ended);
        }
        Ok(None)
    }

    fn poll(&self, options: WaitOptions) -> io::Result<Option<Ended>> {
        Ok(waitpid(Some(self.process), options)?.and_then(|(_, status)| ended(status)))
    }
}

/// Waits for a child process that has ended, if there is one.
///
/// # Errors
/// Those of waitpid(2). `ECHILD`: this process has no child.
pub fn reap_any() -> io::Result<Option<(Pid, Ended)>> {
    let found = wait(WaitOptions::NOHANG)?;
    Ok(found.and_then(|(process, status)| Some((process, ended(status)?))))
}

fn ended(status: WaitStatus) -> Option<Ended> {
    let exited = status.exit_status().map(Ended::Exited);
    exited.or_else(|| status.terminating_signal().map(Ended::Signalled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_several_threads_is_not_copied() {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || receiver.recv());
        let error = spawn_worker(&Holding::begin().unwrap(), |_| 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        assert_eq!(crate::set_title("x").unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        drop(sender);
        let _ = other.join();
    }
}
