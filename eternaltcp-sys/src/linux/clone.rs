//! Processes that share the table of descriptors with their parent.
//!
//! A descriptor that such a process opens belongs to its parent, too, and stays open when the
//! process dies. A descriptor that it closes is closed for both.

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

/// The time that the kernel may take to remove a thread that has ended, in milliseconds.
const ENDING: u32 = 200;

/// The maximum size of a table of descriptors, unless an administrator has raised it
/// (`fs.nr_open`).
const MAX_TABLE: u64 = 1 << 20;

/// The exit code of a worker that panicked, which is that of a program that panics.
pub const PANICKED: i32 = 101;

/// A process that was made by [`spawn_worker`].
///
/// It must be [waited for](Self::wait). Dropping this neither ends it nor waits.
#[derive(Debug)]
pub struct Worker {
    process: Pid,
}

/// The end of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// The process returned, or called exit(2), with this code.
    Exited(i32),
    /// A signal ended the process.
    Signalled(i32),
}

/// The descriptors that a process which starts workers keeps for itself. All others in the table
/// belong to workers.
#[derive(Debug)]
pub struct Holding {
    own: BTreeSet<RawFd>,
}

impl Holding {
    /// Records the descriptors that are open now. Call it before the first worker is started.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn begin() -> io::Result<Self> {
        Ok(Self { own: open_descriptors()? })
    }

    /// Records a descriptor that was opened later.
    pub fn add(&mut self, descriptor: BorrowedFd<'_>) {
        self.own.insert(descriptor.as_raw_fd());
    }

    /// Records the descriptors of a program that took over from another one. The descriptors in
    /// `inherited` belong to the other program's workers.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn begin_without(inherited: &Inherited) -> io::Result<Self> {
        let mut own = open_descriptors()?;
        own.retain(|number| !inherited.open.contains(number));
        Ok(Self { own })
    }

    /// Returns the descriptors that workers have left open. Call this while no worker lives,
    /// because a living worker owns its descriptors.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn left_open(&self) -> io::Result<Inherited> {
        Ok(Inherited { open: others_open(&self.own)?.into_iter().collect() })
    }

    /// Returns this process's descriptors that stay open when this process starts another program,
    /// without the standard ones.
    #[must_use]
    pub fn kept_at_exec(&self) -> Vec<RawFd> {
        let is_kept = |number: &RawFd| *number > libc::STDERR_FILENO && is_kept_at_exec(*number);
        self.own.iter().copied().filter(is_kept).collect()
    }

    /// Removes a descriptor from the record, because it is about to be closed.
    pub fn remove(&mut self, descriptor: BorrowedFd<'_>) {
        self.own.remove(&descriptor.as_raw_fd());
    }
}

/// The descriptors that earlier workers have left open. Each can be taken once.
#[derive(Debug)]
pub struct Inherited {
    open: BTreeSet<RawFd>,
}

