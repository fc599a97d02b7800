//! A server that changes its key, and tells its clients before.

use std::fs;
use std::path::PathBuf;

use etcp_testkit::loopback::operator::{control, operate};
use etcp_testkit::loopback::program::{RunningProgram, etcp, wait};
use etcp_testkit::loopback::{Cproxy, Echo, Key, LoopbackSite, LoopbackSproxy, Steady};

/// A server with a configuration file, whose clients know it by its present key.
struct ChangeFixture {
    site: LoopbackSite,
    file: PathBuf,
    next: PathBuf,
    sproxy: LoopbackSproxy,
}

impl ChangeFixture {
    fn new() -> Self {
        let site = LoopbackSite::new();
        let (file, next) = (site.path().join("sproxy.toml"), site.path().join("next"));
        let text = format!("listen = '127.0.0.1:0'\ntarget = '{}'\n", Echo::start().address);
        fs::write(&file, text).expect("the folder is ours");
        let args = ["--config", file.to_str().expect("test paths are text")];
        let sproxy = LoopbackSproxy::plain(&site, &args);
        Self { site, file, next, sproxy }
    }

    /// Writes the next key into the settings, and reloads.
    fn announce(&self) {
        let text = fs::read_to_string(&self.file).expect("it was written");
        let text = format!("{text}next-identity = '{}'\n", self.next.display());
        fs::write(&self.file, text).expect("the folder is ours");
        self.operate("reload");
    }

    /// Makes the next key the server's key while its sessions live.
    fn change(&self) {
        let text = fs::read_to_string(&self.file).expect("it was written");
        let rest = text.lines().filter(|line| !line.starts_with("next-identity"));
        fs::write(&self.file, rest.collect::<Vec<_>>().join("\n")).expect("the folder is ours");
        self.operate("reload");
        fs::rename(&self.next, self.site.server_key()).expect("the key exists");
        self.operate("upgrade");
    }

    fn operate(&self, command: &str) {
        let socket = control(&self.site, "sproxy", &self.sproxy.program);
        let said = operate(&self.site, &[command, "--control", &socket]);
        assert_eq!(said.code, Some(0), "{said:?}");
    }

    fn next_line(&self) -> String {
        Key::generate(self.next.clone()).line
    }

    fn client(&self, name: &str, args: &[&str]) -> Cproxy {
        let server = self.sproxy.address;
        Cproxy::with(&self.site, server, name, &self.site.client, args).attached()
    }

    fn known(&self) -> String {
        fs::read_to_string(self.site.known_hosts()).expect("it exists")
    }
}

/// Waits until a client has said what it did with the next key.
fn has_said(client: &mut Cproxy, what: &str) {
    let line = client.program.wait_for("announces its next key");
    assert!(line.contains(what), "{line}");
}

#[test]
fn clients_learn_the_next_key_and_their_sessions_outlive_the_change() {
    let fixture = ChangeFixture::new();
    let mut client = fixture.client("told", &[]);
    let session = Steady::start(client.listen);
    // The client is attached already, and receives the announcement nevertheless.
    fixture.announce();
    has_said(&mut client, "added to");
    let line = format!("[127.0.0.1]:{} {}", fixture.sproxy.address.port(), fixture.next_line());
    assert!(fixture.known().contains(&line), "{}", fixture.known());
    // One that comes later finds the key there.
    let later = fixture.client("later", &[]);
    let second = Steady::start(later.listen);
    fixture.change();
    for session in [&session, &second] {
        session.goes_on();
    }
    wait("both to be attached again", || {
        [&client, &later].iter().all(|it| it.attached_again() > 0)
    });
    assert_eq!(fixture.known().matches(&line).count(), 1, "{}", fixture.known());
    // A client that starts now trusts the new key.
    let newest = fixture.client("newest", &[]);
    Steady::start(newest.listen).finish();
    session.finish();
    second.finish();
}

#[test]
fn a_client_that_may_not_store_the_key_says_so_and_keeps_its_sessions_until_it_may() {
    let fixture = ChangeFixture::new();
    let mut client = denying_client(&fixture);
    let session = Steady::start(client.listen);
    let before = fixture.known();
    fixture.announce();
    has_said(&mut client, "UpdateHostKeys is off");
    assert_eq!(fixture.known(), before);
    let line = format!("[127.0.0.*]:* {}", fixture.next_line());
    fixture.change();
    client.program.wait_for("HAS CHANGED");
    fixture.site.know(&line);
    client.program.wait_for("attached again");
    session.goes_on();
    session.finish();
}

/// Starts a client whose configuration of ssh denies updates.
fn denying_client(fixture: &ChangeFixture) -> Cproxy {
    let site = &fixture.site;
    let config = site.path().join("ssh_config");
    fs::write(&config, "UpdateHostKeys no\n").expect("the folder is ours");
    let mut command = etcp(site.path(), ["cproxy", "--listen", "127.0.0.1:0"]);
    command.arg("--server").arg(fixture.sproxy.address.to_string()).arg("-F").arg(config);
    command.arg("-i").arg(&site.client.path).arg("--known-hosts").arg(site.known_hosts());
    let mut program = RunningProgram::start("denying", site.path(), command);
    let line = program.wait_for("listening on ");
    let (_, listen) = line.split_once("listening on ").expect("it was looked for");
    Cproxy { listen: listen.trim().parse().expect("an address"), program }.attached()
}

#[test]
fn a_next_key_that_cannot_be_used_is_an_error_that_names_the_setting() {
    let site = LoopbackSite::new();
    let file = site.path().join("sproxy.toml");
    let odd = site.path().join("odd");
    fs::write(&odd, "no key").expect("the folder is ours");
    let text = format!(
        "authorized-keys = '{}'\nnext-identity = '{}'\n",
        site.authorized_keys().display(),
        odd.display()
    );
    fs::write(&file, text).expect("it is ours");
    let said = operate(&site, &["check", file.to_str().expect("test paths are text")]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("next-identity") && said.err.contains("odd"), "{said:?}");
}
