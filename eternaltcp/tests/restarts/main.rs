//! A client and a server whose processes are killed, again and again, at random instants: with
//! listeners, targets and carriers as in a proxy, checked byte by byte.
//!
//! ```text
//! cargo test -p eternaltcp --test restarts -- [--control] [KILLS]
//! ```
//!
//! Each of the two is a process that keeps descriptors and memory, and starts a worker again when that
//! dies. Applications connect to the client, over TCP and over Unix sockets, write, half-close and
//! reset; so do the targets. A connection that is refused, a byte that differs, and an end or a reset
//! that the other side has not caused is a failure.
//!
//! With `--control` nothing is kept. Then it must find a failure, or it exits with 1. Without arguments
//! it does both, for a short time.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

#[cfg(target_os = "linux")]
mod ends;
#[cfg(target_os = "linux")]
mod killer;
#[cfg(target_os = "linux")]
#[path = "../support/killing.rs"]
mod killing;
#[cfg(target_os = "linux")]
mod proxy;

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("this needs Linux");
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let result = match &words[..] {
        [word, role, folder, keeps] if word == proxy::WORD => proxy::hold(role, folder, keeps),
        _ => killer::run(&words),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::from(2)
        }
    }
}
