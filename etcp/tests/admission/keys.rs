//! Keys at the first attach: a user's unknown to the server, and a server's not trusted by the
//! client. Each ends the client with exit code 3 and one line of advice.

use std::process::Command;

use etcp_testkit::loopback::{
    ATTACHED, Cproxy, Echo, Key, LoopbackRelay, LoopbackSite, LoopbackSproxy, RunningProgram,
    Steady, connect,
};
use etcp_testkit::wait::output;

/// Starts a server in front of an echo.
fn served() -> (LoopbackSite, LoopbackSproxy) {
    let site = LoopbackSite::new();
    let sproxy = LoopbackSproxy::start(&site, Echo::start().address);
    (site, sproxy)
}

/// Returns the only line of an `etcp connect` that is refused at once.
#[track_caller]
fn refused(site: &LoopbackSite, sproxy: &LoopbackSproxy, key: &Key, args: &[&str]) -> String {
    let output = output(&mut connect(site, sproxy.address, key, args));
    let text = String::from_utf8(output.stderr).expect("it says text");
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert_eq!(text.lines().count(), 1, "one line: {text}");
    text
}

/// Returns whether the server lets a client reach the echo.
fn admits(site: &LoopbackSite, sproxy: &LoopbackSproxy, key: &Key) {
    let cproxy = Cproxy::with(site, sproxy.address, "admitted", key, &[]).attached();
    Steady::start(cproxy.listen).finish();
}

#[test]
fn a_key_that_is_not_known_is_told_the_line_that_would_admit_it() {
    let (site, sproxy) = served();
    let stranger = site.key("stranger");
    let mut cproxy = Cproxy::with(&site, sproxy.address, "cproxy", &stranger, &[]).program;
    let (code, line) = cproxy.end();
    assert_eq!(code, Some(3));
    assert!(line.starts_with("etcp: ") && line.contains("authorized_keys"), "{line}");
    let wanted = line.rsplit_once("authorized_keys: ").expect("the line stands at the end").1;
    // Its advice is the remedy.
    site.admit(&[wanted]);
    admits(&site, &sproxy, &stranger);
}

#[test]
fn a_line_that_admits_nobody_is_named_to_both_sides() {
    let (site, mut sproxy) = served();
    let key = site.client.line.clone();
    for (options, reason) in [
        ("restrict", "add port-forwarding to line 2"),
        ("no-port-forwarding", "add port-forwarding to line 2"),
        (
            "command=\"/bin/false\"",
            "line 2 of the server's authorized_keys admits nobody: command=",
        ),
        (
            "frobnicate",
            "line 2 of the server's authorized_keys admits nobody: the option \"frobnicate\"",
        ),
        ("from=\"client.example.org\"", "line 2 of the server's authorized_keys admits nobody: "),
        ("expiry-time=\"20200101Z\"", "the key has expired (line 2"),
    ] {
        site.admit(&["# a comment", &format!("{options} {key}")]);
        let line = refused(&site, &sproxy, &site.client, &[]);
        assert!(line.contains(reason), "{options}: {line}");
        sproxy.program.wait_for(reason);
    }
    for option in ["command=", "the option \"frobnicate\"", "from="] {
        let line = sproxy.program.wait_for(&format!("authorized_keys:2: {option}"));
        assert!(line.contains("WARN") && line.contains("the line admits nobody"), "{line}");
    }
    site.admit(&[&format!("restrict,port-forwarding {key}")]);
    admits(&site, &sproxy, &site.client);
}

#[test]
fn a_key_without_a_file_that_can_be_read_is_refused_for_now() {
    let (site, mut sproxy) = served();
    std::fs::remove_file(site.authorized_keys()).expect("it is ours");
    sproxy.program.wait_for("does not exist: create it with the public keys that may connect");
    let line = refused(&site, &sproxy, &site.client, &[]);
    assert!(line.contains("the server cannot read its authorized keys"), "{line}");
    site.admit(&[&site.client.line]);
    admits(&site, &sproxy, &site.client);
}

#[test]
fn an_unknown_server_is_refused_without_a_terminal_and_its_line_is_reported() {
    let (site, sproxy) = served();
    for text in ["", "# nothing", "[127.0.0.1]:1 ssh-ed25519 AAAA"] {
        site.know(text);
        let line = refused(&site, &sproxy, &site.client, &[]);
        assert!(line.contains("give --accept-new, or add the line: "), "{line}");
        let wanted = line.rsplit_once("add the line: ").expect("it stands at the end").1;
        assert_eq!(wanted.trim(), known_hosts_line(&site, &sproxy));
    }
    site.know(&known_hosts_line(&site, &sproxy));
    admits(&site, &sproxy, &site.client);
}

#[test]
fn a_new_server_is_accepted_and_kept_when_that_is_wanted() {
    let (site, sproxy) = served();
    site.know("# mine");
    for name in ["first", "second"] {
        let args: &[&str] = if name == "first" { &["--accept-new"] } else { &[] };
        let cproxy = Cproxy::with(&site, sproxy.address, name, &site.client, args).attached();
        Steady::start(cproxy.listen).finish();
    }
    let known = std::fs::read_to_string(site.known_hosts()).expect("it is ours");
    assert_eq!(known, format!("# mine\n{}\n", known_hosts_line(&site, &sproxy)));
}

