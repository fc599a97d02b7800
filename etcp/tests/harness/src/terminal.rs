//! A program on a pseudo-terminal, and a driver that types and reads.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::folder::TestFolder;
use super::netns::Namespace;
use super::process::{Launch, Process};
use super::wait::until_some;

/// A program whose stdin and stdout are a terminal, with all it has written.
pub struct Terminal {
    process: Process,
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
    /// The part of the screen that earlier expectations have consumed.
    seen: usize,
}

impl Terminal {
    /// Starts a program on a new terminal.
    pub fn start(launch: Launch, namespace: &Namespace, folder: &TestFolder) -> Self {
        Self::open(|stdin, stdout| launch.start_with(namespace, folder, stdin, Some(stdout)))
    }

    /// Starts a program on this machine itself; the terminal is that of a new session, and the
    /// program's stderr is in its log.
    pub fn start_here(launch: Launch, folder: &Path) -> Self {
        let launch = launch.run_by(["setsid", "--ctty", "--wait"]);
        Self::open(|stdin, stdout| launch.start_here_with(folder, stdin, Some(stdout)))
    }

    fn open(start: impl FnOnce(Stdio, Stdio) -> Process) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let keyboard = openpt(flags).expect("a pseudo-terminal");
        grantpt(&keyboard).expect("it is ours");
        unlockpt(&keyboard).expect("it is ours");
        let name = ptsname(&keyboard, Vec::new()).expect("it has a name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave: OwnedFd = open(name, flags, Mode::empty()).expect("its other end opens");
        let stdin = slave.try_clone().expect("a descriptor").into();
        let process = start(stdin, slave.into());
        let keyboard = File::from(keyboard);
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, copy) = (keyboard.try_clone().expect("a descriptor"), screen.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Reading fails (EIO) once the program has ended.
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                copy.lock().expect("no reader panics").extend_from_slice(&buffer[..length]);
            }
        });
        Self { process, keyboard, screen, seen: 0 }
    }

    /// Types `text` as it is.
    pub fn send(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).expect("the terminal takes it");
    }

    /// Types a line.
    pub fn line(&mut self, text: &str) {
        self.send(&format!("{text}\n"));
    }

    /// Returns everything that it has shown.
    pub fn shown(&self) -> String {
        let screen = self.screen.lock().expect("no reader panics");
        String::from_utf8_lossy(&screen).into_owned()
    }

    /// Waits until `text` appears after the previous expectation.
    #[track_caller]
    pub fn expect(&mut self, text: &str, limit: Duration) {
        self.seen = until_some(&format!("{text:?} on the terminal"), limit, || {
            let screen = self.screen.lock().expect("no reader panics");
            let rest = &screen[self.seen..];
            let found = rest.windows(text.len()).position(|window| window == text.as_bytes());
            let end = found.map(|at| self.seen + at + text.len());
            drop(screen);
            assert!(end.is_some() || self.is_running(), "it ended before {text:?} appeared");
            end
        });
    }

    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Returns the program itself.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let screen = self.screen.lock().map(|screen| screen.clone()).unwrap_or_default();
            let text = String::from_utf8_lossy(&screen);
            let _ = writeln!(std::io::stderr(), "--- the terminal showed:\n{text}\n---");
        }
    }
}
