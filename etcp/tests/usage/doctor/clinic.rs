//! A client with a patient: a server that may or may not be well.

use std::path::PathBuf;
use std::process::Stdio;

use etcp_testkit::keys::{Keys, generate, public_half};
use etcp_testkit::pair::{SERVER_NAME, etcp};
use etcp_testkit::wait::PATIENCE;
use etcp_testkit::world::CARRIER_PORT;
use etcp_testkit::{Launch, Process, RunAs, TestFolder, TestWorld};

/// A world in which the doctor runs at the client's side.
pub(crate) struct Clinic {
    sproxy: Option<Process>,
    pub(crate) world: TestWorld,
    pub(crate) folder: TestFolder,
    program: PathBuf,
    keys: Keys,
}

/// The output of the doctor.
#[derive(Debug)]
pub(crate) struct Diagnosis {
    pub(crate) code: Option<i32>,
    pub(crate) report: String,
    pub(crate) error: String,
}

impl Clinic {
    /// Makes a world without any server program.
    pub(crate) fn empty() -> Self {
        Self::within(TestWorld::new())
    }

    /// Makes the same in another world.
    pub(crate) fn within(world: TestWorld) -> Self {
        let folder = TestFolder::new();
        let hosts = [world.server_v4().to_string(), world.server_v6().to_string()];
        let known =
            [&hosts[0], &hosts[1], SERVER_NAME].map(|host| format!("[{host}]:{CARRIER_PORT}"));
        let keys = Keys::generate(&folder, &known);
        let program = folder.program("etcp", &etcp());
        Self { sproxy: None, world, folder, program, keys }
    }

    /// Starts sproxy with these options.
    pub(crate) fn with_sproxy(mut self, options: &[&str]) -> Self {
        let listen = format!("[::]:{CARRIER_PORT}");
        let mut sproxy = Launch::new("sproxy", &self.program)
            .args(["sproxy", "--listen", &listen, "--target", "127.0.0.1:9"])
            .arg("--identity")
            .arg(&self.keys.server)
            .arg("--authorized-keys")
            .arg(&self.keys.authorized_keys)
            .args(options)
            .env("HOME", self.folder.path())
            .start(&self.world.server, &self.folder);
        sproxy.wait_for("listening on", PATIENCE);
        self.sproxy = Some(sproxy);
        self
    }

    /// Lets the server know another key than the client's.
    pub(crate) fn admit_another_key(&self) {
        let other = public_half(&generate(&self.folder, "other-client-key"));
        self.write("authorized_keys", &other);
    }

    /// Replaces a file of the keys.
    pub(crate) fn write(&self, name: &str, text: &str) {
        self.folder.file(name, text, RunAs::Nobody);
    }

    /// Returns the command that examines `server`; `options` may follow.
    pub(crate) fn doctor(&self, server: &str, options: &[&str]) -> Launch {
        Launch::new("doctor", &self.program)
            .args(["doctor", server, "--no-ssh-config", "--identity"])
            .arg(&self.keys.client)
            .arg("--known-hosts")
            .arg(&self.keys.known_hosts)
            .args(options)
            .env("HOME", self.folder.path())
            .env("RUST_LOG", "")
    }

    /// Examines the server at its IPv4 address.
    pub(crate) fn examine(&self, options: &[&str]) -> Diagnosis {
        self.run(self.doctor(&self.world.server_v4().to_string(), options))
    }

    /// Runs a doctor to its end.
    pub(crate) fn run(&self, doctor: Launch) -> Diagnosis {
        let path = self.folder.file("report", "", RunAs::Nobody);
        let output = std::fs::File::create(&path).expect("it is ours");
        let mut process =
            doctor.start_with(&self.world.client, &self.folder, Stdio::null(), Some(output.into()));
        let code = process.wait(PATIENCE).code();
        let report = std::fs::read_to_string(path).expect("it is text");
        Diagnosis { code, report, error: process.log() }
    }
}

impl Diagnosis {
    /// Returns the line of a check with this mark, and its advice.
    #[track_caller]
    pub(crate) fn line(&self, mark: &str, check: &str) -> &str {
        let start = format!("{mark:<5} {check:<11} ");
        let at = self.report.find(&start);
        let at = at.unwrap_or_else(|| panic!("there is no {mark} of {check}: {self:#?}"));
        let rest = &self.report[at + start.len()..];
        let mut ends = rest.match_indices('\n').map(|(at, _)| at);
        let is_end = |at: &usize| !rest[at + 1..].starts_with("     ");
        &rest[..ends.find(is_end).unwrap_or(rest.len())]
    }

    /// Checks that all is well.
    #[track_caller]
    pub(crate) fn is_well(&self) -> &Self {
        assert!(self.code == Some(0) && self.error.is_empty(), "{self:#?}");
        assert!(self.report.ends_with("All is well.\n") && !self.has("FAIL"), "{self:#?}");
        self
    }

    /// Checks that this check failed, with these words in its lines.
    #[track_caller]
    pub(crate) fn fails(&self, check: &str, words: &[&str]) -> &Self {
        assert_eq!(self.code, Some(1), "{self:#?}");
        let line = self.line("FAIL", check);
        for word in words {
            assert!(line.contains(word), "no {word:?} in {line:?}");
        }
        let named = self.error.starts_with("etcp: ") && self.error.contains(check);
        assert!(named && self.error.lines().count() == 1, "{self:#?}");
        self
    }

    /// Checks that the line of a check has these words.
    #[track_caller]
    pub(crate) fn says(&self, mark: &str, check: &str, words: &[&str]) -> &Self {
        let line = self.line(mark, check);
        for word in words {
            assert!(line.contains(word), "no {word:?} in {line:?}");
        }
        self
    }

    /// Returns whether a line of the report begins with this.
    pub(crate) fn has(&self, start: &str) -> bool {
        self.report.lines().any(|line| line.starts_with(start))
    }
}
