//! `authorized_keys` changes under live tunnels: a key that is no longer admitted is closed within
//! five seconds, without effect on others.

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use etcp_testkit::loopback::program::{measure, wait};
use etcp_testkit::loopback::socket::dial;
use etcp_testkit::loopback::{
    ATTACHED, Cproxy, Echo, Key, LoopbackRelay, LoopbackSite, LoopbackSproxy, Steady,
};

/// The specified time is 5 s; a busy machine gets six times as long.
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// Two users, each with a tunnel and a session in it.
struct ChangesFixture {
    ours: (Cproxy, Steady),
    theirs: (Cproxy, Steady),
    sproxy: LoopbackSproxy,
    site: LoopbackSite,
    other: Key,
}

impl ChangesFixture {
    fn new() -> Self {
        let site = LoopbackSite::new();
        let other = site.key("other");
        site.admit(&[&site.client.line, &other.line]);
        let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
        let start = |name, key| {
            let cproxy = Cproxy::with(&site, sproxy.address, name, key, &[]).attached();
            let steady = Steady::start(cproxy.listen);
            (cproxy, steady)
        };
        let ours = start("ours", &site.client);
        let theirs = start("theirs", &other);
        Self { site, sproxy, other, ours, theirs }
    }

    /// Removes our key from the file by `change`: our tunnel ends, and our client says `why`; the
    /// other tunnel continues.
    fn lose_our_key(mut self, change: impl FnOnce(&Self), why: &str) {
        let took = measure("from the change of the file to the reset of the sessions", || {
            change(&self);
            wait("our session's end", || self.ours.1.is_over());
        });
        assert!(took < GONE_WITHIN, "it took {took:?}");
        assert_eq!(self.ours.1.ended(), Some(ErrorKind::ConnectionReset));
        self.ours.0.program.wait_for("the server ended the tunnel: its key is no longer admitted");
        let (code, line) = self.ours.0.program.end();
        assert_eq!(code, Some(3), "{line}");
        assert!(line.contains(why), "{line}");
        self.sproxy.program.wait_for("is closed: ");
        self.sproxy.program.wait_for("tunnel over");
        self.theirs.1.goes_on();
        self.theirs.1.finish();
        assert_eq!(self.theirs.0.carriers_taken(), 0, "the other carrier is the same");
    }
}

#[test]
fn a_key_that_is_removed_loses_its_tunnel_and_another_keeps_its_own() {
    ChangesFixture::new()
        .lose_our_key(|setting| setting.site.admit(&[&setting.other.line]), "does not know");
}

#[test]
fn a_change_in_place_that_keeps_length_and_time_of_modification_is_seen_too() {
    ChangesFixture::new().lose_our_key(
        |setting| {
            let path = setting.site.authorized_keys();
            let before = fs::metadata(&path).and_then(|file| file.modified()).expect("it is there");
            let text = fs::read_to_string(&path).expect("it is ours");
            let absent = setting.site.key("absent").line;
            let changed = text.replace(&setting.site.client.line, &absent);
            assert_eq!(changed.len(), text.len());
            let file = fs::File::options().write(true).open(&path).expect("it is ours");
            (&file).write_all(changed.as_bytes()).expect("it fits");
            file.set_modified(before).expect("it is ours");
        },
        "does not know",
    );
}

#[test]
fn a_key_that_is_restricted_loses_its_tunnel() {
    ChangesFixture::new().lose_our_key(
        |setting| {
            let ours = format!("restrict {}", setting.site.client.line);
            setting.site.admit(&[&ours, &setting.other.line]);
        },
        "add port-forwarding to line 1",
    );
}

#[test]
fn a_key_that_expires_loses_its_tunnel() {
    ChangesFixture::new().lose_our_key(
        |setting| {
            // The key expires in two seconds, and the file does not change again.
            let soon = SystemTime::now() + Duration::from_secs(2);
            let option = format!("expiry-time=\"{}\"", utc(soon));
            let ours = format!("{option} {}", setting.site.client.line);
            setting.site.admit(&[&ours, &setting.other.line]);
        },
        "the key has expired (line 1",
    );
}

/// Formats a time as in sshd(8): `YYYYMMDDHHMMSSZ`.
fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).expect("it is not 1969").as_secs();
    let output = std::process::Command::new("date")
        .args(["-u", "-d", &format!("@{seconds}"), "+%Y%m%d%H%M%SZ"])
        .output()
        .expect("date runs");
    String::from_utf8(output.stdout).expect("it prints text").trim().to_owned()
}

