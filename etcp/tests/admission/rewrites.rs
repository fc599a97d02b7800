//! `authorized_keys` is rewritten in the ways of editors, scripts and slow machines, under hundreds
//! of sessions: a key that is in it before and after loses nothing.

use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use etcp_testkit::checked::Pattern;
use etcp_testkit::loopback::operator::status;
use etcp_testkit::loopback::program::{etcp, wait};
use etcp_testkit::loopback::refusing::refusing;
use etcp_testkit::loopback::socket::{dial, patient};
use etcp_testkit::loopback::{
    Cproxy, Echo, Key, LoopbackRelay, LoopbackSite, LoopbackSproxy, Steady,
};
use eternaltcp::process::raise_descriptor_limit;
use eternaltcp_proto::{Refusal, RefusalCode};
use rustix::process::{Pid, Signal, kill_process};

/// Tunnels, and the sessions of each.
const TUNNELS: usize = 5;
const SESSIONS: usize = 100;

/// A server whose log nobody reads, and 500 sessions through a relay.
struct RewriteCrowd {
    sessions: Vec<(TcpStream, u64)>,
    cproxies: Vec<Cproxy>,
    relay: LoopbackRelay,
    server: Child,
    site: LoopbackSite,
    text: String,
}

impl RewriteCrowd {
    fn new() -> Self {
        raise_descriptor_limit();
        let site = LoopbackSite::new();
        // The key that counts is the last of many lines.
        let text = format!("{}\n{}\n", site.key("first").line, site.client.line);
        fs::write(site.authorized_keys(), &text).expect("it is ours");
        let (server, address) = unread_sproxy(&site, Echo::start().address);
        let relay = LoopbackRelay::start([127, 0, 0, 1], address);
        let start = |number| Cproxy::start(&site, relay.address, &format!("cproxy-{number}"));
        let cproxies: Vec<_> = (0..TUNNELS).map(|number| start(number).attached()).collect();
        let listens = cproxies.iter().map(|cproxy| cproxy.listen);
        let sessions = listens.flat_map(|listen| (0..SESSIONS).map(move |_| (dial(listen), 0)));
        let sessions = sessions.map(|(stream, offset)| (patient(stream), offset)).collect();
        let mut crowd = Self { sessions, cproxies, relay, server, site, text };
        crowd.goes_on("at the start");
        crowd
    }

    fn path(&self) -> PathBuf {
        self.site.authorized_keys()
    }

    /// Exchanges data on every session.
    #[track_caller]
    fn goes_on(&mut self, when: &str) {
        let mut buffer = [0; 1021];
        for (number, (stream, offset)) in self.sessions.iter_mut().enumerate() {
            let pattern = Pattern(number as u64);
            pattern.fill(*offset, &mut buffer);
            let sent = stream.write_all(&buffer);
            sent.unwrap_or_else(|error| panic!("session {number} {when}: {error}"));
        }
        for (number, (stream, offset)) in self.sessions.iter_mut().enumerate() {
            let read = stream.read_exact(&mut buffer);
            read.unwrap_or_else(|error| panic!("session {number} {when}: {error}"));
            Pattern(number as u64).check(*offset, &buffer);
            *offset += buffer.len() as u64;
        }
    }

    /// Checks that sessions continue and carriers return while the file is as `spoil` leaves it;
    /// `mend` restores it.
    #[track_caller]
    fn outlives(&mut self, what: &str, seconds: u64, spoil: impl Fn(&Self), mend: impl Fn(&Self)) {
        spoil(self);
        let again: usize = self.cproxies.iter().map(Cproxy::attached_again).sum();
        self.relay.cut();
        self.goes_on(what);
        let back = || self.cproxies.iter().map(Cproxy::attached_again).sum::<usize>();
        wait("the carriers to be made again", || back() >= again + TUNNELS);
        // The time for which the file stays so: the server checks it each second, and on SIGHUP.
        self.hang_up();
        std::thread::sleep(Duration::from_secs(seconds));
        self.hang_up();
        self.goes_on(what);
        mend(self);
        self.hang_up();
        self.goes_on(what);
    }

    /// Makes the server read its files again.
    fn hang_up(&self) {
        kill_process(Pid::from_child(&self.server), Signal::HUP).expect("it runs");
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).expect("it is ours");
    }

    fn set_mode(&self, mode: u32) {
        fs::set_permissions(self.path(), Permissions::from_mode(mode)).expect("it is ours");
    }
}

