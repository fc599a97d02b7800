//! Processes that share their descriptors. The usual test harness has threads, which a process that
//! starts workers must not have.

#[cfg(target_os = "linux")]
fn main() {
    linux::a_descriptor_outlives_the_worker_that_opened_it();
    linux::values_of_the_parent_are_not_inherited();
    linux::what_the_parent_opens_beside_a_worker_that_starts_is_not_inherited();
    linux::descriptors_above_a_lowered_limit_are_inherited();
    linux::a_worker_that_panics_has_the_code_of_a_panic();
    linux::the_count_of_a_call_outlives_the_worker_that_made_it();
    linux::a_worker_has_a_title_of_its_own();
    linux::a_signal_that_was_blocked_before_reaches_a_worker_that_restores_its_mask();
    linux::a_successor_has_the_chosen_descriptors_of_a_process_without_workers();
    linux::a_successor_is_a_child_of_the_main_process();
    linux::a_worker_ends_with_its_parent();
}

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
#[allow(clippy::unwrap_used, reason = "a test")]
mod linux {
    use std::ffi::CString;
    use std::io::{Read, Write};
    use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
    use std::os::unix::net::UnixStream;

    use eternaltcp_sys::{
        BlockedSignals, Blocks, Ended, Executable, Holding, Inherited, NewProgram, PANICKED, Words,
        Worker, reap_any, restore_blocked, set_title, spawn_successor, spawn_worker,
    };
    use rustix::process::{Pid, Signal, WaitOptions};

    fn spawn(holding: &Holding, work: impl FnOnce(Inherited) -> i32) -> Worker {
        spawn_worker(holding, work).unwrap()
    }

    fn sleep() -> ! {
        loop {
            std::thread::park();
        }
    }

    pub(crate) fn a_descriptor_outlives_the_worker_that_opened_it() {
        let (mut receiver, mut tell) = UnixStream::pair().unwrap();
        let holding = Holding::begin().unwrap();
        let worker = spawn(&holding, |_| {
            let (mut here, there) = UnixStream::pair().unwrap();
            here.write_all(b"alive").unwrap();
            tell.write_all(&[here.as_raw_fd() as u8, there.as_raw_fd() as u8]).unwrap();
            sleep()
        });
        let mut numbers = [0; 2];
        receiver.read_exact(&mut numbers).unwrap();
        worker.signal(Signal::KILL).unwrap();
        assert_eq!(worker.wait().unwrap(), Ended::Signalled(9));
        // The next worker finds it under the same number.
        let worker = spawn(&holding, |mut inherited| {
            assert!(inherited.take_if(numbers[1].into(), |_| false).is_none(), "it is another");
            let there = inherited.take_if(numbers[1].into(), |_| true).unwrap();
            assert!(inherited.take(numbers[1].into()).is_none());
            let mut text = [0; 5];
            UnixStream::from(there).read_exact(&mut text).unwrap();
            let rest: Vec<_> = inherited.take_rest().map(|it| it.as_raw_fd() as u8).collect();
            i32::from(&text != b"alive" || rest != [numbers[0]])
        });
        assert_eq!(worker.wait().unwrap(), Ended::Exited(0));
        // A descriptor that the worker has closed is closed here, too.
        let worker = spawn(&holding, |mut inherited| inherited.take_rest().count() as i32);
        assert_eq!(worker.wait().unwrap(), Ended::Exited(0));
    }

    pub(crate) fn values_of_the_parent_are_not_inherited() {
        let (first, second) = UnixStream::pair().unwrap();
        let mut holding = Holding::begin().unwrap();
        let later = first.try_clone().unwrap();
        holding.add(later.as_fd());
        let worker = spawn(&holding, |mut inherited| {
            let all = [first.as_raw_fd(), second.as_raw_fd(), later.as_raw_fd(), 1];
            i32::from(all.into_iter().any(|number| inherited.take(number).is_some()))
        });
        assert_eq!(worker.wait().unwrap(), Ended::Exited(0));
    }

