//! A run of the emulator: its setup, and its end.

use std::io::{Read, Write, stdin, stdout};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use rustix::fs::Mode;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::EmulatorArgs;
use crate::control::{self, Control};
use crate::emulator::{Emulator, StopReason};

/// Runs until something ends it. The kernel removes the devices with the process.
pub(crate) fn run(args: &EmulatorArgs) -> Result<(), String> {
    let (Some(left), Some(right)) = (&args.left, &args.right) else {
        return Err("--left and --right are missing".to_owned());
    };
    let (end, ends) = channel();
    listen_for_signals(end.clone())?;
    // The control socket is for nobody else, from its first moment on.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let control = args.control.as_deref().map(Control::listen).transpose()?;
    let emulator = Emulator::start([left, right], args.seed, &args.settings, &end)?;
    let _socket = control.map(|(socket, listener)| {
        control::serve(listener, Arc::new(emulator), end.clone());
        socket
    });
    if args.exit_with_stdin {
        follow_stdin(end);
    }
    announce().map_err(|error| format!("cannot write to stdout: {error}"))?;
    match ends.recv() {
        Ok(StopReason::Failed(reason)) => Err(reason),
        Ok(StopReason::Asked) | Err(_) => Ok(()),
    }
}

fn announce() -> std::io::Result<()> {
    let mut stdout = stdout();
    stdout.write_all(b"ready\n")?;
    stdout.flush()
}

fn listen_for_signals(end: Sender<StopReason>) -> Result<(), String> {
    let signals = Signals::new([SIGTERM, SIGINT]);
    let mut signals = signals.map_err(|error| format!("cannot listen for signals: {error}"))?;
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            let _ = end.send(StopReason::Asked);
        }
    });
    Ok(())
}

fn follow_stdin(end: Sender<StopReason>) {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while stdin().read(&mut buffer).is_ok_and(|count| count > 0) {}
        let _ = end.send(StopReason::Asked);
    });
}
