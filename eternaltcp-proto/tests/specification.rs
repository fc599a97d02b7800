//! `docs/protocol.md` and the code match: the tables are those of the code, and the exchange is a
//! real one.

mod common;

use std::fmt::Write;

use common::TestPair;
use common::files::{snapshot, specification, workspace};
use eternaltcp_proto::{Cause, Closing, Kind, MAX_PAYLOAD, RefusalCode, Side, Transmit};

use Side::{Client, Server};

// -- Tables.

/// Returns the cells of each row of the first table behind a heading.
fn table(heading: &str) -> Vec<Vec<String>> {
    let text = specification();
    let (_, rest) = text.split_once(&format!("{heading}\n")).expect("the heading");
    let rows = rest.lines().skip_while(|line| !line.starts_with('|'));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

fn check_codes(heading: &str, text: impl Fn(u32) -> String) {
    let rows = table(heading);
    for (code, row) in (0..).zip(&rows) {
        assert_eq!(row[0], code.to_string(), "{heading}");
        assert_eq!(row[1], text(code), "{heading}");
    }
    let next = rows.len() as u32;
    assert_eq!(text(next), format!("code {next}"), "{heading} lacks one");
}

#[test]
fn the_documented_codes_match_the_code() {
    check_codes("### Causes of a reset", |code| Cause::from_code(code).to_string());
    check_codes("### Reasons of a close", |code| Closing::from_code(code).to_string());
    check_codes("### Codes of a refusal", |code| RefusalCode::from_code(code).to_string());
}

#[test]
fn the_documented_kinds_and_lengths_match_the_code() {
    let text = specification();
    let (_, rest) = text.split_once("| kind | name |").expect("the table of kinds");
    let rows: Vec<Vec<&str>> = rest
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    for (value, row) in (0..).zip(&rows) {
        let kind = Kind::from_wire(value).unwrap();
        assert_eq!((row[0], row[1]), (&value.to_string()[..], &format!("`{}`", name(kind))[..]));
        let (least, most) = kind.payload_range();
        let range = if least == most { format!("{least}") } else { format!("{least}–{most}") };
        assert_eq!(row[5], range, "{kind:?}");
        assert_eq!(row[3].starts_with("its number"), kind.is_numbered(), "{kind:?}");
    }
    assert_eq!(Kind::from_wire(rows.len() as u32), None);
    assert!(text.contains(&format!("{MAX_PAYLOAD} bytes and a header")));
}

fn name(kind: Kind) -> String {
    let mut name = String::new();
    for letter in format!("{kind:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
    }
    name
}

// -- The exchange.

fn exchange() -> TestPair {
    let mut pair = TestPair::new();
    let id = pair.open(Client);
    pair.write(Client, id, b"hello");
    pair.attach();
    pair.write(Server, id, b"world");
    pair.drive();
    pair.finish(Client, id);
    pair.drive();
    pair.finish(Server, id);
    pair.drive();
    pair.client.tunnel.close(eternaltcp_proto::Closing::Done);
    pair.drive();
    pair
}

/// Returns a packet as the document shows it.
fn render(side: Side, transmit: &Transmit) -> String {
    let header = &transmit.header;
    let who = if side == Client { "client" } else { "server" };
    let mut out = format!(
        "{who}: {}, session {}, seq {}, ack {}, length {}\n",
        name(header.kind),
        header.session,
        header.seq,
        header.ack,
        header.length
    );
    let (head, payload) = (header.encode(), &transmit.payload);
    for line in std::iter::once(&head[..]).chain(payload.chunks(32)) {
        out.push_str("   ");
        for word in line.chunks(4) {
            out.push(' ');
            word.iter().for_each(|byte| write!(out, "{byte:02x}").unwrap_or_default());
        }
        out.push('\n');
    }
    out
}

#[test]
fn the_documented_exchange_is_that_of_two_tunnels() {
    let pair = exchange();
    assert!(pair.server.tunnel.is_closed());
    let packets: Vec<String> =
        pair.log.iter().map(|(side, transmit)| render(*side, transmit)).collect();
    let text = specification();
    let (before, rest) = text.split_once("<!-- exchange -->\n```text\n").expect("its place");
    let (_, after) = rest.split_once("```\n").expect("its end");
    let whole = format!("{before}<!-- exchange -->\n```text\n{}```\n{after}", packets.join("\n"));
    snapshot(&workspace().join("docs/protocol.md"), &whole);
}
