//! Groups of a configuration file, and several files of admitted keys.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use etcp_testkit::loopback::operator::{control, operate};
use etcp_testkit::loopback::socket::dial;
use etcp_testkit::loopback::{Cproxy, Echo, Key, LoopbackSite, LoopbackSproxy, Steady};

/// A server whose file has a group that may reach one more target than all others.
struct GroupFixture {
    site: LoopbackSite,
    file: PathBuf,
    sproxy: LoopbackSproxy,
    /// A member by a line in the file.
    member: Key,
    /// A member by the file of keys.
    listed: Key,
    target: Echo,
}

impl GroupFixture {
    fn new() -> Self {
        let (site, default, target) = (LoopbackSite::new(), Echo::start(), Echo::start());
        let (member, listed) = (site.key("member"), site.key("listed"));
        fs::write(site.path().join("team"), format!("{}\n", listed.line)).expect("it is ours");
        let file = site.path().join("sproxy.toml");
        let head = format!(
            "listen = '127.0.0.1:0'\ntarget = '{}'\nidentity = '{}'\nauthorized-keys = ['{}']\n",
            default.address,
            site.server_key().display(),
            site.authorized_keys().display(),
        );
        let group = format!(
            "[group.dba]\nkeys = ['{} member']\nkey-files = '{}'\npermit = '{}'\n",
            member.line,
            site.path().join("team").display(),
            target.address
        );
        fs::write(&file, head + &group).expect("the folder is ours");
        let sproxy = LoopbackSproxy::of_file(&site, file.to_str().expect("text"));
        Self { site, file, sproxy, member, listed, target }
    }

    /// Attaches a client with this key. Returns it with the address of its forward to the target.
    fn client(&self, key: &Key, name: &str) -> (Cproxy, SocketAddr) {
        let forward = format!("127.0.0.1:0:{}", self.target.address);
        let args = ["-L", &forward];
        let client = Cproxy::with(&self.site, self.sproxy.address, name, key, &args).attached();
        let at = client.second_listener();
        (client, at)
    }

    fn reload(&self) {
        let socket = control(&self.site, "sproxy", &self.sproxy.program);
        let said = operate(&self.site, &["reload", "--control", &socket]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(said.out.contains("  group.dba."), "{said:?}");
    }

    fn replace(&self, from: &str, to: &str) {
        let text = fs::read_to_string(&self.file).expect("it is ours");
        assert!(text.contains(from), "{text}");
        fs::write(&self.file, text.replace(from, to)).expect("it is ours");
    }
}

/// Returns whether an echo answers there.
fn answers(at: SocketAddr) -> bool {
    let (mut stream, mut byte) = (dial(at), [0]);
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut byte).is_ok()
}

#[test]
fn the_members_of_a_group_reach_its_target_and_others_do_not() {
    let all = GroupFixture::new();
    for (key, name, is_member) in [
        (&all.member, "member", true),
        (&all.listed, "listed", true),
        (&all.site.client, "other", false),
    ] {
        let (cproxy, target) = all.client(key, name);
        assert!(answers(cproxy.listen), "{name}: every key reaches the default target");
        assert_eq!(answers(target), is_member, "{name}");
    }
}

#[test]
fn a_group_that_changes_ends_what_it_no_longer_permits_and_nothing_else() {
    let mut all = GroupFixture::new();
    let (member, to_target) = all.client(&all.member, "member");
    let (listed, listed_to_target) = all.client(&all.listed, "listed");
    let (default, mut lost) = (Steady::start(member.listen), Steady::start(to_target));
    let mut gone = Steady::start(listed_to_target);
    // Its target is no longer permitted; the tunnel and the other session continue.
    let permit = format!("permit = '{}'\n", all.target.address);
    all.replace(&permit, "permit = 'localhost:1'\n");
    all.reload();
    assert_eq!(lost.ended(), Some(ErrorKind::ConnectionReset));
    assert_eq!(gone.ended(), Some(ErrorKind::ConnectionReset));
    default.goes_on();
    // The next worker has the same group.
    all.sproxy.program.kill_worker();
    all.sproxy.program.wait_for("another one continues");
    default.goes_on();
    assert!(!answers(to_target));
    all.replace("permit = 'localhost:1'\n", &permit);
    all.reload();
    assert!(answers(to_target));
    // Without a member's key, the tunnel ends; the other member stays.
    let stays = Steady::start(listed.listen);
    all.replace(&format!("keys = ['{} member']\n", all.member.line), "");
    all.reload();
    let mut default = default;
    assert_eq!(default.ended(), Some(ErrorKind::ConnectionReset));
    stays.goes_on();
    stays.finish();
}