impl Drop for RewriteCrowd {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Starts sproxy with its log in a pipe of one page, which nobody reads after the address.
fn unread_sproxy(site: &LoopbackSite, target: SocketAddr) -> (Child, SocketAddr) {
    let mut command = etcp(site.path(), ["sproxy", "-vv", "--listen", "127.0.0.1:0", "--target"]);
    command.arg(target.to_string()).arg("--identity").arg(site.server_key());
    command.arg("--authorized-keys").arg(site.authorized_keys());
    let mut child = command.stderr(Stdio::piped()).spawn().expect("setpriv and setsid run");
    let mut log = child.stderr.take().expect("it is a pipe");
    let mut text = Vec::new();
    let address = loop {
        let mut byte = [0];
        log.read_exact(&mut byte).expect("it says where it listens");
        text.extend(byte);
        if let Some(line) = String::from_utf8_lossy(&text).strip_suffix('\n')
            && let Some((_, address)) = line.rsplit_once("listening on ")
            && let Ok(address) = address.trim().parse()
        {
            break address;
        }
    };
    rustix::pipe::fcntl_setpipe_size(&log, 4096).expect("a pipe can be small");
    // It stays open for as long as this process runs.
    std::mem::forget(log);
    (child, address)
}

#[test]
fn five_hundred_sessions_outlive_every_way_in_which_the_file_is_written() {
    let mut crowd = RewriteCrowd::new();
    let whole = crowd.text.clone();
    let whole = || whole.clone();
    // The file is written in place, in sizes that need more than one read.
    for kilobytes in [0, 4, 64, 900] {
        let padding = format!("# {}\n", "x".repeat(998)).repeat(kilobytes);
        for _ in 0..3 {
            crowd.write(&(padding.clone() + &whole()));
            crowd.goes_on("after it was written at once");
        }
    }
    // The writer has the file open for longer than the settling time.
    let half = whole().len() / 2;
    crowd.outlives(
        "while a slow writer is at it",
        5,
        |crowd| {
            let path = crowd.path();
            let text = whole();
            std::thread::spawn(move || {
                let mut file = File::create(path).expect("it is ours");
                for part in [&text[..half], &text[half..]] {
                    std::thread::sleep(Duration::from_secs(4));
                    file.write_all(part.as_bytes()).expect("there is room");
                }
            });
        },
        |crowd| {
            wait("the writer", || fs::read_to_string(crowd.path()).is_ok_and(|it| it == whole()))
        },
    );
    outlives_damage(&mut crowd, &whole());
    outlives_loss(&mut crowd);
    assert_eq!(crowd.server.try_wait().expect("it is ours"), None, "sproxy runs");
}

/// Checks that the sessions outlive a file that is incomplete.
fn outlives_damage(crowd: &mut RewriteCrowd, whole: &str) {
    let half = &whole[..whole.len() / 2];
    let mend = |crowd: &RewriteCrowd| crowd.write(whole);
    crowd.outlives("while it is empty", 4, |crowd| crowd.write(""), mend);
    crowd.outlives("while its last line is missing", 1, |crowd| crowd.write(half), mend);
}

/// Checks that the sessions outlive a file that is missing, unsafe or another one.
fn outlives_loss(crowd: &mut RewriteCrowd) {
    let aside = crowd.site.path().join("aside");
    let away = |crowd: &RewriteCrowd| fs::rename(crowd.path(), &aside).expect("it is ours");
    let back = |crowd: &RewriteCrowd| fs::rename(&aside, crowd.path()).expect("it is ours");
    crowd.outlives("while it is missing", 4, away, back);
    crowd.outlives(
        "while others may write to it",
        4,
        |it| it.set_mode(0o666),
        |it| it.set_mode(0o600),
    );
    if rustix::process::geteuid().is_root() {
        let give = |user| {
            move |it: &RewriteCrowd| {
                std::os::unix::fs::chown(it.path(), Some(user), None).expect("root may")
            }
        };
        crowd.outlives("while another user owns it", 4, give(4242), give(0));
    }
    crowd.outlives(
        "while another file is in its place",
        1,
        |crowd| crowd.site.admit(&[&crowd.site.key("other").line]),
        |crowd| crowd.site.admit(&[&crowd.site.client.line]),
    );
}

#[test]
fn a_key_that_is_narrowed_loses_the_sessions_that_it_may_not_have_any_more() {
    let site = LoopbackSite::new();
    let (kept, lost) = (Echo::start(), TcpListener::bind("127.0.0.1:0").expect("a port"));
    let targets = [kept.address, lost.local_addr().expect("it listens")];
    let by_name = format!("localhost:{}", targets[0].port());
    let mut sproxy = LoopbackSproxy::with(
        &site,
        targets[0],
        &["--listen", "127.0.0.1:0", "--permit", "127.0.0.0/8:*", "--permit", &by_name],
        None,
    );
    let forwards = targets.map(|target| format!("127.0.0.1:0:{target}"));
    let by_network = format!("127.0.0.1:0:localhost:{}", targets[0].port());
    let args = ["-L", &forwards[0], "-L", &forwards[1], "-L", &by_network];
    let mut cproxy = Cproxy::with(&site, sproxy.address, "cproxy", &site.client, &args).attached();
    let mut listen = |number| {
        let line = cproxy.program.wait_for_count("listening on ", number);
        let words: Vec<_> = line.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "on").expect("it was looked for");
        words[at + 1].trim_end_matches([',', ';']).parse::<SocketAddr>().expect("an address")
    };
    let [first, second, third] = [2, 3, 4].map(&mut listen);
    let steady = [cproxy.listen, first, third].map(Steady::start);
    let application = dial(second);
    let target = lost.accept().expect("sproxy connects").0;
    let terms =
        format!("permitopen=\"{}\",permitopen=\"127.0.0.0/16:{}\"", targets[0], targets[0].port());
    let before = sproxy.program.count("is reset");
    site.admit(&[&format!("{terms} {}", site.client.line)]);
    let line = sproxy.program.wait_for("is reset: the target is not permitted");
    assert!(line.contains(&targets[1].to_string()), "{line}");
    for mut end in [application, target].map(patient) {
        let error = end.read(&mut [0]).expect_err("it is no end of stream");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    for steady in steady {
        steady.goes_on();
        steady.finish();
    }
    assert_eq!(sproxy.program.count("is reset"), before + 1, "only that one");
    assert_eq!(cproxy.carriers_taken(), 0);
}

#[test]
fn a_refusal_that_may_pass_ends_no_client_that_has_sessions() {
    let site = LoopbackSite::new();
    let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    let relay = LoopbackRelay::start([127, 0, 0, 1], sproxy.address);
    let mut cproxy = Cproxy::start(&site, relay.address, "cproxy").attached();
    let steady = Steady::start(cproxy.listen);
    let server = Key::generate(site.server_key()).identity;
    let codes = [
        RefusalCode::KeyUnknown,
        RefusalCode::KeyExpired,
        RefusalCode::KeyRestricted,
        RefusalCode::Version,
        RefusalCode::NameTaken,
    ];
    for (number, code) in codes.into_iter().enumerate() {
        let refusal = Refusal::last(code, "it says so");
        relay.lead_to(refusing(&server, &refusal));
        let line = cproxy.program.wait_for_count("1 sessions are kept", number + 1);
        assert!(line.contains(" WARN refused for now: "), "{line}");
        let is_told =
            |why: &str| why.contains("does not know the key") || why.contains("it says so");
        // The end of the carrier that was lost may be the last news for a moment.
        wait("the status to say why", || {
            let why = &status(&site, "cproxy", &cproxy.program)["tunnels"][0]["why"];
            why.as_str().is_some_and(is_told)
        });
        relay.lead_to(sproxy.address);
        cproxy.program.wait_for_count("attached again", number + 1);
        steady.goes_on();
    }
    steady.finish();
    // Without sessions, the status is as at the start.
    wait("the session to be forgotten", || {
        status(&site, "cproxy", &cproxy.program)["tunnels"][0]["sessions"]
            .as_array()
            .is_some_and(Vec::is_empty)
    });
    relay.lead_to(refusing(&server, &Refusal::last(RefusalCode::KeyUnknown, "")));
    let (code, line) = cproxy.program.end();
    assert_eq!(code, Some(3), "{line}");
    assert!(line.contains("does not know the key"), "{line}");
}
