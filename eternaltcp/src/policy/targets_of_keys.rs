//! `--permit` and the options of a key together: one table.

use std::net::SocketAddr;
use std::time::SystemTime;

use eternaltcp_tls::PublicKey;

use super::targets::TargetRefusal;
use super::{Admission, AuthorizedKeys, TargetDecision, TargetPolicy, judge};
use crate::address::Target;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDJI+fNTS8Op9glNAAIWDRJ98X2R6P2eM1fi3TEfnVuN";

/// The decision about a target, with the addresses of its name if it has one.
#[derive(Debug, PartialEq, Eq)]
enum PolicyOutcome {
    /// May be dialled at every address of its name.
    Open,
    /// May be dialled only at these addresses.
    At(&'static [&'static str]),
    /// The server does not permit it.
    Server,
    /// The key does not permit it.
    Key,
}
use PolicyOutcome::{At, Key, Open, Server};

/// Default target, `--permit`s, options of the key, target, addresses of its name, outcome.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
    PolicyOutcome,
);

const TELNET: &str = "127.0.0.1:23";
const ANY_PORT: &str = r#"permitopen="db:*""#;

#[rustfmt::skip]
const TABLE: &[Row] = &[
    // The default target is permitted, and nothing else.
    (TELNET, "", "", "127.0.0.1:23", &[], Open),
    (TELNET, "", "", "127.0.0.1:24", &[], Server),
    (TELNET, "", "", "127.0.0.2:23", &[], Server),
    (TELNET, "", "", "[::ffff:127.0.0.1]:23", &[], Open),
    (TELNET, "", "", "[::1]:23", &[], Server),
    (TELNET, "", "", "localhost:23", &["127.0.0.1:23", "[::1]:23"], At(&["127.0.0.1:23"])),
    (TELNET, "", "", "LOCALHOST.:23", &["127.0.0.1:23"], At(&["127.0.0.1:23"])),
    (TELNET, "", "", "evil.example.org:23", &["192.0.2.1:23"], Server),
    ("db:22", "", "", "DB.:22", &[], Open),
    ("db:22", "", "", "127.0.0.1:22", &[], Server),
    ("unix:/run/x", "", "", "unix:/run/x", &[], Open),
    ("unix:/run/x", "", "", "unix:/run/y", &[], Server),
    // Names.
    (TELNET, "db:5432", "", "db:5432", &[], Open),
    (TELNET, "db:5432", "", "db:5433", &[], Server),
    (TELNET, "db:5432", "", "db.example.org:5432", &[], Server),
    (TELNET, "db:*", "", "db:1", &[], Open),
    (TELNET, "db:1000-1002", "", "db:1002", &[], Open),
    (TELNET, "db:1000-1002", "", "db:1003", &[], Server),
    (TELNET, "*.example.org:22", "", "Db.Example.Org.:22", &[], Open),
    (TELNET, "*.example.org:22", "", "example.org:22", &[], Server),
    (TELNET, "*.example.org:22", "", "db.example.org.evil.com:22", &[], Server),
    (TELNET, "d*:22", "", "[d::1]:22", &[], Server),
    (TELNET, "d*:22", "", "[d::1%eth0]:22", &[], Server),
    // Addresses are checked as they are dialled.
    (TELNET, "10.0.0.0/8:22", "", "10.1.2.3:22", &[], Open),
    (TELNET, "10.0.0.0/8:22", "", "[::ffff:10.1.2.3]:22", &[], Open),
    (TELNET, "10.0.0.0/8:22", "", "11.0.0.1:22", &[], Server),
    (TELNET, "10.0.0.0/8:22", "", "db:22", &["10.0.0.1:22", "192.0.2.1:22"], At(&["10.0.0.1:22"])),
    (TELNET, "10.0.0.0/8:22", "", "db:22", &["[::ffff:10.0.0.1]:22"], At(&["10.0.0.1:22"])),
    (TELNET, "10.0.0.0/8:22", "", "db:22", &["192.0.2.1:22"], Server),
    (TELNET, "10.0.0.0/8:22", "", "db:22", &[], Server),
    (TELNET, "10.0.0.0/8:22", "", "db:23", &["10.0.0.1:23"], Server),
    (TELNET, "[2001:db8::/32]:22", "", "[2001:db8:0::1]:22", &[], Open),
    (TELNET, "[fe80::/10]:22", "", "[fe80::1%1]:22", &["[fe80::1%1]:22"], At(&["[fe80::1%1]:22"])),
    (TELNET, "[::/0]:22", "", "10.0.0.1:22", &[], Server),
    (TELNET, "10.0.0.0/8:22 db:22", "", "db:22", &["192.0.2.1:22"], Open),
    // Everything, and Unix sockets.
    (TELNET, "*:*", "", "anything:1", &[], Open),
    (TELNET, "*:*", "", "[2001:db8::1]:1", &[], Open),
    (TELNET, "*:22", "", "anything:23", &["192.0.2.1:23"], Server),
    (TELNET, "*:*", "", "unix:/run/x", &[], Server),
    (TELNET, "unix:/run/x/*", "", "unix:/run/x/a", &[], Open),
    (TELNET, "unix:/run/x/*", "", "unix:/run/x/a/b", &[], Server),
    (TELNET, "unix:/run/x/*", "", "unix:/run/xa", &[], Server),
    // The key's own options: the host as the client wrote it, and nothing is exempt.
    (TELNET, "", ANY_PORT, "127.0.0.1:23", &[], Key),
    (TELNET, "", r#"permitopen="127.0.0.1:23""#, "[::ffff:127.0.0.1]:23", &[], Open),
    (TELNET, "", r#"permitopen="127.0.0.1:23""#, "localhost:23", &["127.0.0.1:23"], Key),
    (TELNET, "", r#"permitopen="none""#, "127.0.0.1:23", &[], Key),
    (TELNET, "*:*", ANY_PORT, "DB.:1", &[], Open),
    (TELNET, "*:*", ANY_PORT, "db2:1", &[], Key),
    (TELNET, "*:*", r#"permitopen="*:22""#, "db:22", &[], Open),
    (TELNET, "*:*", r#"permitopen="*:22""#, "db:23", &[], Key),
    (TELNET, "*:*", r#"permitopen="a:1",permitopen="b:2""#, "b:2", &[], Open),
    (TELNET, "*:*", r#"permitopen="a:1",permitopen="b:2""#, "b:1", &[], Key),
    (TELNET, "*:*", r#"permitopen="[2001:DB8::1]:1""#, "[2001:db8:0:0::1]:1", &[], Open),
    (TELNET, "db:22", r#"permitopen="*:*""#, "db:23", &[], Server),
    (TELNET, "10.0.0.0/8:*", r#"permitopen="db:22""#, "db:22", &["10.0.0.1:22"], At(&["10.0.0.1:22"])),
    (TELNET, "unix:/run/x", r#"permitopen="*:22""#, "unix:/run/x", &[], Key),
    (TELNET, "unix:/run/x", r#"permitopen="*:*""#, "unix:/run/x", &[], Open),
    // The key's patterns and ranges, and networks by the addresses that are dialled.
    (TELNET, "*:*", r#"permitopen="*.example.org:22""#, "Db.example.org:22", &[], Open),
    (TELNET, "*:*", r#"permitopen="*.example.org:22""#, "example.org:22", &[], Key),
    (TELNET, "*:*", r#"permitopen="db:8000-8099""#, "db:8099", &[], Open),
    (TELNET, "*:*", r#"permitopen="db:8000-8099""#, "db:8100", &[], Key),
    (TELNET, "*:*", r#"permitopen="10.0.0.0/8:22""#, "10.1.2.3:22", &[], Open),
    (TELNET, "*:*", r#"permitopen="10.0.0.0/8:22""#, "11.1.2.3:22", &[], Key),
    (TELNET, "*:*", r#"permitopen="10.0.0.0/8:22""#, "db:22", &["10.0.0.1:22", "192.0.2.1:22"], At(&["10.0.0.1:22"])),
    (TELNET, "*:*", r#"permitopen="10.0.0.0/8:22""#, "db:22", &["192.0.2.1:22"], Key),
    (TELNET, "10.0.0.0/16:*", r#"permitopen="10.0.0.0/8:22""#, "db:22", &["10.0.0.1:22", "10.9.0.1:22"], At(&["10.0.0.1:22"])),
    (TELNET, "10.0.0.0/16:*", r#"permitopen="10.0.0.0/8:22""#, "db:22", &["10.9.0.1:22"], Server),
    (TELNET, "*:*", r#"restrict,port-forwarding,permitopen="db:22""#, "db:22", &[], Open),
];

#[test]
fn a_target_must_pass_the_permits_and_the_key() {
    for row @ (default, permits, options, target, addresses, expected) in TABLE {
        let permits = permits.split_ascii_whitespace().map(|permit| permit.parse().unwrap());
        let policy = TargetPolicy::new(&default.parse().unwrap(), permits);
        let outcome = decide(&policy, &admit(options), &target.parse().unwrap(), addresses);
        assert_eq!(outcome, *format!("{expected:?}"), "{row:?}");
    }
}

fn admit(options: &str) -> Admission {
    let keys = AuthorizedKeys::parse(&format!("{options} {KEY}"));
    let key = PublicKey::from_openssh(KEY).unwrap();
    judge(&keys, &key, [192, 0, 2, 1].into(), SystemTime::UNIX_EPOCH).unwrap()
}

/// Decides as a server does, in the terms of [`PolicyOutcome`].
fn decide(policy: &TargetPolicy, key: &Admission, target: &Target, addresses: &[&str]) -> String {
    let addresses: Vec<SocketAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
    let refusal = match policy.decide_name(key, target) {
        TargetDecision::Allowed => return format!("{Open:?}"),
        TargetDecision::Denied(refusal) => refusal,
        TargetDecision::NeedsAddress => match policy.decide_addresses(key, target, &addresses) {
            Ok(dialled) => {
                let dialled: Vec<_> = dialled.iter().map(ToString::to_string).collect();
                return format!("At({dialled:?})");
            }
            Err(refusal) => refusal,
        },
    };
    match refusal {
        TargetRefusal::NotPermitted | TargetRefusal::ResolverNotPermitted => format!("{Server:?}"),
        TargetRefusal::NotForThisKey => format!("{Key:?}"),
    }
}

#[test]
fn a_name_that_no_rule_could_allow_is_not_looked_up() {
    let policy = |permits: &str| {
        let permits = permits.split_ascii_whitespace().map(|permit| permit.parse().unwrap());
        TargetPolicy::new(&TELNET.parse().unwrap(), permits)
    };
    for (permits, options, target, expected) in [
        ("", "", "db.example.org:23", TargetRefusal::NotPermitted),
        ("", "", "localhost.example.org:23", TargetRefusal::NotPermitted),
        ("10.0.0.0/8:22", "", "db.example.org:23", TargetRefusal::NotPermitted),
        ("10.0.0.0/8:22", r#"permitopen="192.0.2.0/24:22""#, "db:22", TargetRefusal::NotForThisKey),
        ("10.0.0.0/8:22", r#"permitopen="10.0.0.0/8:23""#, "db:22", TargetRefusal::NotForThisKey),
        (
            "[2001:db8::/32]:22",
            r#"permitopen="0.0.0.0/0:22""#,
            "db:22",
            TargetRefusal::NotForThisKey,
        ),
    ] {
        let verdict = policy(permits).decide_name(&admit(options), &target.parse().unwrap());
        assert_eq!(verdict, TargetDecision::Denied(expected), "{permits:?} {options:?} {target}");
    }
    let key = admit(r#"permitopen="10.1.0.0/16:22""#);
    let verdict = policy("10.0.0.0/8:22").decide_name(&key, &"db:22".parse().unwrap());
    assert_eq!(verdict, TargetDecision::NeedsAddress);
}

#[test]
fn the_resolver_must_be_permitted_as_such_or_as_a_target_and_by_the_key() {
    let only = r#"permitopen="127.0.0.53:53""#;
    for (permits, as_such, options, expected) in [
        ("", false, "", Err(TargetRefusal::ResolverNotPermitted)),
        ("db:*", false, "", Err(TargetRefusal::ResolverNotPermitted)),
        ("127.0.0.0/8:54", false, "", Err(TargetRefusal::ResolverNotPermitted)),
        ("", true, "", Ok(())),
        ("*:*", false, "", Ok(())),
        ("*:53", false, "", Ok(())),
        ("127.0.0.53:53", false, "", Ok(())),
        ("127.0.0.0/8:53", false, "", Ok(())),
        ("", true, ANY_PORT, Err(TargetRefusal::NotForThisKey)),
        ("*:*", true, r#"permitopen="none""#, Err(TargetRefusal::NotForThisKey)),
        ("", true, only, Ok(())),
        ("", false, only, Err(TargetRefusal::ResolverNotPermitted)),
    ] {
        let parsed = permits.split_ascii_whitespace().map(|permit| permit.parse().unwrap());
        let policy =
            TargetPolicy::new(&TELNET.parse().unwrap(), parsed).permitting_resolver(as_such);
        let decided = policy.decide_resolver(&admit(options), "127.0.0.53:53".parse().unwrap());
        assert_eq!(decided, expected, "{permits} {as_such} {options}");
    }
}
