//! The control sockets of programs that end with their one task, such as `etcp connect`.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;

use serde_json::Value;

use etcp_testkit::loopback::operator::{folder, operate, operate_alone};
use etcp_testkit::loopback::program::wait;
use etcp_testkit::loopback::{Cproxy, Echo, LoopbackSite, LoopbackSproxy, connect};
use etcp_testkit::wait::end_of;

/// Clients that run at the same time.
const CROWD: usize = 40;

struct ConnectStand {
    site: LoopbackSite,
    sproxy: LoopbackSproxy,
}

impl ConnectStand {
    fn new() -> Self {
        let site = LoopbackSite::new();
        let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
        Self { site, sproxy }
    }

    fn connect(&self, args: &[&str]) -> Child {
        connect(&self.site, self.sproxy.address, &self.site.client, args).spawn().expect("it runs")
    }

    fn socket(&self, child: &Child) -> PathBuf {
        folder(&self.site).join(format!("connect.{}.sock", child.id()))
    }

    /// Returns the roles of the programs that `etcp status` shows, and their descriptions.
    fn roles(&self) -> Vec<(String, Option<String>)> {
        let said = operate_alone(&self.site, &["status", "--json"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        let document: Value = serde_json::from_str(&said.out).expect("it is JSON");
        let processes = document["processes"].as_array().expect("a list").clone();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        processes
            .iter()
            .map(|it| (text(&it["role"]).expect("a role"), text(&it["about"])))
            .collect()
    }

    /// Returns the names of the files beside the control sockets.
    fn files(&self) -> usize {
        folder(&self.site).read_dir().expect("it is there").count()
    }
}

/// Returns whether a program listens at a socket: it has a name before that.
fn listens(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}

fn echo(child: &mut Child) {
    child.stdin.as_mut().expect("a pipe").write_all(b"x").expect("it reads");
    child.stdout.as_mut().expect("a pipe").read_exact(&mut [0]).expect("it answers");
}

#[test]
fn a_client_of_one_connection_is_seen_while_it_runs_and_leaves_nothing() {
    let stand = ConnectStand::new();
    let mut child = stand.connect(&[]);
    echo(&mut child);
    let socket = stand.socket(&child);
    wait("its socket", || listens(&socket));
    let shown = stand.roles();
    let about = Some("the default target".to_owned());
    assert_eq!(shown, [("connect".to_owned(), about), ("sproxy".to_owned(), None)]);
    let said = operate_alone(&stand.site, &["status"]);
    assert!(said.out.starts_with(&format!("connect {}: ", child.id())), "{said:?}");
    // It is none of the proxies of which one must be named.
    let said = operate(&stand.site, &["drain", "--timeout", "1h"]);
    assert!(said.out.starts_with("sproxy."), "{said:?}");
    drop(child.stdin.take());
    let output = end_of(child);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b""[..]));
    assert!(!socket.exists() && !socket.with_extension("lock").exists());
}

#[test]
fn what_killed_clients_leave_is_not_shown_and_is_removed() {
    let stand = ConnectStand::new();
    let mut children: Vec<_> = (0..3).map(|_| stand.connect(&[])).collect();
    for child in &mut children {
        echo(child);
        let socket = stand.socket(child);
        wait("its socket", || listens(&socket));
    }
    for mut child in children {
        child.kill().expect("it runs");
        end_of(child);
    }
    assert_eq!(stand.files(), 8, "each has left two files");
    assert_eq!(stand.roles(), [("sproxy".to_owned(), None)]);
    assert_eq!(stand.files(), 2);
}

#[test]
fn many_clients_at_once_are_listed_together_and_leave_nothing() {
    let stand = ConnectStand::new();
    let mut children: Vec<_> = (0..CROWD).map(|_| stand.connect(&[])).collect();
    children.iter_mut().for_each(echo);
    let sockets: Vec<_> = children.iter().map(|child| stand.socket(child)).collect();
    wait("their sockets", || sockets.iter().all(|socket| listens(socket)));
    assert_eq!(stand.files(), 2 * CROWD + 2);
    assert_eq!(stand.roles().len(), CROWD + 1);
    for mut child in children {
        drop(child.stdin.take());
        assert_eq!(end_of(child).status.code(), Some(0));
    }
    assert_eq!(stand.files(), 2);
}

#[test]
fn what_the_hook_of_a_client_prints_is_not_part_of_its_data() {
    let stand = ConnectStand::new();
    let hook = "echo $ETCP_EVENT; test -S \"$ETCP_CONTROL\" && echo socket";
    let mut child = stand.connect(&["--on-event", hook]);
    let mut said = BufReader::new(child.stderr.take().expect("a pipe"));
    let mut line = String::new();
    for expected in ["attached\n", "socket\n"] {
        line.clear();
        said.read_line(&mut line).expect("it speaks");
        assert_eq!(line, expected);
    }
    echo(&mut child);
    drop(child.stdin.take());
    let output = end_of(child);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn clients_of_one_connection_reconnect_together_if_there_is_no_proxy() {
    let mut stand = ConnectStand::new();
    let mut children = [stand.connect(&[]), stand.connect(&["--control", "none"])];
    children.iter_mut().for_each(echo);
    let socket = stand.socket(&children[0]);
    wait("its socket", || listens(&socket));
    assert!(!stand.socket(&children[1]).exists());
    stand.sproxy.program.kill();
    let said = operate(&stand.site, &["reconnect"]);
    assert_eq!(said.out, format!("connect.{} connects again\n", children[0].id()), "{said:?}");
    let said = operate(&stand.site, &["drain"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("neither a cproxy nor an sproxy is running"), "{said:?}");
    let cproxy = Cproxy::start(&stand.site, stand.sproxy.address, "cproxy");
    let said = operate(&stand.site, &["reconnect"]);
    assert_eq!(said.out, format!("cproxy.{} connects again\n", cproxy.program.id()), "{said:?}");
    for mut child in children {
        child.kill().expect("it runs");
        end_of(child);
    }
}
