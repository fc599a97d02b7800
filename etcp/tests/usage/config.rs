//! Configuration files: proxies that are started with them, and `etcp check`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use etcp_testkit::loopback::operator::operate;
use etcp_testkit::loopback::program::{RunningProgram, etcp};
use etcp_testkit::loopback::{Cproxy, Echo, LoopbackSite, LoopbackSproxy, Steady};

/// Writes a configuration file into the folder of the site.
fn write(site: &LoopbackSite, name: &str, text: &str) -> PathBuf {
    let path = site.path().join(name);
    fs::write(&path, text).expect("the folder is ours");
    path
}

fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are text")
}

/// Runs `etcp` with these arguments to its end, and returns its exit code and what it prints,
/// without the name of the site's folder.
fn ends(site: &LoopbackSite, args: &[&str]) -> (Option<i32>, String) {
    let said = operate(site, args);
    let folder = format!("{}/", site.path().display());
    (said.code, (said.out + &said.err).replace(&folder, ""))
}

#[test]
fn proxies_serve_with_the_flags_of_their_files() {
    let site = LoopbackSite::new();
    let echo = Echo::start();
    let server = format!(
        "listen = '127.0.0.1:0'\ntarget = '{}'\nidentity = '{}'\nauthorized-keys = '{}'\n",
        echo.address,
        site.server_key().display(),
        site.authorized_keys().display()
    );
    let server = write(&site, "sproxy.toml", &server);
    let command = etcp(site.path(), ["sproxy", "--config", text(&server)]);
    let mut sproxy = RunningProgram::start("sproxy", site.path(), command);
    let line = sproxy.wait_for("listening on ");
    let address = line.rsplit(' ').next().expect("an address");
    let client = format!(
        "server = ['{address}']\nlisten = '127.0.0.1:0'\nidentity = '{}'\nknown-hosts = '{}'\n\
         no-ssh-config = true\nname = 'of-file'\n",
        site.client.path.display(),
        site.known_hosts().display()
    );
    let client = write(&site, "cproxy.toml", &client);
    let command = etcp(site.path(), ["cproxy", "--config", text(&client)]);
    let mut cproxy = RunningProgram::start("cproxy", site.path(), command);
    let line = cproxy.wait_for("listening on ");
    let listen = line.rsplit(' ').next().expect("an address").parse().expect("an address");
    Steady::start(listen).finish();
}

#[test]
fn a_worker_that_follows_a_dead_one_has_its_settings_though_the_file_is_broken() {
    let site = LoopbackSite::new();
    let echo = Echo::start();
    let file = format!("listen = '127.0.0.1:0'\ntarget = '{}'\n", echo.address);
    let file = write(&site, "sproxy.toml", &file);
    let mut sproxy = LoopbackSproxy::plain(&site, &["--config", text(&file)]);
    let cproxy = Cproxy::start(&site, sproxy.address, "cproxy").attached();
    let steady = Steady::start(cproxy.listen);
    fs::write(&file, "target = ").expect("the folder is ours");
    sproxy.program.kill_worker();
    sproxy.program.wait_for("another one continues");
    steady.goes_on();
    steady.finish();
    Steady::start(cproxy.listen).finish();
}

#[test]
fn a_proxy_does_not_start_with_a_wrong_file_and_tells_all_faults() {
    let site = LoopbackSite::new();
    let file = write(&site, "s.toml", "dead_after = '5s'\ntarget = 'a:1\nmax-sessions = 'many'\n");
    let args = ["sproxy", "--config", text(&file)];
    let (code, said) = ends(&site, &args);
    assert_eq!(code, Some(2), "{said}");
    let lines: Vec<_> = said.lines().collect();
    let starts = [
        "etcp: s.toml:1:1: there is no key dead_after: did you mean dead-after?",
        "etcp: s.toml:2:",
        "etcp: s.toml:3:16: invalid value \"many\" for max-sessions: expected a number from 1 to ",
    ];
    assert_eq!(lines.len(), starts.len(), "{said}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{said}");
    }
    // A fault that shows when the flags are put together.
    write(&site, "s.toml", "\ndead-after = '1s'\nheartbeat = '1s'\n");
    let (code, said) = ends(&site, &args);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.starts_with("etcp: s.toml:2:1: --dead-after 1s leaves no time"), "{said}");
    let (code, said) = ends(&site, &["sproxy", "--config", text(&site.path().join("none"))]);
    assert_eq!((code, said.starts_with("etcp: none: there is no such file: ")), (Some(2), true));
}

