//! Keys and servers of ssh's configuration.

use std::path::{Path, PathBuf};
use std::process::Command;

use etcp_testkit::loopback::agent::{ssh_keygen, succeed};
use etcp_testkit::loopback::{ATTACHED, LoopbackSite, RunningProgram, etcp};

use super::{complaint, served, text, to_server};

#[test]
fn ssh_s_configuration_says_which_host_key_and_known_hosts_are_meant() {
    let (site, sproxy) = served();
    let key = site.path().join("from_config");
    site.admit(&[&ssh_keygen(&key, "ed25519", "")]);
    let (config, known) = (site.path().join("config"), site.path().join("other hosts"));
    let port = sproxy.address.port();
    std::fs::write(&known, format!("[home]:{port} {}\n", site.server_line())).expect("ours");
    let said = format!(
        "Host work\n HostName 127.0.0.1\n Port 22\n User nobody\n HostKeyAlias home\n\
         IdentityFile {0}/none\n IdentityFile %d/from_config\n IdentitiesOnly yes\n\
         UserKnownHostsFile \"{1}\" {0}/missing\n GlobalKnownHostsFile none\n",
        site.path().display(),
        known.display(),
    );
    std::fs::write(&config, &said).expect("it is ours");
    let server = format!("work:{port}");
    let client = |args: &[&str]| {
        let mut command = etcp(site.path(), ["cproxy", "--listen", "127.0.0.1:0"]);
        command.args(["--server", &server]).arg("-F").arg(&config).args(args);
        command
    };
    RunningProgram::start("configured", site.path(), client(&[])).wait_for(ATTACHED);
    // A flag has priority, and without the configuration the alias is an ordinary name.
    let mut other =
        RunningProgram::start("other", site.path(), client(&["-i", &text(&site.client.path)]));
    assert_eq!(other.end().0, Some(3));
    std::fs::write(&known, "").expect("it is ours");
    for (strict, expected) in [("yes", "give --accept-new"), ("accept-new", ATTACHED)] {
        let said = format!("{said} StrictHostKeyChecking {strict}\n HashKnownHosts yes\n");
        std::fs::write(&config, said).expect("it is ours");
        RunningProgram::start(strict, site.path(), client(&[])).wait_for(expected);
    }
    let mut find = Command::new("ssh-keygen");
    find.args(["-F", &format!("[home]:{port}"), "-f"]).arg(&known);
    let found = String::from_utf8(succeed(&mut find).stdout).expect("text");
    assert!(found.contains(&site.server_line()) && found.contains("|1|"), "{found}");
    let text = std::fs::read_to_string(&known).expect("it is ours");
    assert!(!text.contains("home") && !text.contains("127.0.0.1"), "{text}");
}

/// Returns ssh's expansion of the tokens in `text` for this host: it expands those of the control
/// path, which may be the same.
fn as_ssh_has_it(config: &Path, host: &str, text: &str) -> PathBuf {
    let mut ssh = Command::new("ssh");
    ssh.args(["-G", "-T", "-F"]).arg(config).arg(format!("-oControlPath=\"{text}\""));
    let said = String::from_utf8(succeed(ssh.args(["--", host])).stdout).expect("text");
    let line = said.lines().find_map(|line| line.strip_prefix("controlpath "));
    PathBuf::from(line.expect("ssh tells the control path"))
}

