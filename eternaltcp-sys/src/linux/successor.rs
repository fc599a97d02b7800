//! The start of a program that takes over from this one.
//!
//! execve(2) gives a process its own table of descriptors, so a new program cannot share the table
//! of the holder that starts it. It gets a copy, in which chosen descriptors stay open.

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr::{from_mut, null};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, Signal, getpid, getppid, pidfd_send_signal, set_parent_process_death_signal,
};

use super::clone::{clone, has_one_thread};
use super::start;

/// The exit code of a process whose program could not be started, as in a shell.
const NOT_STARTED: i32 = 127;

/// The file of a program.
#[derive(Clone, Copy, Debug)]
pub enum Executable<'a> {
    /// The file at this path.
    At(&'a CStr),
    /// This open file, even if its path has changed.
    Opened(BorrowedFd<'a>),
}

/// A program, and the state with which it is started.
#[derive(Clone, Copy, Debug)]
pub struct NewProgram<'a> {
    /// The program's file.
    pub executable: Executable<'a>,
    /// The arguments, including the name.
    pub arguments: &'a [CString],
    /// The environment.
    pub environment: &'a [CString],
    /// Descriptors that the program finds open, under the same numbers. Others stay open unless
    /// they are marked to be closed at execve(2).
    pub open: &'a [RawFd],
    /// The main process, if it is not this one. It becomes the parent of the new process, as it is
    /// the parent of this one.
    pub main: Option<Pid>,
}

/// A process that was started to take over.
#[derive(Debug)]
pub struct Successor {
    process: Pid,
    handle: OwnedFd,
}

/// Starts a program with a copy of this process's descriptors, and with the signals and limits with
/// which this process was started. The program ends with the main process.
///
/// # Errors
/// This process has more than one thread, or the system refuses. If the program cannot be started,
/// its process ends.
pub fn spawn_successor(program: &NewProgram<'_>) -> io::Result<Successor> {
    if !has_one_thread()? {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    let pointers = |texts: &[CString]| -> Vec<*const c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([null()]).collect()
    };
    let (arguments, environment) = (pointers(program.arguments), pointers(program.environment));
    let parent = program.main.unwrap_or_else(getpid);
    let sibling = if program.main.is_some() { libc::CLONE_PARENT } else { 0 };
    let mut handle: libc::c_int = -1;
    // SAFETY: the call is like fork(2), in a process that has one thread; the handle is valid
    // memory. No stack is given, so the copy continues here.
    let result =
        unsafe { clone(libc::CLONE_PIDFD | libc::SIGCHLD | sibling, from_mut(&mut handle)) };
    match result {
        ..0 => Err(io::Error::last_os_error()),
        0 => become_program(parent, program, &arguments, &environment),
        process => {
            // SAFETY: the kernel has just made it for this process.
            let handle = unsafe { OwnedFd::from_raw_fd(handle) };
            let process = i32::try_from(process).ok().and_then(Pid::from_raw);
            Ok(Successor { process: process.ok_or(io::ErrorKind::InvalidData)?, handle })
        }
    }
}

/// Runs in the copy. The vectors end with null.
fn become_program(
    parent: Pid,
    program: &NewProgram<'_>,
    arguments: &[*const c_char],
    environment: &[*const c_char],
) -> ! {
    // The parent may have died before this call.
    let is_bound = set_parent_process_death_signal(Some(Signal::KILL)).is_ok();
    if is_bound && getppid() == Some(parent) {
        // SAFETY: the numbers are descriptors of this process, and only their flags change. Both
        // vectors, and the texts to which they point, outlive the calls, which return only if they
        // fail.
        unsafe {
            for number in program.open {
                libc::fcntl(*number, libc::F_SETFD, 0);
            }
            start::restore_all();
            match program.executable {
                Executable::At(path) => {
                    libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr());
                }
                Executable::Opened(file) => {
                    libc::syscall(
                        libc::SYS_execveat,
                        file.as_raw_fd(),
                        c"".as_ptr(),
                        arguments.as_ptr(),
                        environment.as_ptr(),
                        libc::AT_EMPTY_PATH,
                    );
                }
            }
        }
    }
    // SAFETY: the call only ends the process. Exit handlers belong to the parent and do not run.
    unsafe { libc::_exit(NOT_STARTED) }
}

impl Successor {
    /// Returns the process id.
    #[must_use]
    pub fn process(&self) -> Pid {
        self.process
    }

    /// Sends a signal to the process, if it still exists.
    pub fn signal(&self, signal: Signal) {
        // If the process has ended already, the caller does not need the signal, or will notice the
        // end soon.
        let _ = pidfd_send_signal(&self.handle, signal);
    }

    /// Returns whether the process has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(&self.handle, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
    }
}

impl AsFd for Successor {
    /// Returns a descriptor that becomes readable when the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// Lets a program that is started with `command` end when this process does.
pub fn end_with_parent(command: &mut Command) {
    let parent = getpid();
    let bind = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    };
    // SAFETY: between fork(2) and execve(2) only system calls are made, and no memory is allocated.
    unsafe { command.pre_exec(bind) };
}

/// Lets this process end when its parent does. Returns whether `parent` is still its parent.
///
/// # Errors
/// The system refuses.
pub fn end_with(parent: Pid) -> io::Result<bool> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(getppid() == Some(parent))
}