impl Inherited {
    /// Returns the descriptors that were open when this program was started, without the standard
    /// ones. Call this before the program opens anything.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub fn at_start() -> io::Result<Self> {
        let mut open = open_descriptors()?;
        open.retain(|number| *number > libc::STDERR_FILENO);
        Ok(Self { open })
    }

    /// Makes all of them close when another program is started. They were left open only to reach
    /// this one.
    pub fn close_at_exec(&self) {
        for number in &self.open {
            // SAFETY: only the flags of a descriptor change, and nothing in this process uses it so
            // far.
            unsafe { libc::fcntl(*number, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }

    /// Leaves a descriptor open, because it belongs to nothing in this process.
    pub fn leave(&mut self, number: RawFd) {
        self.open.remove(&number);
    }

    /// Returns the descriptor with this number, if an earlier worker has left it open and it was
    /// not taken since.
    pub fn take(&mut self, number: RawFd) -> Option<OwnedFd> {
        // SAFETY: the descriptor was open when this process began, and no value that was copied
        // from the parent owns it, because the set excludes the parent's descriptors. The process
        // that owned it is dead.
        self.open.remove(&number).then(|| unsafe { OwnedFd::from_raw_fd(number) })
    }

    /// Returns the descriptor with this number if `is_meant` accepts it. Otherwise it can still be
    /// taken.
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

    /// Returns the descriptors that were not taken, for inspection or to be closed.
    pub fn take_rest(&mut self) -> impl Iterator<Item = OwnedFd> {
        // SAFETY: as for `take`.
        std::mem::take(&mut self.open).into_iter().map(|it| unsafe { OwnedFd::from_raw_fd(it) })
    }
}

/// Returns the open descriptors that are not in `own`, in order. With thousands of descriptors,
/// this takes a tenth of the time of reading the folder in /proc.
fn others_open(own: &BTreeSet<RawFd>) -> io::Result<Vec<RawFd>> {
    match table_size()? {
        Some(size) if own.last().is_none_or(|last| *last < size) => {
            let mut open = Vec::new();
            for number in (0..size).filter(|number| !own.contains(number) && is_open(*number)) {
                // A lack of memory must not end the process: the caller tries again.
                open.try_reserve(1)?;
                open.push(number);
            }
            Ok(open)
        }
        // A system that only emulates Linux.
        _ => Ok(open_descriptors()?.difference(own).copied().collect()),
    }
}

/// Returns a number above those of all descriptors, if the system reports one. Allocates no memory.
fn table_size() -> io::Result<Option<RawFd>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let status = match open(c"/proc/self/status", flags, Mode::empty()) {
        Ok(status) => status,
        // The present limit may be lower than an earlier one.
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
    // The descriptor of the folder itself is closed by now.
    numbers.retain(|number| is_open(*number));
    Ok(numbers)
}

fn is_kept_at_exec(number: RawFd) -> bool {
    // SAFETY: as for `is_open`.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags != -1 && flags & libc::FD_CLOEXEC == 0
}

fn is_open(number: RawFd) -> bool {
    // SAFETY: the call reads the flags of a number, which need not be a descriptor.
    unsafe { libc::fcntl(number, libc::F_GETFD) != -1 }
}

/// Returns whether this process has one thread. Allocates no memory.
pub(super) fn has_one_thread() -> io::Result<bool> {
    for _ in 0..ENDING {
        // The link count of a folder is two more than the number of folders in it, which are the
        // threads.
        if stat(c"/proc/self/task")?.st_nlink == 3 {
            return Ok(true);
        }
        // The kernel removes a thread a moment after a waiting thread learns of its end.
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(false)
}

/// Starts a process that runs `work` and exits with the code that it returns. The process is a copy
/// of this one, shares its descriptors, and ends with it. `work` gets the descriptors that earlier
/// workers have left open at the time of the call.
///
/// A descriptor that either process closes is closed for both: a value that owns one must be
/// dropped in only one of them. Buffered output of the standard library's streams is in both
/// copies, so flush it first.
///
/// # Errors
/// This process has more than one thread, there is no `/proc`, or the system refuses a process or
/// memory. With several threads, the copy could find a lock that is held and never released.
pub fn spawn_worker(holding: &Holding, work: impl FnOnce(Inherited) -> i32) -> io::Result<Worker> {
    if !has_one_thread()? {
        return Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "this process has several threads",
        ));
    }
    // The list is made before there are two processes, so that neither takes the other's new
    // descriptors for a worker's.
    let left = others_open(&holding.own)?;
    let parent = getpid();
    // SAFETY: the call is like fork(2), in a process that has one thread, except for the shared
    // table: the copy has its own memory, in the state in which this thread left it. No stack is
    // given, so the copy continues here.
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

/// Calls clone(2) directly, because the C library's fork(2) cannot share descriptors.
///
/// # Safety
/// The same as for fork(2), with the effects of the flags. With `CLONE_PIDFD`, `handle` must be
/// valid memory.
pub(super) unsafe fn clone(flags: libc::c_int, handle: *mut libc::c_int) -> libc::c_long {
    let (flags, none) = (libc::c_long::from(flags), 0 as libc::c_long);
    // On this architecture the first two arguments are swapped (clone(2)).
    let (first, second) = if cfg!(target_arch = "s390x") { (none, flags) } else { (flags, none) };
    // SAFETY: the caller guarantees it.
    unsafe { libc::syscall(libc::SYS_clone, first, second, handle, none, none) }
}

/// Runs `work` in the copy. It never returns to the code that called [`spawn_worker`].
fn run(parent: Pid, work: impl FnOnce() -> i32) -> ! {
    // The parent may have died before this call.
    let is_bound = set_parent_process_death_signal(Some(Signal::KILL)).is_ok();
    let code = if is_bound && getppid() == Some(parent) {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or(PANICKED)
    } else {
        PANICKED
    };
    // SAFETY: the call only ends the process. Exit handlers belong to the parent and do not run.
    unsafe { libc::_exit(code) }
}

impl Worker {
    /// Returns the process id.
    #[must_use]
    pub fn process(&self) -> Pid {
        self.process
    }

    /// Sends a signal to the process. Its id cannot be reused, because it was not waited for.
    ///
    /// # Errors
    /// The errors of kill(2).
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(self.process, signal)?)
    }

    /// Waits for the end of the process.
    ///
    /// # Errors
    /// The errors of waitpid(2), such as `EINTR` if a signal was caught.
    pub fn wait(&self) -> io::Result<Ended> {
        loop {
            if let Some(ended) = self.poll(WaitOptions::empty())? {
                return Ok(ended);
            }
        }
    }

    /// Returns the end of the process, if it has ended.
    ///
    /// # Errors
    /// The errors of waitpid(2).
    pub fn try_wait(&self) -> io::Result<Option<Ended>> {
        self.poll(WaitOptions::NOHANG)
    }

    /// Waits for all child processes that have ended, and returns the end of this one, if it has
    /// ended. The first process of a container is the parent of all orphans. `other` is called for
    /// each of those that ended before this one.
    ///
    /// # Errors
    /// The errors of waitpid(2). `ECHILD`: the child was waited for before.
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
/// The errors of waitpid(2). `ECHILD`: this process has no child.
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
