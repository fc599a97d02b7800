//! Namespaces, and the form of messages.

use std::net::TcpListener;
use std::process::Command;

use etcp_testkit::loopback::LoopbackSite;
use etcp_testkit::loopback::program::{RunningProgram, etcp};
use etcp_testkit::skip;

#[test]
fn a_proxy_serves_in_a_process_namespace_without_the_leader_of_its_session() {
    if !skip::can_run("deaths::surroundings", &["unshare"]) {
        return;
    }
    let site = LoopbackSite::new();
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child"]).arg(etcp_testkit::pair::etcp());
    command.args(["sproxy", "--listen", "127.0.0.1:0", "--identity"]).arg(site.server_key());
    command.arg("--authorized-keys").arg(site.authorized_keys()).env("HOME", site.path());
    let mut program = RunningProgram::start("sproxy", site.path(), command);
    program.wait_for("listening on 127.0.0.1:");
    assert_eq!(program.count("panicked"), 0, "{}", program.log());
}

#[test]
fn a_message_of_the_main_process_is_an_object_if_lines_of_the_log_are() {
    let site = LoopbackSite::new();
    let held = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let listen = held.local_addr().expect("it listens").to_string();
    let args = ["sproxy", "--log-format", "json", "--listen", &listen, "--identity"];
    let mut command = etcp(site.path(), args);
    command.arg(site.server_key());
    let mut program = RunningProgram::start("sproxy", site.path(), command);
    let (code, line) = program.end();
    assert_eq!(code, Some(1), "{line}");
    let object: serde_json::Value = serde_json::from_str(&line).expect(&line);
    assert_eq!(object["level"], "ERROR", "{line}");
    let message = object["message"].as_str().expect(&line);
    assert!(message.starts_with(&format!("cannot listen on {listen}: ")), "{line}");
}
