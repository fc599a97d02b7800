//! Every text of an address, over random input: no parser panics, and a formatted value parses to
//! the same value.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use eternaltcp::address::{AddressError, Forward, Listen, ServerAddress, Target};
use eternaltcp::policy::Permit;
use proptest::prelude::*;

/// Parses `text` as a `T`; if that succeeds, formats it and parses it again.
fn round_trip<T>(text: &str)
where
    T: FromStr<Err = AddressError> + Display + Debug + PartialEq,
{
    if let Ok(value) = text.parse::<T>() {
        let written = value.to_string();
        assert_eq!(written.parse().as_ref(), Ok(&value), "{text:?} is written {written:?}");
    }
}

fn every_parser(text: &str) {
    round_trip::<Target>(text);
    round_trip::<ServerAddress>(text);
    round_trip::<Listen>(text);
    round_trip::<Forward>(text);
    round_trip::<Permit>(text);
    let _ = Listen::from_bind_spec(text);
}

/// Returns pieces of addresses, many of whose sequences are addresses.
fn pieces() -> impl Strategy<Value = String> {
    let fixed = [
        "[",
        "]",
        ":",
        "/",
        "*",
        "?",
        "-",
        "%",
        ".",
        "unix:",
        "/run/x",
        "/*",
        "..",
        "::",
        "::1",
        "[::1]",
        "2001:db8::",
        "::ffff:192.0.2.1",
        "192.0.2.1",
        "10.0.0.0/8",
        "/32",
        "localhost",
        "Db.Example.org.",
        "*.example.org",
        "eth0",
        "0",
        "1",
        "22",
        "65535",
        "65536",
        "é",
        "\0",
        " ",
    ];
    prop::collection::vec(prop::sample::select(fixed.to_vec()), 0..8)
        .prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn random_text_is_read_or_refused(text in any::<String>()) {
        every_parser(&text);
    }

    #[test]
    fn the_written_form_reads_the_same(text in pieces()) {
        every_parser(&text);
    }
}
