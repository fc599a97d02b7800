//! A target that is not permitted: the session is reset, and the client's log says which rule to
//! change. (eternaltcp/src/policy/targets_of_keys.rs has a table of permitted targets.)

use std::net::SocketAddr;
use std::process::Stdio;

use etcp_testkit::loopback::program::wait;
use etcp_testkit::loopback::socket::{dial, is_over};
use etcp_testkit::loopback::{Cproxy, Echo, LoopbackSite, LoopbackSproxy, Steady, connect};
use etcp_testkit::wait::end_of;

/// Two echoes beside the default target: the server permits the first, the key the second.
struct TargetsFixture {
    site: LoopbackSite,
    permitted: SocketAddr,
    for_this_key: SocketAddr,
    sproxy: LoopbackSproxy,
}

fn setting(default_for_this_key: bool) -> TargetsFixture {
    let site = LoopbackSite::new();
    let [default, permitted, for_this_key] = [0; 3].map(|_| Echo::start().address);
    let key = &site.client.line;
    let mut options = format!("permitopen=\"{for_this_key}\"");
    if default_for_this_key {
        options = format!("{options},permitopen=\"{default}\"");
    }
    site.admit(&[&format!("{options} {key}")]);
    let args = ["--listen", "127.0.0.1:0", "--permit", &permitted.to_string()];
    let sproxy = LoopbackSproxy::with(&site, default, &args, None);
    TargetsFixture { site, permitted, for_this_key, sproxy }
}

#[test]
fn a_target_must_pass_the_servers_rules_and_the_keys_and_the_log_says_which_it_failed() {
    let TargetsFixture { site, permitted, for_this_key, sproxy } = setting(true);
    let forwards = [permitted, for_this_key].map(|target| format!("127.0.0.1:0:{target}"));
    let args = ["-L", &forwards[0], "-L", &forwards[1]];
    let mut cproxy = Cproxy::with(&site, sproxy.address, "cproxy", &site.client, &args).attached();
    // The default target passes both rules, and its session continues while others are rejected.
    let steady = Steady::start(cproxy.listen);
    let rules = [
        (
            permitted,
            "the key may not open this target (its line in authorized_keys has permitopen=",
        ),
        (
            for_this_key,
            "the server does not permit this target (its operator can add it with --permit)",
        ),
    ];
    for (number, (target, rule)) in rules.into_iter().enumerate() {
        let line = cproxy.program.wait_for_count("listening on", 2 + number);
        let listen = line.rsplit_once(' ').expect("an address").1.parse().expect("an address");
        let stream = dial(listen);
        wait("the session to be reset", || is_over(&stream));
        let line = cproxy.program.wait_for(rule);
        assert!(line.contains(&target.to_string()), "{line}");
        assert_eq!(cproxy.program.count(rule), 1, "one line");
    }
    steady.goes_on();
    steady.finish();
}

#[test]
fn the_default_target_is_not_exempt_from_the_keys_own_options() {
    let TargetsFixture { site, sproxy, .. } = setting(false);
    let mut cproxy = Cproxy::start(&site, sproxy.address, "cproxy").attached();
    let stream = dial(cproxy.listen);
    wait("the session to be reset", || is_over(&stream));
    cproxy.program.wait_for("the key may not open this target");
}

#[test]
fn connect_ends_with_3_and_one_line_when_its_target_is_not_permitted() {
    let TargetsFixture { site, permitted, for_this_key, sproxy } = setting(true);
    for target in [permitted, for_this_key] {
        let args = [target.to_string()];
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let mut command = connect(&site, sproxy.address, &site.client, &args);
        // The input stays open: the rejection still ends the command.
        let mut child = command.stdin(Stdio::piped()).spawn().expect("it starts");
        let _input = child.stdin.take();
        let output = end_of(child);
        let text = String::from_utf8(output.stderr).expect("it says text");
        assert_eq!((output.status.code(), text.lines().count()), (Some(3), 1), "{text}");
        assert!(text.contains("the target is not permitted: ") && text.contains(args[0]), "{text}");
    }
}
