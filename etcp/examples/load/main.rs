//! The load that `bench/run` puts on a path, and the server at its other end.
//!
//! ```text
//! load serve  ADDR                      the server for every other mode
//! load await  ADDR                      reports when an echo comes back for the first time
//! load bulk   ADDR WAY SECONDS STREAMS  this many streams at once; WAY is up, down or both
//! load echo   ADDR COUNT OTHERS         64 bytes there and back, while OTHERS do so at a low rate
//! load ping   ADDR SECONDS MICROSECONDS 64 bytes at a fixed rate, whether or not the last came back
//! load beside ADDR WAY SECONDS          messages of 64 bytes beside a bulk stream
//! load rate   ADDR SECONDS AT_ONCE      connections, each for one byte there and back
//! load idle   ADDR COUNT                sessions that stay open until stdin ends; each line of
//!                                       stdin checks whether all of them live
//! ```
//!
//! Each mode prints a line of JSON; times are in microseconds unless they say seconds. Before the
//! mode, `--mptcp` makes every socket an MPTCP socket.

#![allow(clippy::print_stdout, reason = "the results go to the script that started this")]

mod awaiting;
mod beside;
mod bulk;
mod echo;
mod idle;
mod opening;
mod ping;
mod rate;
mod server;
mod times;

use std::error::Error;
use std::time::Duration;

use opening::LoadOpener;

/// The result of a mode; an error ends the program with its text.
type LoadOutcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str = "usage: load [--mptcp] serve|await|bulk|echo|ping|beside|rate|idle ADDR ...";

fn main() -> LoadOutcome {
    let mut args: Vec<_> = std::env::args().skip(1).collect();
    let is_mptcp = args.first().is_some_and(|word| word == "--mptcp");
    args.drain(..usize::from(is_mptcp));
    let [mode, address, rest @ ..] = &args[..] else {
        return Err(USAGE.into());
    };
    let opener = LoadOpener { address: address.parse()?, is_mptcp };
    let rest: Vec<_> = rest.iter().map(String::as_str).collect();
    match (mode.as_str(), &rest[..]) {
        ("serve", []) => server::run(&opener),
        ("await", []) => awaiting::run(&opener),
        ("bulk", [way, time, streams]) => {
            bulk::run(&opener, way.parse()?, seconds(time)?, streams.parse()?)
        }
        ("echo", [count, others]) => echo::run(&opener, count.parse()?, others.parse()?),
        ("ping", [time, interval]) => {
            ping::run(&opener, seconds(time)?, Duration::from_micros(interval.parse()?))
        }
        ("beside", [way, time]) => beside::run(&opener, way.parse()?, seconds(time)?),
        ("rate", [time, at_once]) => rate::run(&opener, seconds(time)?, at_once.parse()?),
        ("idle", [count]) => idle::run(&opener, count.parse()?),
        _ => Err(USAGE.into()),
    }
}

fn seconds(text: &str) -> LoadOutcome<Duration> {
    Ok(Duration::try_from_secs_f64(text.parse()?)?)
}
