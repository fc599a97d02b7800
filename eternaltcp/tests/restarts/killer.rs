//! The applications, the targets, and the killer of the proxies.

use std::error::Error;
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

use super::ends::{Prologue, SessionEnd, Targets, connect};
use super::killing::{ApplicationSocket, Xorshift};
use super::proxy::{Files, KEEPS_NOTHING, WORD, make_keys};

/// Sessions at the same time. Half of them are TCP.
const SESSIONS: usize = 16;

/// The longest time without progress.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest time between two kills, in microseconds.
const MAX_LIFE: u64 = 400_000;

/// After this many kills, the next one waits until all sessions have made progress.
const REST: u32 = 8;

/// The plans of a run without arguments: the number of kills, and whether something is kept.
const BRIEFLY: [(u32, bool); 2] = [(60, true), (20, false)];

pub(crate) fn run(words: &[String]) -> Result<ExitCode, Box<dyn Error>> {
    let is_control = words.iter().any(|word| word == "--control");
    let kills = words.iter().find_map(|word| word.parse().ok());
    let all = kills.map_or(BRIEFLY.to_vec(), |kills| vec![(kills, !is_control)]);
    for (kills, keeps) in all {
        let mut test = Test::start(keeps)?;
        let result = test.run(kills);
        let Test { opened, compared, killed, resets, .. } = test;
        println!(
            "{killed} kills, {opened} sessions, {resets} of them reset, {compared} bytes compared"
        );
        match (result, keeps) {
            (Ok(()), true) => {}
            (Err(failure), false) => println!("without a store, as it must be: {failure}"),
            (Ok(()), false) => {
                println!("without a store nothing was lost: this proves nothing");
                return Ok(ExitCode::FAILURE);
            }
            (Err(failure), true) => {
                println!("{failure}");
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A proxy that ends with this value.
struct ProxyProcess(Child);

impl ProxyProcess {
    fn start(role: &str, folder: &Path, keeps: bool) -> std::io::Result<Self> {
        let keeps = if keeps { "all" } else { KEEPS_NOTHING };
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(WORD).arg(role).arg(folder).arg(keeps).spawn().map(Self)
    }
}

impl Drop for ProxyProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct CheckedSession {
    application: SessionEnd,
    target: SessionEnd,
}

struct Test {
    proxies: [(&'static str, ProxyProcess); 2],
    files: Files,
    targets: Targets,
    /// The addresses to which applications connect: a listener for TCP, one of a Unix socket, one
    /// for which they name their target, and one at the server.
    places: [String; 4],
    tcp_target: String,
    sessions: Vec<(u64, CheckedSession)>,
    /// Targets that do not know their session yet.
    strangers: Vec<(ApplicationSocket, Vec<u8>)>,
    random: Xorshift,
    opened: u64,
    compared: u64,
    resets: u64,
    killed: u32,
    _folder: tempfile::TempDir,
}

impl Test {
    fn start(keeps: bool) -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path();
        make_keys(path)?;
        let (targets, names) = Targets::listen(path)?;
        let files = Files(path.to_owned());
        files.tell("tcp_target", &names[0])?;
        files.tell("unix_target", &names[1])?;
        let server = ProxyProcess::start("server", path, keeps)?;
        wait_for(&files, "server_address")?;
        let client = ProxyProcess::start("client", path, keeps)?;
        let [tcp, dynamic, remote] =
            ["tcp_address", "dynamic_address", "remote_address"].map(|it| wait_for(&files, it));
        let unix = format!("unix:{}", files.path("apps").display());
        Ok(Self {
            proxies: [("server", server), ("client", client)],
            files,
            targets,
            places: [tcp?, unix, dynamic?, remote?],
            tcp_target: names[0].clone(),
            sessions: Vec::new(),
            strangers: Vec::new(),
            random: Xorshift::new(),
            opened: 0,
            compared: 0,
            resets: 0,
            killed: 0,
            _folder: folder,
        })
    }

    fn run(&mut self, kills: u32) -> Result<(), String> {
        while self.killed < kills {
            let life = Duration::from_micros(self.random.next() % MAX_LIFE);
            let until = Instant::now() + life;
            while Instant::now() < until {
                self.step(true)?;
            }
            if self.killed.is_multiple_of(REST) {
                self.wait_for_progress()?;
            }
            match self.random.next() % 5 {
                0 | 1 => self.kill("server"),
                2 | 3 => self.kill("client"),
                _ => {
                    self.kill("client");
                    self.kill("server");
                }
            }
        }
        let mut progress = Instant::now();
        while !self.sessions.is_empty() {
            if self.step(false)? {
                progress = Instant::now();
            }
            if progress.elapsed() > PATIENCE {
                return Err(self.describe("the sessions do not end"));
            }
        }
        Ok(())
    }

    fn kill(&mut self, role: &str) {
        let process = self.files.read(role).and_then(|text| text.parse().ok());
        if let Some(process) = process.and_then(Pid::from_raw)
            && kill_process(process, Signal::KILL).is_ok()
        {
            self.killed += 1;
        }
    }

    /// Waits until each existing session has made progress, or has ended.
    fn wait_for_progress(&mut self) -> Result<(), String> {
        let now = |session: &CheckedSession| session.application.read + session.target.read;
        let before: Vec<_> = self.sessions.iter().map(|(id, it)| (*id, now(it))).collect();
        let began = Instant::now();
        let is_stuck = |test: &Self| {
            let moved = |id: u64, count: u64| {
                let found = test.sessions.iter().find(|(other, _)| *other == id);
                found.is_none_or(|(_, session)| now(session) > count)
            };
            before.iter().any(|(id, count)| !moved(*id, *count))
        };
        while is_stuck(self) {
            self.step(true)?;
            if began.elapsed() > PATIENCE {
                return Err(self.describe("a session does not move"));
            }
        }
        Ok(())
    }

    /// Lets everybody work once. Returns whether something has moved.
    fn step(&mut self, opens: bool) -> Result<bool, String> {
        for (role, proxy) in &mut self.proxies {
            if let Ok(Some(status)) = proxy.0.try_wait() {
                return Err(format!("the {role} has ended by itself: {status}"));
            }
        }
        let mut has_moved = false;
        if opens && self.sessions.len() < SESSIONS && self.random.next().is_multiple_of(8) {
            self.open()?;
            has_moved = true;
        }
        has_moved |= self.greet()?;
        for (_, session) in &mut self.sessions {
            has_moved |= session.step(&mut self.random, &mut self.compared)?;
        }
        let over = self.sessions.extract_if(.., |(_, session)| session.is_over());
        self.resets += over.filter(|(_, session)| session.was_reset()).count() as u64;
        if !has_moved {
            self.wait();
        }
        Ok(has_moved)
    }

    /// Opens a session. Its connection is accepted also while the client's worker is dead.
    fn open(&mut self) -> Result<(), String> {
        let id = self.opened;
        self.opened += 1;
        let way = (id % 4) as usize;
        let is_tcp = way != 1;
        let socket = connect(&self.places[way]);
        let socket = socket.map_err(|error| format!("session {id} is not accepted: {error}"))?;
        // Some are short, some are long. Only TCP can be reset.
        let length = |random: &mut Xorshift| {
            random.next() % [100, 10_000, 1_000_000, 4_000_000][(random.next() % 4) as usize]
        };
        let (there, back) = (length(&mut self.random), length(&mut self.random));
        let resets = self.random.next() % 8;
        let mut application = SessionEnd::new(Some(socket), 2 * id, there, is_tcp && resets == 0);
        if way == 2 {
            let prologue = Prologue::asking(&self.tcp_target, (id / 4).is_multiple_of(2));
            application.prologue = prologue.ok_or("the target is not IPv4")?;
        }
        let target = SessionEnd::new(None, 2 * id + 1, back, is_tcp && resets == 1);
        self.sessions.push((id, CheckedSession { application, target }));
        Ok(())
    }

    /// Accepts connections at the targets, and finds out of which sessions they are. A connection
    /// that ends before it has said so is an attempt of a server that died meanwhile.
    fn greet(&mut self) -> Result<bool, String> {
        let mut has_moved = false;
        while let Some(socket) = self.targets.accept().map_err(|error| error.to_string())? {
            self.strangers.push((socket, Vec::new()));
            has_moved = true;
        }
        for (mut socket, mut head) in std::mem::take(&mut self.strangers) {
            match SessionEnd::read_head(&mut socket, &mut head) {
                Ok(None) => self.strangers.push((socket, head)),
                Ok(Some(stream)) => {
                    has_moved = true;
                    let id = stream / 2;
                    let found = self.sessions.iter_mut().find(|(other, _)| *other == id);
                    match found {
                        Some((_, session)) if session.target.socket.is_none() => {
                            session.target.begin(socket);
                        }
                        Some(_) => return Err(format!("session {id} has come twice")),
                        None => return Err(format!("session {id} has come, and is over")),
                    }
                }
                Err(_) if head.is_empty() => {}
                Err(error) => return Err(format!("a target: {error} within the head {head:?}")),
            }
        }
        Ok(has_moved)
    }

    /// Waits a moment for something to read.
    fn wait(&self) {
        let ends = self.sessions.iter().flat_map(|(_, it)| [&it.application, &it.target]);
        let sockets = ends.filter_map(|end| end.socket.as_ref());
        let all = sockets.map(|it| PollFd::from_borrowed_fd(it.descriptor(), PollFlags::IN));
        let _ = poll(&mut all.collect::<Vec<_>>(), Some(&Timespec { tv_sec: 0, tv_nsec: 500_000 }));
    }

    fn describe(&self, what: &str) -> String {
        let describe = |(id, it): &(u64, CheckedSession)| {
            let (application, target) = (&it.application, &it.target);
            format!("{id}: {application:?}, {target:?}")
        };
        let all: Vec<_> = self.sessions.iter().map(describe).collect();
        format!("{what}: {}", all.join("; "))
    }
}

impl CheckedSession {
    fn step(&mut self, random: &mut Xorshift, compared: &mut u64) -> Result<bool, String> {
        let mut has_moved = false;
        for is_target in [false, true] {
            let (own, other) = match is_target {
                false => (&mut self.application, &self.target),
                true => (&mut self.target, &self.application),
            };
            let progress = other.progress();
            let before = own.read;
            has_moved |= own.read(&progress)?;
            *compared += own.read - before;
            let size = match random.next() % 4 {
                0 => 60_000,
                1 => 3_000,
                2 => 1 + random.next() % 40,
                _ => continue,
            };
            has_moved |= own.write(size, &progress)?;
        }
        Ok(has_moved)
    }

    fn is_over(&self) -> bool {
        self.application.is_over() && self.target.is_over()
    }

    fn was_reset(&self) -> bool {
        self.application.has_reset || self.target.has_reset
    }
}

/// Waits until a proxy has written a file.
fn wait_for(files: &Files, name: &str) -> Result<String, String> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if let Some(text) = files.read(name) {
            return Ok(text);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(format!("{name} is not told"))
}