#[test]
fn tokens_and_variables_in_the_name_of_a_key_mean_what_they_do_to_ssh() {
    let (site, sproxy) = served();
    let config = site.path().join("config");
    let folder = text(&site.path().join("my keys"));
    std::fs::create_dir(&folder).expect("it is new");
    let names = [
        "100%%",
        "%C",
        "%h",
        "%i",
        "%k",
        "%L",
        "%l",
        "%n",
        "%p",
        "%r",
        "%u",
        "${ETCP_TEST}",
        "$x-%h%n",
    ];
    for (number, name) in names.into_iter().enumerate() {
        let start =
            "Host work\n HostName 127.0.0.1\n Port 2222\n User nobody\n HostKeyAlias home\n";
        // Only the key of each is admitted, so that no other can stand in for it.
        let written = format!("{folder}/{number} {name}");
        let said = format!("{start} IdentityFile \"{written}\"\n GlobalKnownHostsFile none\n");
        std::fs::write(&config, said).expect("it is ours");
        let known = format!("[home]:{} {}", sproxy.address.port(), site.server_line());
        std::fs::write(site.known_hosts(), known).expect("it is ours");
        // There is no other key: the file that ssh would use is the only one.
        let plain = written.replace("${ETCP_TEST}", "value of it");
        let key = as_ssh_has_it(&config, "work", &plain);
        site.admit(&[&ssh_keygen(&key, "ed25519", "")]);
        let server = format!("work:{}", sproxy.address.port());
        let mut command = etcp(site.path(), ["cproxy", "--listen", "127.0.0.1:0", "-s", &server]);
        command.arg("-F").arg(&config).arg("--known-hosts").arg(site.known_hosts());
        command.env("ETCP_TEST", "value of it").env_remove("USER").env_remove("LOGNAME");
        RunningProgram::start(&format!("token{number}"), site.path(), command).wait_for(ATTACHED);
    }
}

#[test]
fn an_unexpandable_key_name_is_reported_and_the_others_are_tried() {
    let (site, sproxy) = served();
    let config = site.path().join("config");
    let said = format!(
        "Host *\n IdentityFile ~/%Z\n IdentityFile ${{ETCP_NO_SUCH}}/x\n IdentityFile ~etcp-none/x\n\
         IdentityFile \"{}\"\n IdentityAgent $ETCP_NO_SUCH\n",
        text(&site.client.path)
    );
    std::fs::write(&config, said).expect("it is ours");
    let mut args = to_server(&site, &sproxy);
    args.extend(["-F".into(), text(&config)]);
    let mut client = RunningProgram::start("odd", site.path(), etcp(site.path(), &args));
    client.wait_for(ATTACHED);
    for part in [
        "IdentityFile ~/%Z is ignored: %Z is not a token",
        "ignored: ${ETCP_NO_SUCH} is not set",
        "ignored: ~etcp-none: there is no such user",
        "IdentityAgent $ETCP_NO_SUCH is ignored: ETCP_NO_SUCH is not set",
    ] {
        assert_eq!(client.count(part), 1, "{part}: {}", client.log());
    }
}

/// Returns the configuration that has etcp use the home folder of the site, and `more`.
fn configured(site: &LoopbackSite, more: &str) -> String {
    let config = site.path().join("config");
    std::fs::write(&config, format!("Host *\n{more}\n")).expect("it is ours");
    text(&config)
}

#[test]
fn no_file_is_tried_if_the_configuration_says_none() {
    let (site, sproxy) = served();
    let default = site.path().join(".ssh/id_ed25519");
    std::fs::create_dir_all(default.parent().expect("a folder")).expect("it is ours");
    std::fs::copy(&site.client.path, &default).expect("it is ours");
    let (server, known) = (sproxy.address.to_string(), text(&site.known_hosts()));
    let client = |config: &str| {
        let config = configured(&site, config);
        let args = ["connect", "-s", &server, "--known-hosts", &known, "-F", &config];
        complaint(&site, &args)
    };
    let (code, line) = client("IdentityFile none");
    assert!(code == Some(1) && line.contains("no key that can be used"), "{line}");
    let (_, line) = client(&format!("IdentityFile {}", text(&default)));
    assert!(!line.contains("no key"), "{line}");
}

#[test]
fn a_home_folder_is_found_in_paths_that_no_shell_has_expanded() {
    let (site, sproxy) = served();
    let server = sproxy.address.to_string();
    let within = |path: &Path| {
        let path = path.strip_prefix(site.path()).expect("it is in the folder");
        format!("~/{}", text(path))
    };
    let (key, known) = (within(&site.client.path), within(&site.known_hosts()));
    let mut command = etcp(site.path(), ["cproxy", "--listen", "127.0.0.1:0", "-s", &server]);
    command.args([format!("--identity={key}"), format!("--known-hosts={known}")]);
    command.args(["--no-ssh-config", "--control=~/control.sock"]);
    RunningProgram::start("flags", site.path(), command).wait_for(ATTACHED);
    // ssh -G reports GlobalKnownHostsFile as it is written, and ssh expands the home folder.
    let more = format!("IdentityFile {key}\nUserKnownHostsFile none\nGlobalKnownHostsFile {known}");
    let config = configured(&site, &more);
    let mut command = etcp(site.path(), ["cproxy", "--listen", "127.0.0.1:0", "-s", &server]);
    command.args(["-F", &config]);
    RunningProgram::start("global", site.path(), command).wait_for(ATTACHED);
}

