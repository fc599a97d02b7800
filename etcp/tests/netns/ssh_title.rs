//! The signs of the path that `etcp ssh` gives: the terminal's title, and `etcp status` at both
//! ends. The terminal is tmux, which reads every sequence.

use std::process::Stdio;

use etcp_testkit::router::Direction;
use etcp_testkit::ssh_site::{PROGRAMS, SshSite};
use etcp_testkit::wait::{PATIENCE, until, until_some};
use etcp_testkit::{Launch, RunAs, skip};

const PORT: u16 = 2222;

/// A screen with colours, and the cursor in its middle.
const DRAWING: &str = r#"PS1=; stty -echo; printf '\033]2;my title\007\033[2J\033[H'
for n in 1 2 3 4 5 6 7 8 9; do printf "\033[3${n}mline $n of \033[1mcolours\033[m\n"; done
printf '\033[5;7H\033[7mdrawn-%d' $((40+2))
"#;

/// `etcp ssh` in a window of tmux.
struct Window<'a> {
    site: &'a SshSite,
}

/// The contents of a window.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Shown {
    /// With colours.
    screen: String,
    cursor: String,
}

impl<'a> Window<'a> {
    fn open(site: &'a SshSite, options: &[&str]) -> Self {
        let window = Self { site };
        let program = site.program().display();
        let config = site.folder.join("ssh_config");
        let options = options.join(" ");
        let script = format!(
            "#!/bin/sh\nunset RUST_LOG\n{program} ssh --remote-port 6200 {options} -F {} server\necho over; exec sleep 1000\n",
            config.display()
        );
        let script = site.folder.script("in-window", &script);
        let script = script.to_str().expect("test paths are text").to_owned();
        window.tmux(&["new-session", "-d", "-x", "80", "-y", "24", &script]);
        window.line("echo begun-$((40+2))");
        until("the shell", PATIENCE, || window.shown().screen.contains("begun-42"));
        site.folder.file("drawing", DRAWING, RunAs::Nobody);
        window.line(&format!(". {}", site.folder.join("drawing").display()));
        until("the drawing", PATIENCE, || window.shown().screen.contains("drawn-42"));
        window
    }

    /// Runs a command of tmux, and returns its output.
    fn tmux(&self, args: &[&str]) -> String {
        let launch = self.site.client(Launch::new("tmux", "tmux"));
        // Without a shell of its own tmux takes the user's, which lets nobody in.
        let launch = launch.env("TERM", "xterm-256color").env("SHELL", "/bin/sh");
        let launch = launch.arg("-S").arg(self.site.folder.join("tmux")).args(["-f", "/dev/null"]);
        let ran = self.site.finish("tmux", launch.args(args));
        assert_eq!(ran.code, Some(0), "{args:?}: {ran:?}");
        ran.output
    }

    fn line(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
        self.tmux(&["send-keys", "Enter"]);
    }

    fn title(&self) -> String {
        self.tmux(&["display-message", "-p", "#{pane_title}"]).trim_end().to_owned()
    }

    fn shown(&self) -> Shown {
        let screen = self.tmux(&["capture-pane", "-e", "-p"]);
        let cursor = self.tmux(&["display-message", "-p", "#{cursor_x},#{cursor_y}"]);
        Shown { screen, cursor }
    }

    /// Waits until the title says that the path is away, and returns it.
    fn away(&self) -> String {
        let title = until_some("the title to change", PATIENCE, || {
            Some(self.title()).filter(|title| title != "my title")
        });
        assert!(title.starts_with("last contact ") && title.ends_with(" s ago: server"), "{title}");
        title
    }
}

fn can_run() -> bool {
    skip::can_run("netns::ssh_title", &[PROGRAMS[0], PROGRAMS[1], "tmux"])
}

#[test]
fn the_title_says_how_long_the_path_is_away_and_nothing_else_of_the_terminal_changes() {
    if !can_run() {
        return;
    }
    let site = SshSite::new(PORT);
    let window = Window::open(&site, &[]);
    // A busy machine may think for a moment that the path is away.
    until("the title", PATIENCE, || window.title() == "my title");
    let before = window.shown();
    for _ in 0..2 {
        site.world.router.blackhole(Direction::Both);
        let first = window.away();
        until("the title to count", PATIENCE, || window.title() != first);
        assert_eq!(window.shown(), before);
        site.world.router.lift_blackhole();
        until("the title to return", PATIENCE, || window.title() == "my title");
        assert_eq!(window.shown(), before);
    }
    window.line("echo; printf 'still-%d' $((40+2))");
    until("an answer", PATIENCE, || window.shown().screen.contains("still-42"));
    // tmux writes what has changed since the cell before: here it is inverse, and no colour is left.
    let shown = window.shown().screen;
    let before = shown.lines().find_map(|line| Some(line.split_once("still-42")?.0));
    assert!(before.is_some_and(|codes| codes.contains("7m")), "the colours continue: {shown:?}");
}

#[test]
fn the_title_returns_when_ssh_is_ended_while_the_path_is_away() {
    if !can_run() {
        return;
    }
    let site = SshSite::new(PORT);
    let window = Window::open(&site, &[]);
    site.world.router.blackhole(Direction::Both);
    window.away();
    window.tmux(&["send-keys", "Enter"]);
    window.tmux(&["send-keys", "-l", "~."]);
    until("the end of ssh", PATIENCE, || window.shown().screen.contains("over"));
    until("the title to return", PATIENCE, || window.title() == "my title");
}

#[test]
fn the_title_stays_if_that_is_wanted() {
    if !can_run() {
        return;
    }
    let site = SshSite::new(PORT);
    let window = Window::open(&site, &["--no-title"]);
    let status = || {
        let launch = site.client(Launch::new("status", site.program()));
        site.finish("status", launch.args(["status", "--state", "detached"]))
    };
    site.world.router.blackhole(Direction::Both);
    until("the loss of the carrier", PATIENCE, || {
        status().output.contains("waiting for the server")
    });
    assert_eq!(window.title(), "my title");
}

#[test]
fn both_ends_of_ssh_are_seen_by_status() {
    if !can_run() {
        return;
    }
    let site = SshSite::new(PORT);
    let launch = site.ssh("ssh", &[]).args(["server", "echo begun; read x"]);
    let (stdin, _keyboard) = std::io::pipe().expect("a pipe");
    let mut ssh = launch.start_with(&site.world.client, &site.folder, Stdio::from(stdin), None);
    ssh.wait_for("begun", PATIENCE);
    // Neither end waits for its control socket.
    let status = || site.client(Launch::new("status", site.program())).arg("status");
    until("the client's end", PATIENCE, || {
        let shown = site.finish("status", status()).output;
        shown.starts_with("ssh ")
            && [": server for ", "attached for"].iter().all(|it| shown.contains(it))
    });
    let home = site.folder.join("server-home");
    let at_server = || Launch::new("status", site.program()).env("HOME", &home).arg("status");
    until("the server's end", PATIENCE, || {
        let shown = site.finish("status-at-server", at_server()).output;
        shown.starts_with("one-user ") && shown.contains(": attached for")
    });
}
