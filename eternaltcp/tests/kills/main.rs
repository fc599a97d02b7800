//! A relay whose process is killed, again and again, at random instants: over real sockets, checked
//! byte by byte.
//!
//! ```text
//! cargo test -p eternaltcp --test kills -- [--control] [--threads N] [KILLS]
//! ```
//!
//! The relay has both ends of its tunnels in one process, each with a store, and passes what they
//! send from one to the other in memory. So each kill ends everything but the sockets and the
//! stores. Half of the sessions are TCP, half are Unix sockets. Applications write at both ends, read
//! at both ends, and compare.
//!
//! With `--control` the calls on local sockets are made without a slot. Then it must find a difference,
//! or it exits with 1. Without arguments, it does all of that, for a short time.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

#[cfg(target_os = "linux")]
mod applications;
#[cfg(target_os = "linux")]
#[path = "../support/killing.rs"]
mod killing;
#[cfg(target_os = "linux")]
mod relay;

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("this needs Linux");
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::from(2)
        }
    }
}

#[cfg(target_os = "linux")]
use on_linux::run;

#[cfg(target_os = "linux")]
mod on_linux {
    use std::error::Error;
    use std::io;
    use std::process::ExitCode;
    use std::sync::atomic::Ordering;
    use std::time::{Duration, Instant};

    use eternaltcp::store::{Size, StoreMemory};
    use eternaltcp_sys::{Ended, Holding, Words, Worker, spawn_worker};
    use rustix::process::Signal;

    use super::applications::{Applications, SESSIONS};
    use super::killing::Xorshift;
    use super::relay::{CounterPlaces, relay};

    /// The time that the relay may need to be at work again.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// A worker lives for this long at most, in microseconds.
    const MAX_LIFE: u64 = 30_000;

    /// The plans of a run without arguments.
    const BRIEFLY: [KillPlan; 3] = [
        KillPlan { kills: 150, threads: 1, is_control: false },
        KillPlan { kills: 75, threads: 2, is_control: false },
        KillPlan { kills: 1000, threads: 1, is_control: true },
    ];

    #[derive(Clone, Copy)]
    struct KillPlan {
        kills: u32,
        threads: usize,
        is_control: bool,
    }

    /// Reads the arguments. Arguments for other tests of the same run are ignored.
    fn options() -> Vec<KillPlan> {
        let mut options = KillPlan { kills: 0, threads: 1, is_control: false };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match (word.as_str(), word.parse()) {
                ("--control", _) => options.is_control = true,
                ("--threads", _) => {
                    options.threads = words.next().and_then(|word| word.parse().ok()).unwrap_or(1);
                }
                (_, Ok(kills)) => options.kills = kills,
                (_, Err(_)) => {}
            }
        }
        options.threads = options.threads.clamp(1, SESSIONS);
        if options.kills > 0 { vec![options] } else { BRIEFLY.to_vec() }
    }

    pub(crate) fn run() -> Result<ExitCode, Box<dyn Error>> {
        for options in options() {
            if !kill(options)? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Returns whether the run ended as it must.
    fn kill(options: KillPlan) -> Result<bool, Box<dyn Error>> {
        let applications = Applications::new()?;
        let held = 64 << 20;
        let memory = StoreMemory::create(&Size::for_held(held, 16, 1000))?;
        let tally = Words::create(c"tally", CounterPlaces::LENGTH, 0)?;
        let holding = Holding::begin()?;
        let sockets = applications.relays_ends();
        let start = || {
            spawn_worker(&holding, |_| {
                relay(&memory, &sockets, options.threads, options.is_control, &tally)
            })
        };
        let mut run =
            KillRun { worker: start()?, applications, random: Xorshift::new(), killed: 0 };
        let result = match run.kill(options.kills, start)? {
            Ok(()) => run.finish(),
            Err(difference) => Err(difference),
        };
        let _ = run.worker.signal(Signal::KILL);
        let _ = run.worker.wait();
        let count = |at: usize| tally.word(at).load(Ordering::Relaxed);
        println!(
            "{} kills, {} bytes compared; {} between a read and its note, {} between a write \
             and its note, {} in a commit",
            run.killed,
            run.applications.compared(),
            count(CounterPlaces::READS),
            count(CounterPlaces::WRITES),
            count(CounterPlaces::COMMITS)
        );
        Ok(is_expected(result, options.is_control))
    }

    /// Returns whether a run ended as it must, and prints why if that is remarkable.
    fn is_expected(result: Result<(), String>, is_control: bool) -> bool {
        match (result, is_control) {
            (Ok(()), false) => true,
            (Ok(()), true) => {
                println!("without slots, too, every byte was right: this proves nothing");
                false
            }
            (Err(difference), true) => {
                println!("without slots, as it must be: {difference}");
                true
            }
            (Err(difference), false) => {
                println!("{difference}");
                false
            }
        }
    }

    /// The applications, and the relay that is killed again and again.
    struct KillRun {
        worker: Worker,
        applications: Applications,
        random: Xorshift,
        killed: u32,
    }

    impl KillRun {
        /// Kills the relay at random instants, once all sessions are at work. The inner error is a
        /// difference, or the relay's own end.
        fn kill(
            &mut self,
            kills: u32,
            start: impl Fn() -> io::Result<Worker>,
        ) -> io::Result<Result<(), String>> {
            let began = Instant::now();
            loop {
                let is_ready = self.applications.are_at_work();
                if !is_ready && began.elapsed() > PATIENCE {
                    return Ok(Err("the relay does not begin".to_owned()));
                }
                let life = Duration::from_micros(self.random.next() % MAX_LIFE);
                let result = self.step(Instant::now() + life);
                if result.is_err() || self.killed == kills {
                    return Ok(result);
                }
                if is_ready {
                    self.worker.signal(Signal::KILL)?;
                    self.worker.wait()?;
                    self.killed += 1;
                    self.worker = start()?;
                }
            }
        }

        /// Lets all sessions end.
        fn finish(&mut self) -> Result<(), String> {
            self.applications.finish();
            let until = Instant::now() + PATIENCE;
            while !self.applications.are_done() {
                if Instant::now() > until {
                    return Err("the sessions do not end".to_owned());
                }
                self.step(Instant::now())?;
            }
            Ok(())
        }

        /// Lets the applications work for a while. An error is a difference, or the relay's own end.
        fn step(&mut self, until: Instant) -> Result<(), String> {
            loop {
                self.applications.work(|| self.random.next())?;
                if let Ok(Some(Ended::Exited(code))) = self.worker.try_wait() {
                    return Err(format!("the relay has ended by itself, with {code}"));
                }
                if Instant::now() >= until {
                    return Ok(());
                }
            }
        }
    }
}
