//! `authorized_keys` that others could change: sproxy trusts it where sshd does, and says what to
//! do otherwise.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use etcp_testkit::keys::{generate, public_half};
use etcp_testkit::pair::etcp;
use etcp_testkit::wait::PATIENCE;
use etcp_testkit::{Launch, Process, RunAs, TestFolder, TestWorld, skip, tell};

/// The port on which both servers listen.
const SSHD_PORT: u16 = 2200;
const SPROXY_PORT: u16 = 6200;

/// Accounts and groups of the server's machine. `nobody` is the only member of its own group and of
/// `own`, but not of `both`.
const ACCOUNTS: &str = "root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
sshd:x:100:65535::/run/sshd:/usr/sbin/nologin
";
const GROUPS: &str = "root:x:0:
daemon:x:1:
nogroup:x:65534:
own:x:1051:nobody
both:x:1052:nobody,daemon
none:x:1053:
";

/// A file that belongs to that user, and to no shared group.
const OURS: (u32, u32) = (65534, 65534);

/// A server's machine with an sshd and an sproxy that use the same file.
struct StrictServer {
    world: TestWorld,
    folder: TestFolder,
    _sshd: Process,
    sproxy: Process,
    keys: [PathBuf; 2],
}

impl StrictServer {
    fn new() -> Self {
        let (world, folder) = (TestWorld::new(), TestFolder::new());
        folder.folder("home", RunAs::Nobody);
        folder.folder("home/.ssh", RunAs::Nobody);
        let [host, user] = ["host-key", "user-key"].map(|name| generate(&folder, name));
        folder.file("home/.ssh/authorized_keys", &public_half(&user), RunAs::Nobody);
        let home = folder.join("home");
        let account = format!("{ACCOUNTS}nobody:x:65534:65534::{}:/bin/sh\n", home.display());
        let accounts = folder.readable_file("passwd", &account);
        let groups = folder.readable_file("group", GROUPS);
        let config = format!(
            "ListenAddress 0.0.0.0:{SSHD_PORT}\nHostKey {}\nPidFile none\nUsePAM no\n\
             PasswordAuthentication no\nStrictModes yes\n",
            host.display()
        );
        let config = folder.file("sshd_config", &config, RunAs::Nobody);
        fs::create_dir_all("/run/sshd").expect("as its service makes it");
        let sshd = Launch::new("sshd", skip::find("sshd").expect("was asked for"))
            .user(RunAs::Root)
            .args(["-D", "-e", "-f"])
            .arg(config);
        let sproxy = Launch::new("sproxy", folder.program("etcp", &etcp()))
            .args(["sproxy", "--listen", &format!("[::]:{SPROXY_PORT}")])
            .args(["--target", &format!("127.0.0.1:{SSHD_PORT}"), "--identity"])
            .arg(&host)
            .env("HOME", &home);
        let start = |launch: Launch, line| {
            let launch = launch.file(&accounts, "/etc/passwd").file(&groups, "/etc/group");
            let mut process = launch.start(&world.server, &folder);
            process.wait_for(line, PATIENCE);
            process
        };
        let sshd = start(sshd, "Server listening on");
        let sproxy = start(sproxy, "listening on");
        Self { _sshd: sshd, sproxy, keys: [host, user], world, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join("home").join(name)
    }

    /// Returns the exit code of a program at the client, and its output.
    fn run(&self, launch: Launch) -> (Option<i32>, String) {
        let output = self.folder.file("output", "", RunAs::Nobody);
        let file = fs::File::create(&output).expect("it is ours");
        let launch = launch.env("HOME", self.folder.path());
        let (client, stdin) = (&self.world.client, Stdio::null());
        let code = launch.start_with(client, &self.folder, stdin, Some(file.into())).wait(PATIENCE);
        (code.code(), fs::read_to_string(output).expect("it is text"))
    }

    fn is_let_in_by_sshd(&self) -> bool {
        let ssh = Launch::new("ssh", skip::find("ssh").expect("was asked for"))
            .args(["-F", "none", "-l", "nobody", "-p", &SSHD_PORT.to_string(), "-i"])
            .arg(&self.keys[1])
            .args(["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"])
            .args(["-o", "UserKnownHostsFile=/dev/null"])
            .args([&self.world.server_v4().to_string(), "echo here"]);
        let (code, output) = self.run(ssh);
        code == Some(0) && output == "here\n"
    }

    fn is_let_in_by_sproxy(&self) -> bool {
        let server = format!("{}:{SPROXY_PORT}", self.world.server_v4());
        let connect = Launch::new("connect", self.folder.join("etcp"))
            .args(["connect", "--no-ssh-config", "--connect-timeout", "30s", "--accept-new"])
            .args(["--server", &server, "--identity"])
            .arg(&self.keys[1])
            .arg("--known-hosts")
            .arg(self.folder.join("known_hosts"));
        let (code, output) = self.run(connect);
        code == Some(0) && output.starts_with("SSH-2.0-")
    }

    /// Sets owner, group and mode of a path in the home folder.
    fn set(&self, name: &str, (user, group): (u32, u32), mode: u32) {
        let path = self.path(name);
        std::os::unix::fs::chown(&path, Some(user), Some(group)).expect("root may");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("root may");
    }

    fn mend(&self) {
        for (name, mode) in [("", 0o755), (".ssh", 0o700), (".ssh/authorized_keys", 0o600)] {
            self.set(name, OURS, mode);
        }
    }
}

/// Paths in the home folder with owners and modes, and whether the key is then admitted.
const ARRANGEMENTS: [(&str, (u32, u32), u32, bool); 16] = [
    ("", OURS, 0o755, true),
    ("", OURS, 0o777, false),
    ("", OURS, 0o1777, false),
    ("", OURS, 0o775, true),
    ("", (65534, 1), 0o775, false),
    ("", (0, 0), 0o755, true),
    ("", (1, 65534), 0o755, false),
    (".ssh", OURS, 0o777, false),
    (".ssh", (65534, 1051), 0o770, true),
    (".ssh", (65534, 1052), 0o770, false),
    (".ssh", (65534, 1053), 0o770, false),
    (".ssh", (65534, 4321), 0o770, false),
    (".ssh/authorized_keys", OURS, 0o666, false),
    (".ssh/authorized_keys", OURS, 0o664, true),
    (".ssh/authorized_keys", (0, 0), 0o644, true),
    (".ssh/authorized_keys", (1, 1), 0o644, false),
];

#[test]
fn a_file_is_believed_where_sshd_believes_it() {
    if !skip::can_run("admission::strict_modes", &["ssh", "sshd"]) {
        return;
    }
    let mut server = StrictServer::new();
    let check = |server: &StrictServer, what: &str, expected: bool| {
        let found = (server.is_let_in_by_sshd(), server.is_let_in_by_sproxy());
        tell(&format!("{what}: sshd {}, sproxy {}", found.0, found.1));
        assert_eq!(found, (expected, expected), "{what}: sshd, sproxy");
    };
    for (name, owner, mode, expected) in ARRANGEMENTS {
        server.mend();
        server.set(name, owner, mode);
        check(&server, &format!("~/{name} of {owner:?}, mode {mode:04o}"), expected);
    }
    server.mend();
    let aside = server.folder.join("aside");
    fs::rename(server.path(".ssh/authorized_keys"), &aside).expect("root may");
    symlink(&aside, server.path(".ssh/authorized_keys")).expect("root may");
    check(&server, "a link to a file below /tmp", false);
    let command =
        format!("run chmod go-w {}", fs::canonicalize(server.path("")).unwrap().display());
    server.sproxy.wait_for(&command, PATIENCE);
}

/// Starts sproxy with a file in a folder that everybody may write to; returns its log, once it
/// has a line with this text.
fn log_of(args: &[&str], text: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let shared = folder.path().join("shared");
    fs::create_dir(&shared).expect("it is ours");
    fs::set_permissions(&shared, Permissions::from_mode(0o777)).expect("it is ours");
    let keys = shared.join("keys");
    fs::write(&keys, "").expect("it is ours");
    let mut sproxy = Launch::new("sproxy", etcp())
        .args(["sproxy", "--listen", "127.0.0.1:0", "--control", "none", "--authorized-keys"])
        .arg(&keys)
        .args(args)
        .env("HOME", folder.path())
        .start_here(folder.path());
    sproxy.wait_for(text, PATIENCE);
    assert!(Path::new(&keys).exists());
    sproxy.log()
}

#[test]
fn a_line_at_the_start_names_the_folder_its_mode_and_what_to_do() {
    let log = log_of(&[], "no new tunnel is admitted until then");
    let line = log.lines().find(|line| line.contains("others may write to")).expect("it is there");
    assert!(line.contains("/shared (mode 0777): run chmod go-w /"), "{line}");
    assert!(!log.contains("keys in"), "{log}");
}

#[test]
fn strict_modes_no_trusts_every_file() {
    let log = log_of(&["--strict-modes", "no"], "keys in ");
    assert!(log.lines().any(|line| line.contains("keys in ") && line.ends_with(": 0")), "{log}");
}
