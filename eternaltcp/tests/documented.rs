//! The programs of the documentation, each as a process of its own.
//!
//! cargo builds them together with the tests of a whole workspace. If they are missing, as with a
//! single test, the test reports that it is skipped.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use eternaltcp::policy::known_hosts_line;
use eternaltcp::tls::{Identity, PublicKey};
use eternaltcp_sys::testport::HeldPort;

/// The longest time that a successful step may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns where cargo puts an example: `examples` stands beside the folder of the test programs.
fn example(name: &str) -> Option<PathBuf> {
    let test = std::env::current_exe().expect("a process knows its program");
    let path = test.parent().expect("cargo makes a folder").with_file_name("examples").join(name);
    if path.is_file() {
        return Some(path);
    }
    let required = std::env::var_os("ETERNALTCP_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(!required, "{} must be there (ETERNALTCP_REQUIRE_ALL=1)", path.display());
    // Not eprintln!: the harness would capture it, and nobody would see it.
    let _ = writeln!(
        std::io::stderr(),
        "\n*** SKIPPED: documented needs {} (cargo build --workspace --examples)\n",
        path.display()
    );
    None
}

/// A running program, and the lines that it prints.
struct DocumentedProgram {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl DocumentedProgram {
    fn start(path: &Path, args: &[&str], home: &Path) -> Self {
        let mut command = Command::new(path);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).env("HOME", home);
        for name in ["XDG_STATE_HOME", "STATE_DIRECTORY", "SSH_AUTH_SOCK"] {
            command.env_remove(name);
        }
        let mut child = command.spawn().expect("it starts");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, lines) = channel();
        // It ends with the program.
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { input: child.stdin.take(), child, lines }
    }

    #[track_caller]
    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line")
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().expect("it is open"), "{line}").expect("it takes it");
    }

    /// Ends its input, and expects it to end without a fault. Returns the rest of its output.
    #[track_caller]
    fn end(mut self) -> Vec<String> {
        drop(self.input.take());
        let mut said = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            said.push(line);
        }
        assert!(self.child.wait().expect("it is our child").success());
        said
    }
}

impl Drop for DocumentedProgram {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the lines of a program that are not comments, attributes or imports.
fn statements<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let lines = lines.map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with(['#', '/'])).collect()
}

/// The tests of real programs run it in a network of its own, because its port is fixed.
#[test]
fn the_server_of_the_documentation_is_the_example_that_is_run() {
    let text = include_str!("../src/lib.rs");
    let (_, section) = text.split_once("//! # A server\n").unwrap();
    let block = section.split("//! ```").nth(1).unwrap();
    let block = block.lines().skip(1).filter_map(|line| line.strip_prefix("//!"));
    let documented = statements(block);
    let example = statements(include_str!("../examples/late.rs").lines());
    assert!(documented.len() > 10, "{documented:?}");
    let missing: Vec<_> = documented.iter().filter(|line| !example.contains(line)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let main = ["#[tokio::main", "async fn main", "Ok(())", "}"];
    let more = example.iter().filter(|line| !documented.contains(line));
    let more: Vec<_> = more.filter(|line| !main.iter().any(|it| line.starts_with(it))).collect();
    assert!(more.is_empty(), "{more:?}");
}

#[test]
fn the_echo_is_right_over_carriers_that_break() {
    let Some(path) = example("echo") else { return };
    let home = tempfile::tempdir().unwrap();
    let said = DocumentedProgram::start(&path, &[], home.path()).end();
    // The relay reports its last cut once it has processed it.
    let mut results = said.iter().filter_map(|line| line.split_once(" bytes are right, over "));
    let carriers = results.next().and_then(|(_, result)| result.strip_suffix(" carriers"));
    assert!(carriers.and_then(|count| count.parse::<u32>().ok()) > Some(1), "{said:?}");
}

#[test]
fn everybody_in_the_chat_reads_what_everybody_writes_and_leaves_in_order() {
    let Some(path) = example("chat") else { return };
    let home = tempfile::tempdir().unwrap();
    let file = |name: &str| home.path().join(".ssh").join(name);
    let user = Identity::load_or_create(&file("id_ed25519")).unwrap().public_key();
    std::fs::write(file("authorized_keys"), format!("{user}\n")).unwrap();
    let port = HeldPort::take();
    let address = format!("127.0.0.1:{}", port.number());
    let server = DocumentedProgram::start(&path, &["serve", &address], home.path());
    let line = server.line();
    let (host, key) = line.split_once(' ').unwrap();
    assert_eq!(host, format!("[HOST]:{}", port.number()));
    let key = PublicKey::from_openssh(key).unwrap();
    std::fs::write(file("known_hosts"), known_hosts_line(&address.parse().unwrap(), &key)).unwrap();
    for round in 0..3 {
        let join = || DocumentedProgram::start(&path, &["join", &address], home.path());
        let mut people = [join(), join()];
        for (number, one) in people.iter_mut().enumerate() {
            one.say(&format!("here is {number}"));
            let own = format!("{}: here is {number}", user.fingerprint());
            while one.line() != own {}
        }
        let [first, mut second] = people;
        second.say(&format!("round {round}"));
        let heard = format!("{}: round {round}", user.fingerprint());
        for one in [&first, &second] {
            while one.line() != heard {}
        }
        first.end();
        second.end();
    }
}
