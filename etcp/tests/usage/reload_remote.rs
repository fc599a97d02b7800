//! `etcp reload` of forwards whose listeners are at the server.

use std::fs;
use std::net::{SocketAddr, TcpStream};

use etcp_testkit::HeldPort;
use etcp_testkit::loopback::operator::{OperatorOutput, control, operate};
use etcp_testkit::loopback::program::wait;
use etcp_testkit::loopback::{Cproxy, Echo, LoopbackSite, LoopbackSproxy, Steady};

/// A line of the log that says where the server listens.
const LISTENS: &str = "the server listens on ";

/// A client whose configuration file has no forward at the server yet.
struct RemoteReloadFixture {
    site: LoopbackSite,
    echo: Echo,
    _sproxy: LoopbackSproxy,
    cproxy: Cproxy,
}

impl RemoteReloadFixture {
    fn new() -> Self {
        let (site, echo) = (LoopbackSite::new(), Echo::start());
        let sproxy = LoopbackSproxy::start(&site, echo.address);
        let file = site.path().join("cproxy.toml");
        fs::write(&file, "listen = '127.0.0.1:0'\n").expect("the folder is ours");
        let args = ["--config", file.to_str().expect("test paths are text")];
        let cproxy = Cproxy::with(&site, sproxy.address, "cproxy", &site.client, &args).attached();
        Self { site, echo, _sproxy: sproxy, cproxy }
    }

    /// Reloads a file with these forwards at the server.
    fn reload(&self, forwards: &[&str]) -> OperatorOutput {
        let mut text = "listen = '127.0.0.1:0'\n".to_owned();
        if !forwards.is_empty() {
            text += &format!("remote-forward = {forwards:?}\n");
        }
        fs::write(self.site.path().join("cproxy.toml"), text).expect("the folder is ours");
        let socket = control(&self.site, "cproxy", &self.cproxy.program);
        operate(&self.site, &["reload", "--control", &socket])
    }

    /// Reloads a file with these forwards, which the server permits.
    fn change(&self, forwards: &[&str]) {
        let said = self.reload(forwards);
        assert!(said.out.contains("  remote-forward: applied\n"), "{said:?}");
    }

    /// Returns the `count`th address on which the server has listened.
    fn listening(&mut self, count: usize) -> SocketAddr {
        let line = self.cproxy.program.wait_for_count(LISTENS, count);
        let address = line.split(LISTENS).nth(1).and_then(|rest| rest.split(' ').next());
        address.expect("an address").parse().expect("an address")
    }
}

fn wait_until_closed(at: SocketAddr) {
    wait("the listener to be closed", || TcpStream::connect(at).is_err());
}

#[test]
fn forwards_at_the_server_are_added_and_removed_and_sessions_continue_also_after_a_crash() {
    let mut all = RemoteReloadFixture::new();
    let steady = Steady::start(all.cproxy.listen);
    let forward = format!("127.0.0.1:0:{}", all.echo.address);
    all.change(&[&forward]);
    let at = all.listening(1);
    let through = Steady::start(at);
    all.cproxy.program.kill_worker();
    all.cproxy.program.wait_for("another one continues");
    through.goes_on();
    Steady::start(at).finish();
    all.change(&[]);
    wait_until_closed(at);
    through.goes_on();
    steady.goes_on();
    // The next worker does not ask for it again.
    all.cproxy.program.kill_worker();
    all.cproxy.program.wait_for_count("another one continues", 2);
    through.goes_on();
    through.finish();
    steady.goes_on();
    steady.finish();
    assert!(TcpStream::connect(at).is_err());
}

#[test]
fn a_reload_with_a_forward_that_the_server_refuses_changes_nothing() {
    let mut all = RemoteReloadFixture::new();
    let steady = Steady::start(all.cproxy.listen);
    let forward = format!("127.0.0.1:0:{}", all.echo.address);
    all.change(&[&forward]);
    let (at, other) = (all.listening(1), Echo::start());
    let taken = format!("{}:localhost:1", other.address);
    for refused in ["127.0.0.1:1:localhost:1", &taken] {
        let said = all.reload(&["127.0.0.1:0:localhost:1", refused]);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.err.contains(&format!("-R {refused}: ")), "{said:?}");
        assert!(said.err.contains("nothing was changed"), "{said:?}");
        Steady::start(at).finish();
    }
    all.change(&[&forward, "127.0.0.1:0:localhost:1"]);
    Steady::start(at).finish();
    steady.finish();
}

#[test]
fn the_same_forward_may_be_there_twice_and_a_target_changes_at_the_same_address() {
    let mut all = RemoteReloadFixture::new();
    let forward = format!("127.0.0.1:0:{}", all.echo.address);
    all.change(&[&forward, &forward]);
    let (first, second) = (all.listening(1), all.listening(2));
    assert_ne!(first, second);
    all.change(&[&forward]);
    let is_open = |at: SocketAddr| TcpStream::connect(at).is_ok();
    wait("one listener to be closed", || !(is_open(first) && is_open(second)));
    let left = if is_open(first) { first } else { second };
    Steady::start(left).finish();
    all.change(&[]);
    wait_until_closed(left);
    let (other, held) = (Echo::start(), HeldPort::take());
    let at = SocketAddr::from(([127, 0, 0, 1], held.number()));
    all.change(&[&format!("{at}:localhost:1")]);
    assert_eq!(all.listening(3), at);
    all.change(&[&format!("{at}:{}", other.address)]);
    assert_eq!(all.listening(4), at);
    Steady::start(at).finish();
}