#[test]
fn a_configuration_that_cannot_be_read_is_an_error_of_one_line() {
    let (site, sproxy) = served();
    let (missing, broken) = (site.path().join("missing"), site.path().join("broken"));
    std::fs::write(&broken, "Hosst x\n").expect("it is ours");
    let odd = site.path().join("odd");
    std::fs::write(&odd, "Host *\n HostName a_b..c\n").expect("it is ours");
    for (file, expected) in [
        (&missing, "ssh -G failed: Can't open user config file"),
        (&broken, "Bad configuration option: hosst"),
        (&odd, "ssh's configuration calls 127.0.0.1 \"a_b..c\""),
    ] {
        let mut args = to_server(&site, &sproxy);
        args.extend(["-i".into(), text(&site.client.path), "-F".into(), text(file)]);
        let (code, line) = complaint(&site, &args);
        assert_eq!(code, Some(1), "{line}");
        assert!(line.contains(expected), "{line}");
    }
}

#[test]
fn unsupported_options_of_ssh_are_reported_once() {
    let (site, sproxy) = served();
    let config = site.path().join("config");
    let said = format!(
        "Host *\n KnownHostsCommand /bin/false %H\n BindAddress some-name\n\
         UserKnownHostsFile {}\n IdentityFile {}\n",
        text(&site.known_hosts()),
        text(&site.client.path),
    );
    std::fs::write(&config, said).expect("it is ours");
    let start = |name: &str, args: &[&str]| {
        let server = sproxy.address.to_string();
        let mut command = etcp(site.path(), ["cproxy", "--listen", "127.0.0.1:0", "--name", name]);
        command.args(["--server", &server]).arg("-F").arg(&config).args(args);
        let mut program = RunningProgram::start(name, site.path(), command);
        program.wait_for(ATTACHED);
        let count = |text: &str| program.count(text);
        (
            count("KnownHostsCommand of ssh's configuration is not run"),
            count("BindAddress some-name"),
        )
    };
    assert_eq!(start("said", &[]), (1, 1));
    // These flags take precedence over the configuration.
    let known = text(&site.known_hosts());
    assert_eq!(start("flags", &["--known-hosts", &known, "-b", "127.0.0.1"]), (0, 0));
    let mut args = to_server(&site, &sproxy);
    args.extend(["-b".to_owned(), "fe80::1".to_owned()]);
    let (code, line) = complaint(&site, &args);
    assert_eq!(code, Some(2), "{line}");
    assert!(line.contains("say which, as fe80::1%eth0"), "{line}");
}

#[test]
fn no_server_is_trusted_if_its_key_is_or_may_be_revoked() {
    let (site, sproxy) = served();
    let (config, list) = (site.path().join("config"), site.path().join("revoked"));
    std::fs::write(&config, "Host *\n RevokedHostKeys %d/revoked\n").expect("it is ours");
    let mut args = to_server(&site, &sproxy);
    args.extend(["-F".into(), text(&config), "-i".into(), text(&site.client.path)]);
    let refused = |expected: &str| {
        let (code, line) = complaint(&site, &args);
        assert_eq!(code, Some(3), "{line}");
        assert!(line.contains(expected), "{line}");
    };
    refused("cannot be read");
    let other = site.path().join("other");
    let line = ssh_keygen(&other, "ed25519", "");
    std::fs::write(&list, format!("{line}\n{}\n", site.server_line())).expect("it is ours");
    refused("is revoked");
    let mut krl = Command::new("ssh-keygen");
    krl.args(["-q", "-k", "-f"]).arg(&list).arg(format!("{}.pub", other.display()));
    succeed(&mut krl);
    refused("(KRL), which is not supported: list the public keys, one a line");
    std::fs::write(&list, line).expect("it is ours");
    RunningProgram::start("listed", site.path(), etcp(site.path(), &args)).wait_for(ATTACHED);
}
