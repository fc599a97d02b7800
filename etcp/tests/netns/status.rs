//! `etcp status` of a live pair, before and after the client has moved.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use etcp_testkit::checked::Rate;
use etcp_testkit::pair::DEFAULT_LISTEN;
use etcp_testkit::process::RunAs;
use etcp_testkit::streams::Streams;
use etcp_testkit::wait::{PATIENCE, output, until_some};
use etcp_testkit::{IpFamily, ProxyPair, Sproxy, TestFolder, TestWorld, WorldSite, skip};

/// Runs etcp as an ordinary user whose home is the test's folder.
fn etcp(folder: &TestFolder, user: RunAs, args: &[&str]) -> Output {
    let (user, group) = user.ids();
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={user}")).arg(format!("--regid={group}"));
    command.args(["--clear-groups", "--"]).arg(folder.join("etcp")).args(args);
    command.env("HOME", folder.path()).env_remove("XDG_RUNTIME_DIR").env_remove("XDG_STATE_HOME");
    output(command.stdin(Stdio::null()).stdout(Stdio::piped()))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it says text")
}

/// Returns the status of both proxies: the client's first.
pub(crate) fn statuses(folder: &TestFolder) -> [Value; 2] {
    let output = etcp(folder, RunAs::Nobody, &["status", "--json"]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let document: Value = serde_json::from_str(&said).expect("it is JSON");
    assert_eq!(document["version"], 1);
    let processes = document["processes"].as_array().expect("a list").clone();
    let roles: Vec<_> = processes.iter().map(|process| process["role"].clone()).collect();
    assert_eq!(roles, ["cproxy", "sproxy"]);
    processes.try_into().expect("two")
}

fn table(folder: &TestFolder) -> String {
    let output = etcp(folder, RunAs::Nobody, &["status"]);
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

#[test]
fn status_tells_of_path_sessions_and_the_last_loss_across_an_address_change() {
    if !skip::can_run("netns::status (address change)", &[]) {
        return;
    }
    // A busy machine may doubt the first carrier.
    let (mut site, streams) = until_some("a first carrier that lives", PATIENCE, || {
        let site = WorldSite::new();
        let [application, target] = site.session();
        let from = application.local_addr().expect("it is connected").to_string();
        let streams = Streams::start(application, target, Rate::GENTLE);
        streams.go_on("the start");
        let ([client, server], shown) = (statuses(&site.folder), table(&site.folder));
        if site.pair.attached_again() > 0 {
            streams.finish();
            return None;
        }
        check_attached(&client, &server, &from);
        assert!(shown.contains(" via up1, round trip ") && shown.contains("SESSION"), "{shown}");
        assert!(!shown.contains("last loss"), "{shown}");
        Some((site, streams))
    });

    let before = site.pair.attached_again();
    site.world.use_uplink(site.world.other_uplink());
    site.pair.wait_attached_again(before);
    streams.go_on("the address change");

    let [client, server] = statuses(&site.folder);
    let why = check_moved(&client, &server);
    let shown = table(&site.folder);
    for part in ["via up2", "last loss", &why, "back after"] {
        assert!(shown.contains(part), "{part:?} is not in\n{shown}");
    }
    streams.finish();
}

/// Checks the status of both ends before the client has moved, with a session from `from`.
fn check_attached(client: &Value, server: &Value, from: &str) {
    assert_eq!(client["listen"][0], DEFAULT_LISTEN);
    let (here, there) = (&client["tunnels"][0], &server["tunnels"][0]);
    assert_eq!(here["tunnel"], there["tunnel"], "they speak of one tunnel");
    assert_eq!((&here["state"], &there["state"]), (&"attached".into(), &"attached".into()));
    let carrier = &here["carrier"];
    let local = carrier["local"].as_str().expect("an address");
    assert!(local.starts_with("10.71.1.2:"), "{carrier}");
    assert_eq!(
        (&carrier["interface"], &carrier["peer"]),
        (&"up1".into(), &"10.71.9.10:6200".into())
    );
    assert!(carrier["round_trip_us"].as_u64().is_some_and(|it| it > 0), "{carrier}");
    assert_eq!(here["server"]["address"], "10.71.9.10:6200");
    assert!(
        there["client"]["key"].as_str().is_some_and(|key| key.starts_with("SHA256:")),
        "{there}"
    );
    assert_eq!(there["client"]["name"], DEFAULT_LISTEN);
    assert!(here["last_loss"].is_null() && here["carriers"] == 1, "{here}");
    let session = &here["sessions"][0];
    assert_eq!(
        (&session["from"], &session["target"]),
        (&from.into(), &"the default target".into())
    );
    assert_eq!(session["stage"], "open");
    for bytes in ["sent_bytes", "received_bytes"] {
        assert!(session[bytes].as_u64().is_some_and(|it| it >= 8 * 1024), "{session}");
    }
    assert_eq!(there["sessions"][0]["session"], session["session"]);
    assert!(there["sessions"][0]["from"].is_null(), "the server does not know the application");
}

/// Checks the status of both ends after the client has moved. Returns the reason of the loss.
fn check_moved(client: &Value, server: &Value) -> String {
    let (here, there) = (&client["tunnels"][0], &server["tunnels"][0]);
    assert_eq!(here["carrier"]["interface"], "up2");
    assert!(here["carriers"].as_u64().is_some_and(|it| it >= 2), "{here}");
    let loss = &here["last_loss"];
    let why = loss["why"].as_str().expect("it says why");
    assert!(why.contains("up1") || why.contains("silent"), "{loss}");
    assert!(loss["outage_ms"].is_u64() && loss["kind"].is_string(), "{loss}");
    assert!(there["last_loss"]["why"].is_string(), "{there}");
    assert_eq!(there["client"]["from"], "10.71.9.2");
    why.to_owned()
}

#[test]
fn a_client_that_waits_says_for_whom_and_why() {
    if !skip::can_run("netns::status (waiting)", &[]) {
        return;
    }
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    let sproxy = Sproxy::start(&world, &folder, IpFamily::V4, "127.0.0.1:9", &[]);
    let pair = ProxyPair::start(&world, &folder, sproxy, &[]);
    world.remove_uplink(world.uplink());
    etcp_testkit::wait::until("cproxy to be without a carrier", PATIENCE, || {
        statuses(&folder)[0]["tunnels"][0]["state"] == "detached"
    });
    let [client, _] = statuses(&folder);
    let tunnel = &client["tunnels"][0];
    assert!(tunnel["carrier"].is_null(), "{tunnel}");
    assert!(tunnel["why"].as_str().is_some_and(|why| !why.is_empty()), "{tunnel}");
    assert!(tunnel["last_loss"]["outage_ms"].is_null(), "it is not over: {tunnel}");
    let shown = table(&folder);
    let waits = "to 10.71.9.10:6200: waiting for the server for ";
    assert!(shown.contains(waits) && shown.contains("not back yet"), "{shown}");
    drop(pair);
}

#[test]
fn the_spare_is_shown_with_its_path_and_its_round_trip() {
    if !skip::can_run("netns::status (spare)", &[]) {
        return;
    }
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    world.move_soft(2);
    let sproxy = Sproxy::start(&world, &folder, IpFamily::V4, "127.0.0.1:9", &[]);
    let mut pair =
        ProxyPair::start_with(&world, &folder, sproxy, |launch| launch.args(["--spare"]));
    pair.cproxy.wait_for("a spare carrier stands by over", PATIENCE);
    let [client, server] = statuses(&folder);
    let (here, there) = (&client["tunnels"][0], &server["tunnels"][0]);
    let (carrier, spare) = (&here["carrier"], &here["standby"]);
    assert!(spare["interface"].is_string(), "{here}");
    assert_ne!(spare["interface"], carrier["interface"]);
    assert_eq!(spare["peer"], carrier["peer"]);
    assert!(spare["round_trip_us"].as_u64().is_some_and(|it| it > 0), "{spare}");
    assert!(spare["silent_ms"].is_u64(), "{spare}");
    assert!(there["standby"].is_null(), "{there}");
    let shown = table(&folder);
    let line = shown.lines().find(|line| line.trim_start().starts_with("spare "));
    assert!(line.is_some_and(|line| line.contains("round trip ")), "{shown}");
}

#[test]
fn the_control_socket_is_its_users_alone() {
    use std::os::unix::fs::PermissionsExt;
    if !skip::can_run("netns::status (another user)", &[]) {
        return;
    }
    let (world, folder) = (TestWorld::new(), TestFolder::new());
    let sproxy = Sproxy::start(&world, &folder, IpFamily::V4, "127.0.0.1:9", &[]);
    let socket = folder.join("c.sock");
    let path = socket.to_str().expect("test paths are text");
    let mut pair =
        ProxyPair::start_with(&world, &folder, sproxy, |launch| launch.args(["--control", path]));
    let mode = |path: &Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&socket), 0o600);
    assert_eq!(mode(&folder.join(".local/state/eternaltcp/control")), 0o700, "sproxy's");

    let stranger = RunAs::Id(4321, 4321);
    let refused = etcp(&folder, stranger, &["status", "--control", path]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("permission denied"), "{refused:?}");
    // The socket stays closed to others even if its file has been opened to all.
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o666)).expect("we are root");
    let refused = etcp(&folder, stranger, &["status", "--control", path]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    pair.cproxy.wait_for("opened by another user", PATIENCE);
    for user in [RunAs::Nobody, RunAs::Root] {
        let told = etcp(&folder, user, &["status", "--control", path]);
        assert!(told.status.success(), "{told:?}");
    }
}