#[test]
fn a_group_has_limits_of_its_own_and_a_reload_applies_them_to_living_tunnels() {
    let mut all = GroupFixture::new();
    let with = |all: &GroupFixture, key: &Key, name: &str, args: &[&str]| {
        Cproxy::with(&all.site, all.sproxy.address, name, key, args)
    };
    let head = "[group.dba]\n";
    let limits = "[group.dba]\nmax-tunnels-per-key = 1\nmax-listeners = 0\n";
    all.replace(head, limits);
    all.reload();
    let args = ["-R", "127.0.0.1:0:127.0.0.1:9"];
    let mut first = with(&all, &all.member, "first", &args).attached();
    all.sproxy.program.wait_for("--max-listeners");
    let mut second = with(&all, &all.member, "second", &[]);
    second.program.wait_for("the key has 1 tunnel: end some of its clients");
    // Other keys are not limited.
    let _others = ["one", "two"].map(|name| with(&all, &all.site.client, name, &[]).attached());
    // A worker has the limits from its start.
    all.sproxy.program.kill_worker();
    all.sproxy.program.wait_for("another one continues");
    let mut third = with(&all, &all.member, "third", &[]);
    third.program.wait_for("the key has 1 tunnel: end some of its clients");
    // Without the limits, waiting sessions continue.
    all.replace(limits, "[group.dba]\nmax-sessions = '1'\n");
    all.reload();
    first.program.wait_for("the server listens on ");
    drop((second.attached(), third.attached()));
    // A new tunnel has the new limit of its sessions, and an earlier one does not.
    let listed = with(&all, &all.listed, "listed", &[]).attached();
    let (only, earlier) = (Steady::start(listed.listen), Steady::start(first.listen));
    let _refused = dial(listed.listen);
    all.sproxy.program.wait_for("(limit --max-sessions");
    only.finish();
    earlier.finish();
}

#[test]
fn keys_of_several_files_are_admitted_and_faults_of_groups_are_located() {
    let site = LoopbackSite::new();
    let (echo, other) = (Echo::start(), site.key("other"));
    let more = site.path().join("more");
    fs::write(&more, format!("{}\n", other.line)).expect("the folder is ours");
    let args = ["--listen", "127.0.0.1:0", "--authorized-keys", more.to_str().expect("text")];
    let sproxy = LoopbackSproxy::with(&site, echo.address, &args, None);
    for (key, name) in [(&site.client, "first"), (&other, "second")] {
        let cproxy = Cproxy::with(&site, sproxy.address, name, key, &[]).attached();
        assert!(answers(cproxy.listen), "{name}");
    }
    let file = site.path().join("s.toml");
    let text = "[group.dba]\nkeys = ['ssh-rsa AAAA']\nkey-files = 'nowhere'\ntarget = 'a:1'\n\
                max-sessions = 0\nmax-listeners = [1]\nmax-session = 2\n";
    fs::write(&file, text).expect("the folder is ours");
    let said = operate(&site, &["check", file.to_str().expect("text")]);
    assert_eq!(said.code, Some(1), "{said:?}");
    for fault in [
        "s.toml:2:9: invalid value \"ssh-rsa AAAA\" for keys of group dba: ",
        "s.toml:4:1: there is no key target of a group",
        "s.toml:5:16: invalid value \"0\" for max-sessions of group dba: expected a number from 1",
        "s.toml:6:17: max-listeners takes one value, not a list",
        "s.toml:7:1: there is no key max-session of a group: did you mean max-sessions?",
    ] {
        assert!(said.err.contains(fault), "{fault}: {said:?}");
    }
    fs::write(&file, "[group.dba]\nkey-files = 'nowhere'\n").expect("the folder is ours");
    let said = operate(&site, &["check", file.to_str().expect("text")]);
    assert!(said.code == Some(1) && said.err.contains("s.toml:2:1: nowhere does not"), "{said:?}");
    // A start with the file is refused for the same reason.
    let said = operate(&site, &["sproxy", "--config", file.to_str().expect("text")]);
    assert!(said.code == Some(2) && said.err.contains("s.toml:2:1: nowhere does not"), "{said:?}");
}

