//! Whole reports of a server that is well.

use etcp_testkit::names::{DnsAnswer, Resolver};
use etcp_testkit::pair::SERVER_NAME;
use etcp_testkit::{Launch, skip};
use serde_json::Value;

use super::clinic::Clinic;

#[test]
fn a_server_that_is_well_is_told_with_keys_speed_pause_and_paths() {
    if !skip::can_run("doctor::reports", &[]) {
        return;
    }
    let clinic = Clinic::empty().with_sproxy(&["--permit", "localhost:*"]);
    clinic.world.move_soft(2);
    let diagnosis = clinic.examine(&["localhost:6200"]);
    diagnosis.is_well();
    for (check, words) in [
        ("local", &["etcp 0.", "Linux", "congestion control"][..]),
        ("port", &["10.71.9.10:6200 accepts after"]),
        ("answer", &["is an sproxy with the key SHA256:"]),
        ("host key", &["SHA256:", "is known"]),
        ("own key", &["SHA256:", "client-key", "is admitted"]),
        ("server", &["protocol 1", "standby"]),
        ("target", &["localhost:6200 is connected"]),
        ("speed", &["Mbit/s in each direction", "a small message takes"]),
        ("round trip", &["ms"]),
        ("pause", &["without a connection after a cut"]),
        ("MTU", &["large packets pass both ways (path MTU 1500)"]),
        ("paths", &["10.71.2.2 via up2", "--spare could use", "via up1"]),
    ] {
        diagnosis.says("ok", check, words);
    }
}

#[test]
fn a_server_that_permits_nothing_is_measured_as_far_as_possible() {
    if !skip::can_run("doctor::reports", &[]) {
        return;
    }
    let clinic = Clinic::empty().with_sproxy(&["--permit-listen", "none"]);
    let diagnosis = clinic.examine(&[]);
    diagnosis.is_well().says("skip", "speed", &["it needs a server that permits localhost"]);
    diagnosis.says("ok", "pause", &["after a cut"]).says("ok", "round trip", &["ms"]);
    diagnosis.says("ok", "MTU", &["large packets to the server pass"]);
    let diagnosis = clinic.examine(&["localhost:6200", "--quick"]);
    diagnosis.fails("target", &["localhost:6200", "--permit of sproxy"]);
}

#[test]
fn a_report_has_a_form_for_programs_and_hides_names_if_asked() {
    if !skip::can_run("doctor::reports", &[]) {
        return;
    }
    let clinic = Clinic::empty().with_sproxy(&[]);
    let addresses = DnsAnswer::Addresses(vec![clinic.world.server_v4()]);
    let resolver = Resolver::start(&clinic.world.client, &clinic.folder, addresses);
    let examine =
        |options: &[&str]| clinic.run(resolver.serve_to(clinic.doctor(SERVER_NAME, options)));
    let unnamed = Launch::new("doctor", clinic.folder.join("etcp")).arg("doctor");
    let diagnosis = clinic.run(unnamed);
    assert!(diagnosis.error.contains("not provided: <HOST[:PORT]>"), "{diagnosis:#?}");
    let diagnosis = examine(&["--json", "--quick"]);
    assert_eq!(diagnosis.code, Some(0), "{diagnosis:#?}");
    let report: Value = serde_json::from_str(&diagnosis.report).expect("it is JSON");
    assert_eq!(report["version"], 1);
    assert_eq!((&report["ok"], &report["server"]), (&true.into(), &"server.test:6200".into()));
    let findings = report["findings"].as_array().expect("a list");
    let port = findings.iter().find(|finding| finding["check"] == "port").expect("it is there");
    assert_eq!(port["result"], "ok");
    assert!(port["values"]["connect_ms"].as_f64().is_some_and(|value| value > 0.0), "{port}");

    clinic.world.router.namespace.nft("add rule inet world blackhole oifname s1 drop");
    let diagnosis = examine(&["--hide-names"]);
    diagnosis.fails("port", &["ADDRESS-1:6200 does not answer"]);
    let all = format!("{}{}", diagnosis.report, diagnosis.error);
    assert!(all.contains("HOST-1 is ADDRESS-1") && all.contains("HOST-1:6200"), "{all}");
    assert!(!all.contains("server.test") && !all.contains("10.71."), "{all}");
}