#[test]
fn a_check_reads_what_the_file_names_and_says_what_it_amounts_to() {
    let site = LoopbackSite::new();
    let (own, keys) = (site.server_key(), site.authorized_keys());
    site.admit(&[&site.client.line, "command=\"ls\" not-a-key"]);
    let server = format!(
        "permit = 'db:5432'\nidentity = '{}'\nauthorized-keys = '{}'\naudit-log = '{}'\n",
        own.display(),
        keys.display(),
        site.path().join("records").display()
    );
    let file = write(&site, "s.toml", &server);
    let check = || ends(&site, &["check", text(&file)]);
    let (code, said) = check();
    assert_eq!(code, Some(0), "{said}");
    for part in [
        "s.toml is right. With it, etcp sproxy:\n",
        "permits db:5432\n",
        "admits 1 key of authorized_keys\n",
        "etcp: warning: authorized_keys:2: ",
        &site.server_fingerprint(),
        "records what it does in records\n",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!site.path().join("records").exists(), "a check creates no file");
    // sproxy would trust neither of these files, nor start.
    fs::set_permissions(&keys, Permissions::from_mode(0o666)).expect("it is ours");
    fs::set_permissions(&own, Permissions::from_mode(0o644)).expect("it is ours");
    let (code, said) = check();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("etcp: s.toml:3:1: others may write to authorized_keys"), "{said}");
    assert!(said.contains("etcp: s.toml:2:1: "), "{said}");
    write(&site, "s.toml", "authorized-keys = 'nowhere'\nidentity = 'new'\n");
    let (code, said) = check();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("etcp: s.toml:1:1: nowhere does not exist: "), "{said}");
    assert!(!site.path().join("new").exists(), "a check creates no key");
    site.admit(&[&site.client.line]);
    let start = format!("authorized-keys = '{}'\n", keys.display());
    fs::set_permissions(&keys, Permissions::from_mode(0o600)).expect("it is ours");
    for (lines, fault) in [
        (
            "audit-log = 'none/records'\n",
            "etcp: s.toml:2:1: --audit-log: cannot write none/records: ",
        ),
        ("congestion = 'junk'\n", "etcp: s.toml:2:1: --congestion: "),
        ("permit-listen = ['none', 'localhost:1']\n", "etcp: s.toml:2:1: --permit-listen none"),
        ("[group.'']\nkeys = 'x'\n", "etcp: s.toml:2:8: the group \"\" has no usable name"),
    ] {
        write(&site, "s.toml", &(start.clone() + lines));
        let (code, said) = check();
        assert!(code == Some(1) && said.starts_with(fault), "{lines}: {said}");
    }
}

#[test]
fn a_check_of_a_clients_file_names_its_forwards_and_faults() {
    let site = LoopbackSite::new();
    let client = format!(
        "server = 'example.org'\nlocal-forward = '5432:localhost:5432'\nremote-forward = '*:80:localhost:3000'\n\
         dynamic-forward = 1080\nidentity = '{}'\nknown-hosts = '{}'\n",
        site.client.path.display(),
        site.known_hosts().display()
    );
    let file = write(&site, "c.toml", &client);
    let check = || ends(&site, &["check", text(&file)]);
    let (code, said) = check();
    assert_eq!(code, Some(0), "{said}");
    for part in [
        "With it, etcp cproxy:\n  connects to example.org",
        "listens on localhost:5432, and forwards to localhost:5432\n",
        "listens on localhost:1080, and serves SOCKS and HTTP CONNECT\n",
        "lets the server listen on *:80, and forwards to localhost:3000\n",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    for (text, fault) in [
        (
            "server = 'a'\npermit = 'b:1'\n",
            "c.toml:2:1: permit is a key of etcp sproxy, not of etcp cproxy",
        ),
        ("server = 'a'\nidentity = 'none'\n", "c.toml:2:1: "),
        ("server = 'a'\nproxy = 'ftp://b:1'\n", "c.toml:2:1: --proxy: "),
        ("server = 'a'\nremote-forward = ['80:b:1', '80:c:2']\n", "c.toml:2:1: -R is given twice"),
        ("carriers = 2\nspare = true\n", "c.toml: cproxy needs a server"),
        ("server = 'a'\ncongestion = 'junk'\n", "c.toml:2:1: --congestion: "),
        ("server = 'a'\ncontrol = ''\n", "c.toml:2:11: invalid value \"\" for control: "),
        (
            "server = 'a'\nlisten = ['*:7000', 'localhost:7000']\n",
            "c.toml:2:1: --listen localhost:7000: *:7000 is listened on already",
        ),
        (
            "server = 'a'\nlisten = '127.0.0.1:7000'\ndynamic-forward = '127.0.0.1:7000'\n",
            "c.toml:3:1: --dynamic-forward 127.0.0.1:7000: ",
        ),
    ] {
        write(&site, "c.toml", text);
        let (code, said) = check();
        assert!(code == Some(1) && said.starts_with(&format!("etcp: {fault}")), "{text}: {said}");
    }
}