    pub(crate) fn what_the_parent_opens_beside_a_worker_that_starts_is_not_inherited() {
        let holding = Holding::begin().unwrap();
        for _ in 0..200 {
            let worker = spawn(&holding, |mut inherited| {
                // It is not closed here, where it may be the parent's.
                inherited.take_rest().map(IntoRawFd::into_raw_fd).count() as i32
            });
            let opened = UnixStream::pair().unwrap();
            assert_eq!(worker.wait().unwrap(), Ended::Exited(0));
            drop(opened);
        }
    }

    pub(crate) fn descriptors_above_a_lowered_limit_are_inherited() {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let holding = Holding::begin().unwrap();
        let worker = spawn(&holding, |_| {
            let (first, second) = UnixStream::pair().unwrap();
            std::mem::forget((first, second));
            0
        });
        assert_eq!(worker.wait().unwrap(), Ended::Exited(0));
        let before = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(1), ..before }).unwrap();
        let worker = spawn(&holding, |mut inherited| inherited.take_rest().count() as i32);
        let ended = worker.wait();
        setrlimit(Resource::Nofile, before).unwrap();
        assert_eq!(ended.unwrap(), Ended::Exited(2));
    }

    pub(crate) fn a_worker_that_panics_has_the_code_of_a_panic() {
        let holding = Holding::begin().unwrap();
        let worker = spawn(&holding, |_| {
            std::panic::set_hook(Box::new(|_| {}));
            panic!("meant to be");
        });
        assert_eq!(worker.wait().unwrap(), Ended::Exited(PANICKED));
        let worker = spawn(&holding, |_| 7);
        assert_eq!(worker.wait().unwrap(), Ended::Exited(7));
    }

    pub(crate) fn the_count_of_a_call_outlives_the_worker_that_made_it() {
        let words = Words::create(c"words", 4096, 1).unwrap();
        let blocks = Blocks::create(c"blocks", 65536, 4).unwrap();
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(b"survives").unwrap();
        let worker = spawn(&Holding::begin().unwrap(), |_| {
            let mut call = words.take_call(0).unwrap();
            call.reset();
            let mut block = blocks.take().unwrap();
            let count = call.receive(there.as_fd(), block.rest());
            // No process records it, because the worker dies here.
            i32::from(count.is_err())
        });
        assert_eq!(worker.wait().unwrap(), Ended::Exited(0));
        let file =
            |it: std::os::fd::BorrowedFd<'_>| -> OwnedFd { it.try_clone_to_owned().unwrap() };
        let words = Words::open(file(words.file()), 4096, 1).unwrap();
        let blocks = Blocks::open(file(blocks.file()), 65536).unwrap();
        assert_eq!(words.take_call(0).unwrap().count(), Some(8));
        let block = blocks.claim(0).unwrap().into_part();
        assert_eq!(&block.as_ref()[..8], b"survives");
    }

    pub(crate) fn a_worker_has_a_title_of_its_own() {
        let before = std::fs::read("/proc/self/cmdline").unwrap();
        let holding = Holding::begin().unwrap();
        let read = || std::fs::read("/proc/self/cmdline").unwrap();
        let worker = spawn(&holding, |_| {
            set_title("a: worker").unwrap();
            let shown = read();
            let is_long = std::panic::catch_unwind(|| set_title(&"x".repeat(1 << 20)).unwrap());
            let is_cut = read().len() == before.len() && is_long.is_ok();
            i32::from(!shown.starts_with(b"a: worker\0") || shown.len() != before.len() || !is_cut)
        });
        assert_eq!(worker.wait().unwrap(), Ended::Exited(0));
        assert_eq!(read(), before);
    }

    pub(crate) fn a_signal_that_was_blocked_before_reaches_a_worker_that_restores_its_mask() {
        let signals = BlockedSignals::block(&[Signal::USR1, Signal::CHILD]).unwrap();
        let holding = Holding::begin().unwrap();
        let worker = spawn(&holding, |_| {
            restore_blocked();
            sleep()
        });
        worker.signal(Signal::USR1).unwrap();
        let received = signals.wait(None).unwrap().unwrap();
        assert_eq!(received.signal, Signal::CHILD);
        assert_eq!(worker.reap(|_, _| {}).unwrap(), Some(Ended::Signalled(Signal::USR1.as_raw())));
        assert!(worker.reap(|_, _| {}).is_err(), "there is no child any more");
        restore_blocked();
    }

    pub(crate) fn a_worker_ends_with_its_parent() {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let holding = Holding::begin().unwrap();
        let (mut receiver, tell) = UnixStream::pair().unwrap();
        let parent = spawn(&holding, |_| {
            let holding = Holding::begin().unwrap();
            let _worker = spawn(&holding, |_| {
                (&tell).write_all(b"x").unwrap();
                sleep()
            });
            sleep()
        });
        let mut text = [0; 1];
        receiver.read_exact(&mut text).unwrap();
        parent.signal(Signal::KILL).unwrap();
        parent.wait().unwrap();
        // The worker of the dead process is now a child of this process.
        let (_, status) = rustix::process::wait(WaitOptions::empty()).unwrap().unwrap();
        assert_eq!(status.terminating_signal(), Some(9));
    }

    /// Starts a shell with a script.
    fn shell(script: &str, open: &[i32], executable: Executable<'_>, main: Option<Pid>) -> Pid {
        let arguments = ["sh", "-c", script].map(|it| CString::new(it).unwrap());
        let environment = [c"WORD=heard".to_owned()];
        let (arguments, environment) = (&arguments[..], &environment[..]);
        let program = NewProgram { executable, arguments, environment, open, main };
        spawn_successor(&program).unwrap().process()
    }

    fn end_of(process: Pid) -> Ended {
        loop {
            match reap_any().unwrap() {
                Some((ended, how)) if ended == process => return how,
                _ => std::thread::sleep(std::time::Duration::from_millis(1)),
            }
        }
    }

    pub(crate) fn a_successor_has_the_chosen_descriptors_of_a_process_without_workers() {
        let holding = Holding::begin().unwrap();
        let worker = spawn(&holding, |_| {
            std::mem::forget(UnixStream::pair().unwrap());
            0
        });
        assert_eq!(worker.wait().unwrap(), Ended::Exited(0));
        let mut left: Vec<_> = holding.left_open().unwrap().take_rest().collect();
        let (closed, open) = (left.pop().unwrap(), UnixStream::from(left.pop().unwrap()));
        let numbers = (open.as_raw_fd(), closed.as_raw_fd());
        let script = format!(
            "test $WORD = heard && test -e /proc/self/fd/{0} && ! test -e /proc/self/fd/{1}",
            numbers.0, numbers.1
        );
        let shell_at = std::fs::File::open("/bin/sh").unwrap();
        for executable in [Executable::At(c"/bin/sh"), Executable::Opened(shell_at.as_fd())] {
            let process =
                shell(&format!("{script}; exit $(($? + 4))"), &[numbers.0], executable, None);
            assert_eq!(end_of(process), Ended::Exited(4));
        }
        let process = shell("", &[], Executable::At(c"/"), None);
        assert_eq!(end_of(process), Ended::Exited(127));
    }

    pub(crate) fn a_successor_is_a_child_of_the_main_process() {
        let holding = Holding::begin().unwrap();
        let main = rustix::process::getpid();
        let worker = spawn(&holding, |_| {
            let process = shell("exit 9", &[], Executable::At(c"/bin/sh"), Some(main));
            process.as_raw_nonzero().get() & 0x7f
        });
        let (mut codes, mut processes) = (Vec::new(), Vec::new());
        while codes.len() < 2 {
            if let Some((process, how)) = reap_any().unwrap() {
                processes.push(process);
                codes.push(how);
            }
        }
        let at = processes.iter().position(|it| *it == worker.process()).unwrap();
        let Ended::Exited(told) = codes[at] else { panic!("{codes:?}") };
        assert_eq!(processes[1 - at].as_raw_nonzero().get() & 0x7f, told);
        assert_eq!(codes[1 - at], Ended::Exited(9));
    }
}