#[test]
fn the_flags_may_come_from_a_configuration_file_of_cproxy() {
    if !skip::can_run("doctor::reports", &[]) {
        return;
    }
    let clinic = Clinic::empty().with_sproxy(&[]);
    let path = |name: &str| clinic.folder.join(name).display().to_string();
    let lines = format!(
        "server = \"10.71.9.10\"\nidentity = \"{}\"\nknown-hosts = \"{}\"\nno-ssh-config = true\n\
         local-forward = \"5432:localhost:5432\"\n",
        path("client-key"),
        path("known_hosts")
    );
    clinic.write("cproxy.toml", &lines);
    let doctor = Launch::new("doctor", clinic.folder.join("etcp"))
        .args(["doctor", "--quick", "--config", &path("cproxy.toml")])
        .env("HOME", clinic.folder.path())
        .env("RUST_LOG", "");
    clinic.run(doctor).is_well().says("ok", "own key", &["client-key", "is admitted"]);
    clinic.write("cproxy.toml", "serve = \"10.71.9.10\"\n");
    let doctor = Launch::new("doctor", clinic.folder.join("etcp"))
        .args(["doctor", "--config", &path("cproxy.toml")])
        .env("RUST_LOG", "");
    let diagnosis = clinic.run(doctor);
    assert_eq!(diagnosis.code, Some(2), "{diagnosis:#?}");
    assert!(diagnosis.error.contains("there is no key serve"), "{diagnosis:#?}");
}

/// Writes a configuration file with three servers, of which only the first serves the user. Returns
/// its path.
fn write_three_servers(clinic: &Clinic) -> String {
    let path = |name: &str| clinic.folder.join(name).display().to_string();
    let lines = format!(
        "known-hosts = \"{}\"\nno-ssh-config = true\nidentity = \"{}\"\n\
         [server.home]\nserver = \"10.71.9.10\"\nlisten = \"localhost:5300\"\n\
         [server.office]\nserver = \"10.71.9.10:6300\"\n\
         [server.keyless]\nserver = \"10.71.9.10\"\nidentity = \"nowhere\"\n",
        path("known_hosts"),
        path("client-key"),
    );
    clinic.write("cproxy.toml", &lines);
    path("cproxy.toml")
}

#[test]
fn each_server_of_a_file_is_examined_or_the_one_that_is_named() {
    if !skip::can_run("doctor::reports", &[]) {
        return;
    }
    let clinic = Clinic::empty().with_sproxy(&[]);
    let config = write_three_servers(&clinic);
    let doctor = |options: &[&str]| {
        let doctor = Launch::new("doctor", clinic.folder.join("etcp"))
            .args(["doctor", "--quick", "--config", &config])
            .args(options)
            .env("HOME", clinic.folder.path())
            .env("RUST_LOG", "");
        clinic.run(doctor)
    };
    let all = doctor(&[]);
    all.fails("port", &["10.71.9.10:6300 refuses"]).says("ok", "own key", &["is admitted"]);
    assert!(all.report.starts_with("etcp doctor home (10.71.9.10:6200)\nok "), "{all:#?}");
    for line in
        ["All is well.\n\netcp doctor keyless (", "\netcp doctor office (10.71.9.10:6300)\n"]
    {
        assert!(all.report.contains(line), "{all:#?}");
    }
    assert!(all.error.contains(" with 2 of 3 servers: keyless ("), "{all:#?}");
    assert!(all.error.contains("; office (10.71.9.10:6300) (port"), "{all:#?}");

    let one = doctor(&["--server", "home"]);
    one.is_well();
    assert!(!one.report.contains("office"), "{one:#?}");
    let hidden = doctor(&["--server", "home", "--server", "office", "--json", "--hide-names"]);
    let report: Value = serde_json::from_str(&hidden.report).expect("it is JSON");
    let servers = report["servers"].as_array().expect("a list");
    let shown: Vec<_> = servers.iter().map(|it| (&it["name"], &it["server"], &it["ok"])).collect();
    let [first, second] = ["SERVER-1", "SERVER-2"].map(Value::from);
    let [well, ill] = [true, false].map(Value::from);
    let [near, far] = ["ADDRESS-1:6200", "ADDRESS-1:6300"].map(Value::from);
    assert_eq!(shown, [(&first, &near, &well), (&second, &far, &ill)], "{report}");
    assert!(report["ok"] == false && report["version"] == 1, "{report}");

    let unknown = doctor(&["--server", "work"]);
    assert_eq!(unknown.code, Some(2), "{unknown:#?}");
    assert!(
        unknown.error.contains("has no server work: it has home, keyless, office"),
        "{unknown:#?}"
    );
    clinic.write("cproxy.toml", "server = \"10.71.9.10\"\n");
    let nameless = doctor(&["--server", "home"]);
    assert!(nameless.error.contains("has no tables of servers"), "{nameless:#?}");
}
