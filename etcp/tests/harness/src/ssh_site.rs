//! A stock sshd in the server's namespace, and `etcp ssh` on the client's side.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::pair::etcp;
use crate::sshd::{client_options, server_config};
use crate::terminal::Terminal;
use crate::wait::{PATIENCE, until};
use crate::{Launch, Process, RunAs, TestFolder, TestWorld, skip};

/// The requirements of the tests on the machine.
pub const PROGRAMS: [&str; 2] = ["ssh", "sshd"];

/// A world whose server has an sshd. It admits one user, who has a home there.
pub struct SshSite {
    pub sshd: Process,
    pub world: TestWorld,
    pub folder: TestFolder,
    program: PathBuf,
}

impl SshSite {
    /// Starts sshd on this port; etcp is in no PATH there.
    pub fn without_etcp(port: u16) -> Self {
        let (world, folder) = (TestWorld::new(), TestFolder::new());
        for name in ["server-home", "server-bin", "runtime"] {
            folder.folder(name, RunAs::Nobody);
        }
        let sshd = start_sshd(&world, &folder, port);
        let program = folder.program("etcp", &etcp());
        let site = Self { sshd, world, folder, program };
        site.write_client_config(port);
        site
    }

    /// Starts sshd on this port, with etcp in the PATH of its users.
    pub fn new(port: u16) -> Self {
        let site = Self::without_etcp(port);
        std::fs::hard_link(&site.program, site.folder.join("server-bin/etcp"))
            .expect("it is one folder");
        site
    }

    fn write_client_config(&self, port: u16) {
        let address = self.world.server_v4();
        let options = client_options(&self.folder);
        let config = format!("Host server\nHostName {address}\nHost *\nPort {port}\n{options}");
        self.folder.file("ssh_config", &config, RunAs::Nobody);
    }

    /// Inserts lines before the client's configuration of ssh.
    pub fn configure(&self, lines: &str) {
        let before = std::fs::read_to_string(self.folder.join("ssh_config")).expect("it is text");
        self.folder.file("ssh_config", &format!("{lines}{before}"), RunAs::Nobody);
    }

    /// Returns the path of etcp on the client's side.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Returns `etcp ssh` with these options of etcp; HOST and more may follow.
    pub fn ssh(&self, name: &str, options: &[&str]) -> Launch {
        self.client(Launch::new(name, &self.program).arg("ssh").args(options))
            .args(["-F"])
            .arg(self.folder.join("ssh_config"))
    }

    /// Gives a program of the client its environment.
    pub fn client(&self, launch: Launch) -> Launch {
        launch.env("HOME", self.folder.path()).env("XDG_RUNTIME_DIR", self.folder.join("runtime"))
    }

    /// Starts a shell on a terminal, and waits until it answers.
    pub fn shell(&self, launch: Launch) -> Shell {
        let mut terminal = Terminal::start(launch, &self.world.client, &self.folder);
        terminal.line("stty -echo; PS1=; echo begun-$((40+2))");
        terminal.expect("begun-42", PATIENCE);
        Shell { terminal, asked: 0 }
    }

    /// Runs `etcp ssh OPTIONS… server COMMAND`.
    pub fn run(&self, name: &str, options: &[&str], command: &str) -> Ran {
        self.finish(name, self.ssh(name, options).args(["server", command]))
    }

    /// Runs a program of the client's side to its end.
    pub fn finish(&self, name: &str, launch: Launch) -> Ran {
        let path = self.folder.file(&format!("{name}.out"), "", RunAs::Nobody);
        let output = std::fs::File::create(&path).expect("it is ours");
        let mut process =
            launch.start_with(&self.world.client, &self.folder, Stdio::null(), Some(output.into()));
        // A demo over ssh has several steps, each with a time of its own.
        let code = process.wait(3 * PATIENCE).code();
        let output = std::fs::read_to_string(path).expect("it is text");
        Ran { code, output, log: process.log() }
    }

    /// Returns the processes of etcp at the server that `etcp ssh` has started.
    pub fn sproxies(&self) -> Vec<String> {
        programs(&self.world.server, "one-user")
    }

