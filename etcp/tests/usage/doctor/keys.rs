//! The keys of both sides.

use etcp_testkit::keys::{generate, public_half};
use etcp_testkit::skip;

use super::clinic::Clinic;

#[test]
fn a_server_whose_key_is_unknown_or_has_changed_is_told_with_the_key_and_stored_if_asked() {
    if !skip::can_run("doctor::keys", &[]) {
        return;
    }
    let clinic = Clinic::empty().with_sproxy(&[]);
    let other = public_half(&generate(&clinic.folder, "other-key"));
    clinic.write("known_hosts", &format!("[10.71.9.10]:6200 {other}"));
    let diagnosis = clinic.examine(&[]);
    diagnosis.fails("host key", &["HAS CHANGED", "known_hosts:1", "somebody may be in between"]);
    diagnosis.says("skip", "own key", &["not shown to a server that is not trusted"]);
    diagnosis.says("ok", "answer", &["is an sproxy with the key SHA256:"]);

    clinic.write("known_hosts", "");
    let diagnosis = clinic.examine(&[]);
    diagnosis.fails("host key", &["the server's key SHA256:", "is not in", "--accept-new"]);
    assert!(!diagnosis.report.contains("AAAA"), "no key but as fingerprint: {diagnosis:#?}");
    let known = || std::fs::read_to_string(clinic.folder.join("known_hosts")).expect("it is text");
    assert_eq!(known(), "", "nothing was stored");

    clinic.examine(&["--quick", "--accept-new"]).is_well().says(
        "note",
        "host key",
        &["was not known", "stored"],
    );
    assert!(known().starts_with("[10.71.9.10]:6200 ssh-ed25519 "), "{}", known());
    clinic.examine(&["--quick"]).is_well().says("ok", "host key", &["SHA256:", "is known"]);
}

#[test]
fn a_key_that_is_not_admitted_and_a_missing_one_are_told() {
    if !skip::can_run("doctor::keys", &[]) {
        return;
    }
    let clinic = Clinic::empty();
    clinic.admit_another_key();
    let clinic = clinic.with_sproxy(&[]);
    let diagnosis = clinic.examine(&[]);
    diagnosis.fails("own key", &["does not know the key SHA256:", "client-key", "authorized_keys"]);
    diagnosis.says("ok", "host key", &["known"]).says("ok", "MTU", &["to the server pass"]);
    assert!(!diagnosis.report.contains("AAAA"), "no key but as fingerprint: {diagnosis:#?}");
    // The flag is given twice: of these two, one cannot be read.
    let missing = clinic.folder.join("no-key");
    let missing = missing.to_str().expect("it is text");
    clinic.examine(&["-i", missing]).fails("own key", &["you have none", "no-key", "etcp keygen"]);
}
