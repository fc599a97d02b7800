//! `etcp tunnels kill`: the operator of a server ends tunnels of clients.

use std::io::ErrorKind;

use etcp_testkit::loopback::operator::{OperatorOutput, control, operate_alone, status};
use etcp_testkit::loopback::program::wait;
use etcp_testkit::loopback::{Cproxy, LoopbackSite, Steady};

use super::records::RecordFixture;

/// Returns the name of a client's tunnel.
#[track_caller]
fn tunnel_of(site: &LoopbackSite, client: &Cproxy) -> String {
    let status = status(site, "cproxy", &client.program);
    status["tunnels"][0]["tunnel"].as_str().unwrap_or_else(|| panic!("{status}")).to_owned()
}

fn kill(all: &RecordFixture, args: &[&str]) -> OperatorOutput {
    operate_alone(&all.site, &[&["tunnels", "kill"], args].concat())
}

#[test]
fn the_tunnel_that_is_named_ends_and_its_client_makes_a_new_one() {
    let all = RecordFixture::new(&[]);
    let mut client = all.client(&["--name", "one"]);
    let other = all.client(&["--name", "two"]);
    let name = tunnel_of(&all.site, &client);
    let mut ending = Steady::start(client.listen);
    let steady = Steady::start(other.listen);

    let wrong = kill(&all, &["00000000"]);
    assert_eq!((wrong.code, wrong.out.as_str()), (Some(1), ""), "{wrong:?}");
    assert!(wrong.err.contains("no proxy has a tunnel 00000000: see etcp status"), "{wrong:?}");
    let own = control(&all.site, "cproxy", &client.program);
    let refused = kill(&all, &[&name, "--control", &own]);
    assert!(refused.code == Some(1) && refused.err.contains("client"), "{refused:?}");
    let server = control(&all.site, "sproxy", &all.sproxy.program);
    let unknown = kill(&all, &["00000000", "--control", &server]);
    assert!(unknown.code == Some(1) && unknown.err.contains("no tunnel 00000000"), "{unknown:?}");
    ending.goes_on();
    // Each tunnel has a session of this number, and both ends of each are on this machine.
    let sessions = status(&all.site, "cproxy", &client.program);
    let number = sessions["tunnels"][0]["sessions"][0]["session"].to_string();
    let which = operate_alone(&all.site, &["sessions", "kill", &number]);
    assert!(which.code == Some(1) && which.err.lines().count() == 1, "{which:?}");
    assert!(which.err.contains(&format!("2 sessions have the number {number}: ")), "{which:?}");
    for tunnel in [&name, &tunnel_of(&all.site, &other)] {
        let listed = format!("{tunnel}/{number} to the default target (");
        assert!(which.err.contains(&listed), "{listed} is not in {which:?}");
    }
    ending.goes_on();

    let said = kill(&all, &[&name]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.out, format!("tunnel {name} is ended; 1 session is reset\n"));
    assert_eq!(ending.ended(), Some(ErrorKind::ConnectionReset));
    // A shell completes the tunnels and keys that are there.
    let complete = |kind| operate_alone(&all.site, &["complete-values", kind]).out;
    assert!(complete("keys").lines().any(|line| line == "ann@laptop"), "{}", complete("keys"));
    let other = tunnel_of(&all.site, &other);
    assert!(complete("tunnels").lines().any(|line| line == other), "{}", complete("tunnels"));
    let ended = all.record("tunnel-ended", 1);
    assert_eq!((&ended["tunnel"], &ended["reason"]), (&name.as_str().into(), &"killed".into()));
    assert_eq!((&ended["is_by_client"], &ended["key_name"]), (&false.into(), &"ann@laptop".into()));
    assert_eq!(all.record("session-ended", 1)["end"], "tunnel-over");
    client.program.wait_for_count("INFO attached", 2);
    assert_ne!(tunnel_of(&all.site, &client), name);
    Steady::start(client.listen).finish();
    steady.finish();
    assert_eq!(all.count("tunnel-ended"), 1, "no other tunnel has ended");
}

#[test]
fn all_tunnels_of_a_person_end_and_those_of_others_stay() {
    let all = RecordFixture::new(&[]);
    let key = all.site.key("bob");
    let lines = [format!("{} ann@laptop", all.site.client.line), format!("{} bob", key.line)];
    all.site.admit(&lines.each_ref().map(String::as_str));
    let of_ann = [all.client(&["--name", "one"]), all.client(&["--name", "two"])];
    let of_bob = Cproxy::with(&all.site, all.sproxy.address, "of-bob", &key, &[]).attached();
    let mut ending: Vec<_> = of_ann.iter().map(|client| Steady::start(client.listen)).collect();
    let steady = Steady::start(of_bob.listen);

    // A part of a name is nobody.
    let nobody = kill(&all, &["--key", "ann"]);
    assert!(nobody.code == Some(1) && nobody.out.is_empty(), "{nobody:?}");
    assert!(nobody.err.contains("no tunnel has a key with the whole name ann"), "{nobody:?}");
    assert_eq!(kill(&all, &[]).code, Some(2));
    assert_eq!(kill(&all, &["33d69d2a", "--key", "ann"]).code, Some(2));
    let said = kill(&all, &["--key", "ann@laptop"]);
    assert_eq!((said.code, said.out.lines().count()), (Some(0), 2), "{said:?}");
    for steady in &mut ending {
        assert_eq!(steady.ended(), Some(ErrorKind::ConnectionReset));
    }
    all.record("tunnel-ended", 2);
    let fingerprint = key.identity.public_key().fingerprint();
    steady.goes_on();
    steady.finish();
    let said = kill(&all, &["--key", &fingerprint]);
    assert_eq!((said.code, said.out.lines().count()), (Some(0), 1), "{said:?}");
    assert_eq!(all.record("tunnel-ended", 3)["key"], fingerprint.as_str());
    for client in of_ann.iter().chain([&of_bob]) {
        wait("a new tunnel", || client.program.count("INFO attached") >= 2);
    }
}