#[test]
fn a_changed_server_key_is_refused_loudly_whatever_was_asked() {
    let (site, sproxy) = served();
    let other = site.key("other-server").line;
    site.know(&format!("# a comment\n[127.0.0.1]:{} {other}", sproxy.address.port()));
    for args in [&[][..], &["--accept-new"]] {
        let line = refused(&site, &sproxy, &site.client, args);
        assert!(line.contains("HAS CHANGED") && line.contains("known_hosts:2 says"), "{line}");
    }
    assert_eq!(sproxy.program.count("tunnel"), 0, "the server has not seen a client");
}

#[test]
fn a_revoked_server_key_is_refused_whatever_was_asked() {
    let (site, sproxy) = served();
    let known = known_hosts_line(&site, &sproxy);
    site.know(&format!("{known}\n@revoked * {}", site.server_line()));
    for args in [&[][..], &["--accept-new"]] {
        let line = refused(&site, &sproxy, &site.client, args);
        assert!(line.contains("is revoked") && line.contains("known_hosts:2"), "{line}");
    }
}

#[test]
fn a_hashed_name_in_known_hosts_is_as_good_as_a_plain_one() {
    let (site, sproxy) = served();
    site.know(&known_hosts_line(&site, &sproxy));
    let hashed = Command::new("ssh-keygen").arg("-Hf").arg(site.known_hosts()).output();
    assert!(hashed.expect("ssh-keygen runs").status.success());
    let text = std::fs::read_to_string(site.known_hosts()).expect("it is ours");
    assert!(text.starts_with("|1|") && !text.contains("127.0.0.1"), "{text}");
    admits(&site, &sproxy, &site.client);
    let hashed = text.split_whitespace().next().expect("a name").to_owned();
    site.know(&format!("{hashed} {}", site.key("other-server").line));
    let line = refused(&site, &sproxy, &site.client, &[]);
    assert!(line.contains("HAS CHANGED"), "{line}");
}

#[test]
fn an_address_that_is_not_allowed_is_refused_for_now_and_let_in_when_the_line_allows_it() {
    let (site, mut sproxy) = served();
    let key = site.client.line.clone();
    site.admit(&[&format!("from=\"127.0.0.7,!127.0.0.9,2001:db8::/32\" {key}")]);
    let relay = LoopbackRelay::start([127, 0, 0, 9], sproxy.address);
    let mut cproxy = Cproxy::start(&site, relay.address, "cproxy");
    let line = cproxy.program.wait_for("refused for now");
    assert!(line.contains("the key may not come from 127.0.0.9 (from= on line 1"), "{line}");
    // It continues to try.
    sproxy.program.wait_for_count("refused 127.0.0.9:", 3);
    let session = std::thread::spawn({
        let listen = cproxy.listen;
        move || Steady::start(listen)
    });
    site.admit(&[&format!("from=\"127.0.0.0/8\" {key}")]);
    cproxy.program.wait_for(ATTACHED);
    session.join().expect("a connection that waited gets through").finish();
    // A program with a short limit for its first contact reports the refusal at once.
    site.admit(&[&format!("from=\"192.0.2.1\" {key}")]);
    let line = refused(&site, &sproxy, &site.client, &[]);
    assert!(line.contains("the key may not come from 127.0.0.1"), "{line}");
}

#[test]
fn from_knows_ipv6_and_mapped_addresses() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return; // A machine without IPv6 has nothing to show here.
    }
    let site = LoopbackSite::new();
    let sproxy = LoopbackSproxy::with(&site, Echo::start().address, &["--listen", "[::]:0"], None);
    let v6 = format!("[::1]:{}", sproxy.address.port()).parse().expect("an address");
    let over = |server, admitted: bool, name: &str| {
        let mut client = Cproxy::start(&site, server, name);
        client.program.wait_for(if admitted { ATTACHED } else { "refused for now" });
    };
    let key = &site.client.line;
    site.admit(&[&format!("from=\"::1\" {key}")]);
    over(v6, true, "v6-to-v6");
    over(sproxy.address, false, "v4-to-v6");
    // An IPv4 client of a dual-stack socket is an IPv4 client.
    site.admit(&[&format!("from=\"127.0.0.0/8,!::/0\" {key}")]);
    over(v6, false, "v6-to-v4");
    over(sproxy.address, true, "v4-to-v4");
}

/// Returns the server's line for `known_hosts`.
fn known_hosts_line(site: &LoopbackSite, sproxy: &LoopbackSproxy) -> String {
    format!("[127.0.0.1]:{} {}", sproxy.address.port(), site.server_line())
}

/// A client that is refused while it runs also logs it, and ends.
#[test]
fn a_program_that_is_refused_leaves_nothing_behind() {
    let (site, sproxy) = served();
    let stranger = site.key("stranger");
    let command = connect(&site, sproxy.address, &stranger, &[]);
    let mut program = RunningProgram::start("connect", site.path(), command);
    assert_eq!(program.end().0, Some(3));
    assert_eq!(sproxy.program.count("tunnel made"), 0);
}