#[test]
fn an_address_that_is_not_allowed_any_more_loses_its_carrier_and_keeps_its_sessions() {
    let site = LoopbackSite::new();
    let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    let relay = LoopbackRelay::start([127, 0, 0, 9], sproxy.address);
    let mut cproxy = Cproxy::start(&site, relay.address, "cproxy").attached();
    let steady = Steady::start(cproxy.listen);
    let key = &site.client.line;
    site.admit(&[&format!("from=\"127.0.0.1\" {key}")]);
    let line = cproxy.program.wait_for("refused for now");
    assert!(line.contains("the key may not come from 127.0.0.9"), "{line}");
    site.admit(&[&format!("from=\"127.0.0.0/24\" {key}")]);
    cproxy.program.wait_for("attached again");
    steady.goes_on();
    steady.finish();
}

/// Makes the file unreadable, even for root, and readable again.
fn unreadable(spoil: impl Fn(&LoopbackSite), mend: impl Fn(&LoopbackSite), why: &str) {
    let mut setting = ChangesFixture::new();
    let relay = LoopbackRelay::start([127, 0, 0, 1], setting.sproxy.address);
    let third = Cproxy::start(&setting.site, relay.address, "third").attached();
    let steady = Steady::start(third.listen);
    spoil(&setting.site);
    let line = setting.sproxy.program.wait_for("no new tunnel is admitted until then");
    assert!(line.contains(why), "{line}");
    let mut newcomer = Cproxy::start(&setting.site, setting.sproxy.address, "newcomer");
    newcomer.program.wait_for("refused for now");
    // No tunnel ends, new sessions are allowed, and a lost carrier returns.
    relay.cut();
    wait("the carrier to be made again", || third.attached_again() > 0);
    steady.goes_on();
    setting.ours.1.goes_on();
    setting.theirs.1.goes_on();
    Steady::start(setting.ours.0.listen).finish();
    let told = setting.sproxy.program.count("no new tunnel is admitted until then");
    assert_eq!(told, 1, "it is said once");
    mend(&setting.site);
    newcomer.program.wait_for(ATTACHED);
    Steady::start(newcomer.listen).finish();
    steady.finish();
}

#[test]
fn a_file_that_others_may_write_to_admits_no_new_tunnel_and_ends_none() {
    let mode = |mode| {
        move |site: &LoopbackSite| {
            fs::set_permissions(site.authorized_keys(), Permissions::from_mode(mode))
                .expect("ours");
        }
    };
    unreadable(mode(0o602), mode(0o600), "others may write to");
}

#[test]
fn a_file_that_is_a_folder_for_a_while_admits_no_new_tunnel_and_ends_none() {
    let aside = |site: &LoopbackSite| site.path().join("aside");
    unreadable(
        |site| {
            fs::rename(site.authorized_keys(), aside(site)).expect("it is ours");
            fs::create_dir(site.authorized_keys()).expect("the name is free");
        },
        |site| {
            fs::remove_dir(site.authorized_keys()).expect("it is empty");
            // It returns exactly as it was.
            fs::rename(aside(site), site.authorized_keys()).expect("it is ours");
        },
        "is not a regular file",
    );
}

#[test]
fn an_empty_file_is_readable_and_lets_nobody_in() {
    let mut setting = ChangesFixture::new();
    setting.site.admit(&[]);
    for (cproxy, steady) in [&mut setting.ours, &mut setting.theirs] {
        assert_eq!(steady.ended(), Some(ErrorKind::ConnectionReset));
        assert_eq!(cproxy.program.end().0, Some(3));
    }
}

#[test]
fn each_session_is_authorized_by_the_current_file() {
    let mut setting = ChangesFixture::new();
    let key = &setting.site.client.line;
    setting.site.admit(&[&format!("permitopen=\"192.0.2.1:1\" {key}"), &setting.other.line]);
    wait("a new session to be refused", || {
        let mut stream = dial(setting.ours.0.listen);
        // Until the server has read the file again, the session is allowed.
        stream.write_all(b"?").and_then(|()| stream.read_exact(&mut [0])).is_err()
    });
    setting.ours.0.program.wait_for("the key may not open this target");
    // The existing session ends once the file has settled, and its tunnel does not.
    assert_eq!(setting.ours.1.ended(), Some(ErrorKind::ConnectionReset));
    setting.theirs.1.finish();
    assert!(setting.ours.0.program.is_running());
}
