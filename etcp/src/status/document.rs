//! The output of `etcp status --json`.

use eternaltcp::control::{ProcessStatus, VERSION};
use serde::Serialize;
use serde_json::{Value, json};

use super::rates::{ByteRate, Rates};
use super::totals::Totals;
use crate::exit::ExitError;
use crate::logging::escape_json;

#[derive(Serialize)]
struct Document<T> {
    version: u32,
    processes: T,
    totals: Totals,
}

/// Returns the document, on one line.
pub(super) fn json(
    processes: &[ProcessStatus],
    rates: Option<&Rates>,
) -> Result<String, ExitError> {
    let totals = Totals::of(processes, rates);
    let line = match rates {
        None => serde_json::to_string(&Document { version: VERSION, processes, totals }),
        Some(rates) => {
            let processes = with_rates(processes, rates).map_err(ExitError::failed)?;
            serde_json::to_string(&Document { version: VERSION, processes, totals })
        }
    };
    let line = line.map_err(ExitError::failed)?;
    Ok(format!("{}\n", escape_json(&line)))
}

/// Adds the rates to tunnels and sessions.
fn with_rates(processes: &[ProcessStatus], rates: &Rates) -> serde_json::Result<Value> {
    let mut all = serde_json::to_value(processes)?;
    for (at, process) in processes.iter().enumerate() {
        for (number, tunnel) in process.tunnels.iter().enumerate() {
            let shown = &mut all[at]["tunnels"][number];
            add(shown, rates.of_tunnel(process, tunnel));
            for (place, session) in tunnel.sessions.iter().enumerate() {
                let rate = rates.of_session(process, tunnel, session);
                add(&mut shown["sessions"][place], rate);
            }
        }
    }
    Ok(all)
}

fn add(shown: &mut Value, rate: Option<ByteRate>) {
    if let Some(ByteRate { sent, received }) = rate {
        shown["sent_bytes_per_s"] = json!(sent);
        shown["received_bytes_per_s"] = json!(received);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::table::samples::{process, tunnel};
    use super::*;

    #[test]
    fn the_document_has_sums_and_with_a_second_answer_rates() {
        let processes = [process(vec![tunnel()])];
        let parse = |text: String| serde_json::from_str::<Value>(&text).unwrap();
        let document = parse(json(&processes, None).unwrap());
        assert_eq!(document["totals"]["sessions"], 2);
        assert!(document["processes"][0]["tunnels"][0].get("sent_bytes_per_s").is_none());
        let (mut rates, start) = (Rates::default(), Instant::now());
        rates.take(&processes, start);
        rates.take(&processes, start + Duration::from_secs(1));
        let document = parse(json(&processes, Some(&rates)).unwrap());
        let tunnel = &document["processes"][0]["tunnels"][0];
        assert_eq!(
            (&tunnel["sent_bytes_per_s"], &tunnel["tunnel"]),
            (&0.into(), &"33d69d2a".into())
        );
        assert_eq!(tunnel["sessions"][1]["received_bytes_per_s"], 0);
        assert_eq!(document["totals"]["received_bytes_per_s"], 0);
    }
}
