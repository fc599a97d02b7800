//! Runs fresh worlds on all cores, and stops at the first failure. `--help` lists its options.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

use std::hash::{BuildHasher, RandomState};
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use eternaltcp_sim::{Campaign, Tally, repetition};

const USAGE: &str = "\
Runs simulated worlds with fresh seeds, and stops at the first that fails.

Usage: worlds COUNT [--base SEED] [--jobs N] [--keep-going]

  COUNT         how many worlds to run; 1_000_000 and 1,000,000 are one number
  --base SEED   the seed of the first world; the others follow it. Without it the
                first seed is random, and is printed
  --jobs N      how many worlds run at a time (default: one on each core)
  --keep-going  run all worlds, and collect those that fail
  -h, --help    print this text

Exits with 0 if every world ended well and enough happened in all of them, with 1
if not, and with 2 if the command line is wrong. What failed is printed with the
command that repeats it.";

/// Interval of progress lines.
const TICK: Duration = Duration::from_secs(10);

/// A floor below this may be missed by chance.
const RARE: u64 = 30;

/// One in this many worlds must reach the average of all worlds, because some counters come from a
/// few worlds with large values. The fixed worlds of the tests reach all floors.
const PART: u64 = 8;

struct WorldsArgs {
    count: u64,
    base: u64,
    jobs: usize,
    keeps_going: bool,
}

impl WorldsArgs {
    /// Returns `None` if only the usage is requested.
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        // 48 bits of randomness: a number that a person can copy.
        let base = RandomState::new().hash_one("base") >> 16;
        let mut options = Self { count: 0, base, jobs: cores, keeps_going: false };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--base" => options.base = number(args.next())?,
                "--jobs" => options.jobs = number(args.next())?.clamp(1, 1024) as usize,
                "--keep-going" => options.keeps_going = true,
                "-h" | "--help" => return Ok(None),
                _ if arg.starts_with('-') => return Err(format!("{arg}: no such option")),
                _ => options.count = number(Some(arg))?,
            }
        }
        match options.base.checked_add(options.count) {
            _ if options.count == 0 => Err("COUNT is missing".to_owned()),
            None => Err("the base is too large".to_owned()),
            Some(_) => Ok(Some(options)),
        }
    }
}

fn number(text: Option<String>) -> Result<u64, String> {
    let text = text.ok_or("a number is missing")?;
    text.replace(['_', ','], "").parse().map_err(|_| format!("{text}: not a number"))
}

fn main() -> ExitCode {
    let options = match WorldsArgs::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("{problem}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let WorldsArgs { count, base, jobs, .. } = options;
    println!("{count} worlds from seed {base} on, on {jobs} cores");
    // A failure is reported once, with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    let begun = Instant::now();
    let tally = run(&options, begun);
    println!("{}", progress(&tally, &options, begun));
    for (seed, message) in &tally.failures {
        println!("\nseed {seed}: {message}\nrepeat it with: {}", repetition(*seed));
    }
    println!("\n{} worlds:\n{}", tally.worlds, tally.counters);
    let shortfalls = tally.counters.shortfalls(tally.worlds / PART, RARE);
    shortfalls.iter().for_each(|shortfall| println!("{shortfall}"));
    let is_good = tally.failures.is_empty() && shortfalls.is_empty();
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs all worlds and prints the progress.
fn run(options: &WorldsArgs, begun: Instant) -> Tally {
    let campaign = Campaign::new(options.base..options.base + options.count, options.keeps_going);
    std::thread::scope(|scope| {
        let (running, finished) = channel::<()>();
        for _ in 0..options.jobs {
            let (campaign, running) = (&campaign, running.clone());
            scope.spawn(move || {
                campaign.work();
                drop(running);
            });
        }
        drop(running);
        let mut reported = 0;
        while finished.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            let tally = campaign.tally();
            for (seed, message) in &tally.failures[reported..] {
                println!("seed {seed}: {message}");
            }
            reported = tally.failures.len();
            println!("{}", progress(&tally, options, begun));
        }
    });
    campaign.tally()
}

fn progress(tally: &Tally, options: &WorldsArgs, begun: Instant) -> String {
    let (worlds, elapsed) = (tally.worlds, begun.elapsed().as_secs_f64());
    let rate = worlds as f64 / elapsed.max(0.001);
    let failed = match tally.failures.len() {
        0 => String::new(),
        failed => format!(", {failed} FAILED"),
    };
    format!(
        "{worlds} of {} worlds from seed {} on{failed}, {rate:.0} a second, {elapsed:.0} s",
        options.count, options.base
    )
}
