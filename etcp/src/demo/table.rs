//! The table at the end of the demo.

use eternaltcp::report::duration;

use super::death::DemoDeath;
use super::outcome::DemoOutcome;
use super::talk::{ByteCounts, Sum};

/// Hexadecimal digits of a digest that are shown; all of them are compared.
const DIGITS: usize = 16;

/// Returns the table's lines.
pub(super) fn table(outcome: &DemoOutcome) -> Vec<String> {
    let (application, target) = (outcome.application.as_ref(), outcome.target.as_ref());
    let sent = [application.map(|a| &a.sent), target.map(|a| &a.sent)];
    let received = [target.map(|a| &a.received), application.map(|a| &a.received)];
    let pause = |account: Option<&ByteCounts>| account.map(|a| duration(a.longest_pause));
    let bytes = |sum: Option<&Sum>| sum.map(|sum| grouped(sum.bytes));
    let digest = |sum: Option<&Sum>| sum.map(|sum| sum.digest[..DIGITS].to_owned());
    let replayed = outcome.replayed.map(|bytes| bytes.map(grouped));
    let mut lines = vec![
        row("", ["to the target", "to the application"].map(|text| Some(text.to_owned()))),
        row("bytes sent", sent.map(bytes)),
        row("bytes received", received.map(bytes)),
        row("bytes replayed", replayed),
        row("longest pause", [pause(target), pause(application)]),
        row("SHA-256 sent", sent.map(digest)),
        row("SHA-256 received", received.map(digest)),
        String::new(),
        count("carriers made", outcome.carriers as usize),
        count("carriers that died", outcome.deaths.len()),
    ];
    let deaths = DemoDeath::ALL.iter().filter(|death| outcome.count(**death) > 0);
    lines.extend(deaths.map(|death| count(&format!("  {death}"), outcome.count(*death))));
    if outcome.unplanned() > 0 {
        lines.push(count("and unasked", outcome.unplanned()));
    }
    lines
}

/// Formats a name and a value for each direction, if it is known.
fn row(name: &str, values: [Option<String>; 2]) -> String {
    let [up, down] = values.map(|value| value.unwrap_or_else(|| "-".to_owned()));
    format!("  {name:<26}{up:>18}{down:>22}")
}

fn count(name: &str, count: usize) -> String {
    format!("  {name:<26}{count:>18}")
}

/// Formats digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_from_the_right() {
        let numbers = [0, 999, 1000, 1_234_567];
        assert_eq!(numbers.map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn unknown_values_are_dashes_and_every_line_fits_a_terminal() {
        let outcome = DemoOutcome { deaths: DemoDeath::ALL.to_vec(), ..DemoOutcome::default() };
        let lines = table(&outcome);
        assert!(lines.iter().all(|line| line.len() < 80), "{lines:#?}");
        assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), ["bytes", "sent", "-", "-"]);
        assert!(lines.iter().any(|line| line.contains("cut inside a TLS record")));
    }
}