    /// Returns the programs at the client whose command line has this word.
    pub fn at_client(&self, word: &str) -> Vec<String> {
        programs(&self.world.client, word)
    }

    /// Waits until no process of `etcp ssh` is left at the server.
    #[track_caller]
    pub fn wait_until_gone(&self) {
        // It keeps a tunnel for a minute that was not closed in order.
        until("the sproxy to end", 2 * PATIENCE, || self.sproxies().is_empty());
    }

    /// Checks that nothing of the handover is left.
    #[track_caller]
    pub fn assert_tidy(&self) {
        let left = std::fs::read_dir(self.folder.join("runtime")).expect("it is ours");
        let left = left.flatten().map(|entry| entry.file_name());
        // The folder of control sockets stays.
        let left: Vec<_> = left.filter(|name| name != "eternaltcp").collect();
        assert!(left.is_empty(), "{left:?} are left");
    }
}

/// A shell at the server, on a terminal of the client.
pub struct Shell {
    terminal: Terminal,
    /// The number of lines that it was asked to answer.
    asked: u32,
}

impl Shell {
    /// Types a line, and waits at most `limit` for the shell's answer.
    #[track_caller]
    pub fn answer(&mut self, limit: Duration) {
        self.asked += 1;
        self.terminal.line(&format!("echo after-{}-$((40+2))", self.asked));
        self.terminal.expect(&format!("after-{}-42", self.asked), limit);
    }

    /// Ends it, and returns its log, including its exit code.
    #[track_caller]
    pub fn end(mut self) -> String {
        self.terminal.line("exit 7");
        assert_eq!(self.terminal.process().wait(PATIENCE).code(), Some(7));
        self.terminal.process().log()
    }
}

/// The result of a program.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub output: String,
    pub log: String,
}

impl Ran {
    /// Checks that it succeeded with this output.
    #[track_caller]
    pub fn wrote(&self, output: &str) {
        assert_eq!((self.code, self.output.as_str()), (Some(0), output), "{}", self.log);
    }

    /// Checks that it failed with this code and message.
    #[track_caller]
    pub fn failed(&self, code: i32, text: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.log.contains(text), "{}", self.log);
    }
}

/// Returns the command lines of processes in a namespace that have this word.
fn programs(namespace: &crate::netns::Namespace, word: &str) -> Vec<String> {
    let output =
        std::process::Command::new("ip").args(["netns", "pids", namespace.name()]).output();
    let pids = String::from_utf8(output.expect("ip runs").stdout).expect("ids are text");
    let lines = pids.lines().filter_map(|pid| {
        let line = std::fs::read(format!("/proc/{}/cmdline", pid.trim())).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines.filter(|line| line.contains(word)).collect()
}

/// Starts sshd as its service does, with an account that has a home and a shell only for it.
fn start_sshd(world: &TestWorld, folder: &TestFolder, port: u16) -> Process {
    let path = folder.join("server-bin");
    let lines = format!(
        "UsePAM no\nMaxStartups 100\nSetEnv PATH={}:/usr/local/bin:/usr/bin:/bin\n",
        path.display()
    );
    let config = server_config(folder, &format!("0.0.0.0:{port}"), &lines);
    let home = folder.join("server-home");
    let account = format!("nobody:x:65534:65534:nobody:{}:/bin/bash", home.display());
    let passwd = std::fs::read_to_string("/etc/passwd").expect("accounts are listed");
    let passwd: Vec<_> = passwd.lines().filter(|line| !line.starts_with("nobody:")).collect();
    let passwd = folder.readable_file("passwd", &format!("{}\n{account}\n", passwd.join("\n")));
    let sshd = skip::find("sshd").expect("was asked for");
    std::fs::create_dir_all("/run/sshd").expect("as its service makes it");
    let mut process = Launch::new("sshd", sshd)
        .user(RunAs::Root)
        .args(["-D", "-e", "-f"])
        .arg(config)
        .file(&passwd, "/etc/passwd")
        .start(&world.server, folder);
    process.wait_for("Server listening on", PATIENCE);
    process
}