#[test]
fn a_reload_never_falls_back_to_keys_or_addresses_that_the_files_do_not_name() {
    let site = LoopbackSite::new();
    let file = site.path().join("sproxy.toml");
    let head = format!("listen = '127.0.0.1:0'\nidentity = '{}'\n", site.server_key().display());
    let write = |lines: &str| fs::write(&file, head.clone() + lines).expect("the folder is ours");
    let group = format!("[group.a]\nkeys = '{}'\n", site.client.line);
    write(&group);
    let mut sproxy = LoopbackSproxy::of_file(&site, file.to_str().expect("text"));
    let cproxy = Cproxy::start(&site, sproxy.address, "cproxy").attached();
    let socket = control(&site, "sproxy", &sproxy.program);
    let reload = || operate(&site, &["reload", "--control", &socket]);
    for (lines, why) in [
        ("", "which would admit the keys of ~/.ssh/authorized_keys"),
        ("authorized-keys = []\n", "authorized-keys is an empty list"),
        ("[group.a]\n", "group a is empty"),
        (
            format!("permit-listen = ['none', 'localhost:1']\n{group}").as_str(),
            "none stands beside other addresses",
        ),
    ] {
        write(lines);
        let said = reload();
        assert!(said.code == Some(1) && said.err.contains(why), "{lines}: {said:?}");
    }
    // The next worker refuses it, too.
    sproxy.program.kill_worker();
    sproxy.program.wait_for("another one continues");
    write("");
    assert_eq!(reload().code, Some(1));
    write(&group);
    assert_eq!(reload().code, Some(0));
    assert!(cproxy.program.log().contains("attached"));
}

#[test]
fn a_refused_reload_leaves_nothing_that_the_next_one_is_judged_by() {
    let site = LoopbackSite::new();
    let file = site.path().join("sproxy.toml");
    let head = format!("listen = '127.0.0.1:0'\nidentity = '{}'\n", site.server_key().display());
    fs::write(&file, &head).expect("the folder is ours");
    let sproxy = LoopbackSproxy::of_file(&site, file.to_str().expect("text"));
    let socket = control(&site, "sproxy", &sproxy.program);
    let reload = || operate(&site, &["reload", "--control", &socket]);
    let missing = site.path().join("missing");
    let group = format!("[group.a]\nkey-files = '{}'\n", missing.display());
    fs::write(&file, head.clone() + &group).expect("the folder is ours");
    let said = reload();
    let fault = format!("sproxy.toml:4:1: {} does not exist", missing.display());
    assert!(said.code == Some(1) && said.err.contains(&fault), "{said:?}");
    fs::write(&file, &head).expect("the folder is ours");
    let said = reload();
    assert_eq!(said.code, Some(0), "{said:?}");
}

/// The number of sessions of the test of reloads under load.
const MANY: usize = 500;

#[test]
fn five_hundred_sessions_outlive_reloads_that_still_allow_them() {
    let all = GroupFixture::new();
    let (member, to_target) = all.client(&all.member, "member");
    let (listed, listed_to_target) = all.client(&all.listed, "listed");
    let mut crowd: Vec<_> = (0..MANY)
        .map(|number| dial([to_target, listed.listen, listed_to_target][number % 3]))
        .collect();
    let echo = |crowd: &mut Vec<std::net::TcpStream>, after: &str| {
        for stream in crowd.iter_mut() {
            stream.write_all(b"x").expect(after);
        }
        for stream in crowd.iter_mut() {
            stream.read_exact(&mut [0]).expect(after);
        }
    };
    echo(&mut crowd, "at the start");
    let permit = format!("permit = '{}'\n", all.target.address);
    for number in 1..=10_u16 {
        // Every reload changes the group, and leaves its target.
        let wider = format!("permit = ['{}', 'localhost:{number}']\n", all.target.address);
        all.replace(&permit, &wider);
        all.reload();
        echo(&mut crowd, "after a reload");
        all.replace(&wider, &permit);
        all.reload();
    }
    echo(&mut crowd, "after all reloads");
    assert_eq!([&member, &listed].map(Cproxy::carriers_taken), [0, 0]);
}

#[test]
fn the_log_of_the_server_names_the_line_that_refuses_and_the_client_learns_no_path() {
    let site = LoopbackSite::new();
    let file = site.path().join("sproxy.toml");
    let keys = site.path().join("team");
    fs::write(&keys, format!("# a team\nrestrict {}\n", site.client.line)).expect("it is ours");
    let text = format!(
        "listen = '127.0.0.1:0'\nidentity = '{}'\n[group.dba]\nkey-files = '{}'\n",
        site.server_key().display(),
        keys.display()
    );
    fs::write(&file, text).expect("the folder is ours");
    let mut sproxy = LoopbackSproxy::of_file(&site, file.to_str().expect("text"));
    let mut cproxy = Cproxy::start(&site, sproxy.address, "cproxy");
    sproxy.program.wait_for(&format!("refused by {}:2 (group dba)", keys.display()));
    cproxy.program.wait_for("line 2 of the server's authorized_keys");
    assert!(!cproxy.program.log().contains("team"), "{}", cproxy.program.log());
}
