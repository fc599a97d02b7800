//! The runtimes of the program, and the threads that they keep.
//!
//! Look-ups, files and stdio block, and run on their own threads. tokio ends such a thread after
//! ten idle seconds, and panics if the system has none for the next call. A reconnect may happen at
//! that moment, so some threads are started at the beginning and never end.

use std::io;
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use eternaltcp::Slots;
use eternaltcp::process::raise_descriptor_limit;
use rustix::pipe::pipe;
use rustix::process::{Resource, getrlimit};
use tokio::runtime::{Builder, Runtime};

use crate::exit::ExitError;
use crate::holder;

/// The number of threads for blocking calls that are kept from the start. While the system has no
/// more threads, calls wait for one of these.
const KEPT: usize = 4;

/// The maximum number of such threads of a client. A started thread is kept.
const MAX_CLIENT_THREADS: usize = 32;

/// The maximum number of sessions, even if there are more descriptors.
const MAX_SESSIONS: u32 = 1 << 20;

/// Time for the kept threads to start.
const START: Duration = Duration::from_secs(1);

/// The number of pipes, of two descriptors each, that take as many descriptors as a runtime and its
/// signals.
const PIPES: usize = 4;

/// A time that never passes.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Raises this process's limit of descriptors, so that sessions may use all of them. Programs that
/// it starts get the previous limit.
///
/// # Errors
/// The limit leaves no room for sessions.
pub(crate) fn raise_descriptors() -> Result<(), ExitError> {
    raise_descriptor_limit();
    Slots::of_process().map(drop).map_err(ExitError::failed)
}

/// Returns how many sessions this process has descriptors for.
pub(crate) fn most_sessions() -> u32 {
    let limit = getrlimit(Resource::Nofile).current;
    u32::try_from(limit.unwrap_or(u64::MAX)).unwrap_or(u32::MAX).min(MAX_SESSIONS)
}

/// Runs `future` to its end on this thread. Then it abandons blocking calls: it waits neither for a
/// name look-up nor for input.
///
/// # Errors
/// The system refuses what a runtime needs.
pub(crate) fn block_on<F: Future>(future: F) -> Result<F::Output, ExitError> {
    let mut builder = Builder::new_current_thread();
    builder.max_blocking_threads(MAX_CLIENT_THREADS);
    let runtime = build(builder, 0)?;
    let output = runtime.block_on(future);
    runtime.shutdown_background();
    Ok(output)
}

/// Creates a runtime with a thread for each processor, for a program that serves many tunnels.
///
/// # Errors
/// The system refuses what the runtime needs.
pub(crate) fn on_all_processors() -> Result<Runtime, ExitError> {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(workers);
    build(builder, workers)
}

fn build(mut builder: Builder, workers: usize) -> Result<Runtime, ExitError> {
    check_descriptors().map_err(|error| {
        ExitError::Failed(format!("cannot start: {error}: raise the limit (ulimit -n)"))
    })?;
    check_threads(workers + 1)
        .map_err(|error| ExitError::Failed(format!("cannot start a thread: {error}")))?;
    // Every thread that wakes up while the holder is stopped must wait.
    builder.on_thread_unpark(holder::look);
    let runtime =
        builder.enable_all().thread_keep_alive(NEVER).build().map_err(ExitError::failed)?;
    keep_threads(&runtime);
    Ok(runtime)
}

/// Returns an error if the system does not have the descriptors of a runtime now. Without them
/// tokio panics.
fn check_descriptors() -> io::Result<()> {
    (0..PIPES).map(|_| Ok(pipe()?)).collect::<io::Result<Vec<_>>>().map(drop)
}

/// Returns an error if the system does not have this many threads now. Without them tokio panics.
fn check_threads(count: usize) -> io::Result<()> {
    let mut threads = Vec::new();
    for _ in 0..count {
        // Each thread lives until its sender is dropped, so all of them exist at the same time.
        let (life, end) = channel::<()>();
        let thread = thread::Builder::new().spawn(move || end.recv().is_ok())?;
        threads.push((life, thread));
    }
    for (life, thread) in threads {
        drop(life);
        // It does nothing that could panic.
        let _ = thread.join();
    }
    Ok(())
}

/// Starts the threads that are kept, as far as the system has them.
fn keep_threads(runtime: &Runtime) {
    let started = Arc::new((Mutex::new(0), Condvar::new()));
    for _ in 0..KEPT {
        let started = Arc::clone(&started);
        // Each stays busy until the last one has started, so that they are different threads.
        runtime.spawn_blocking(move || {
            let (count, all) = &*started;
            let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
            *count += 1;
            all.notify_all();
            drop(all.wait_timeout_while(count, START, |count| *count < KEPT));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many threads of this process have this name.
    fn threads(name: &str) -> usize {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let names = tasks.filter_map(|it| std::fs::read_to_string(it.path().join("comm")).ok());
        names.filter(|it| it.trim_end() == name).count()
    }

    #[test]
    fn threads_that_block_are_there_from_the_start() {
        let mut builder = Builder::new_current_thread();
        builder.thread_name("kept");
        let runtime = build(builder, 0).unwrap();
        let until = std::time::Instant::now() + Duration::from_secs(60);
        while threads("kept") < KEPT {
            assert!(std::time::Instant::now() < until, "they do not start");
            thread::yield_now();
        }
        runtime.shutdown_background();
    }
}
