//! `etcp demo --server`: the demo over a real network, with an sproxy that runs there, or one that
//! ssh starts.

use std::process::Stdio;

use etcp_testkit::ssh_site::{PROGRAMS, SshSite};
use etcp_testkit::wait::PATIENCE;
use etcp_testkit::{IpFamily, Launch, Sproxy, TestFolder, TestWorld, skip};

const PORT: u16 = 2222;

/// The last line of a demo that has proved itself.
const PROVED: &str = "OK: 14 carriers died in 5 ways; every byte arrived, once and in order";

#[test]
fn the_demo_proves_itself_with_an_sproxy_of_another_machine_and_says_what_it_needs() {
    if !skip::can_run("netns::demo", &[]) {
        return;
    }
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    let permit = ["localhost:*"];
    let sproxy = Sproxy::start(&world, &folder, IpFamily::V4, "127.0.0.1:9", &permit);
    let command = sproxy.client_command("demo");
    let demo = || {
        let launch = Launch::new("demo", &command[0]).args(&command[1..]);
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let launch = launch.env("HOME", folder.path()).env("RUST_LOG", "");
        let process = launch.start_with(&world.client, &folder, Stdio::null(), Some(writer.into()));
        (process, reader)
    };
    let (mut process, reader) = demo();
    let shown = std::io::read_to_string(reader).expect("it is text");
    assert_eq!(process.wait(PATIENCE).code(), Some(0), "{shown}\n{}", process.log());
    assert!(shown.lines().last().is_some_and(|line| line.starts_with(PROVED)), "{shown}");
    assert!(shown.contains("sproxy is at 10.71.9.10:6200"), "{shown}");
    drop(sproxy);

    let folder = TestFolder::new();
    let sproxy = Sproxy::start(&world, &folder, IpFamily::V4, "127.0.0.1:9", &[]);
    let command = sproxy.client_command("demo");
    let mut process = Launch::new("demo", &command[0])
        .args(&command[1..])
        .env("HOME", folder.path())
        .start(&world.client, &folder);
    assert_eq!(process.wait(PATIENCE).code(), Some(1), "{}", process.log());
    assert!(process.log().contains("needs --permit 'localhost:*' there"), "{}", process.log());
}

#[test]
fn the_demo_starts_an_sproxy_by_ssh_where_none_runs_and_leaves_nothing() {
    if !skip::can_run("netns::demo", &PROGRAMS) {
        return;
    }
    let site = SshSite::new(PORT);
    let demo = site.client(Launch::new("demo", site.program()));
    let demo = demo.args(["demo", "--server", "server", "-F"]).arg(site.folder.join("ssh_config"));
    let ran = site.finish("demo", demo);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let last = ran.output.lines().last().unwrap_or_default();
    assert!(last.starts_with(PROVED), "{ran:?}");
    assert!(ran.log.contains("starting one by ssh"), "{ran:?}");
    site.wait_until_gone();
}
