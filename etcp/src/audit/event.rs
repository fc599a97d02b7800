//! The events of the process itself, and the form of a line.

use std::fmt::Write as _;
use std::time::SystemTime;

use eternaltcp::audit::AUDIT_VERSION;
use eternaltcp::control::{ReloadAnswer, ReloadedKey};
use serde::Serialize;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::holder::WorkerStart;
use crate::logging::escape_json;

/// The cause of a restart after which the same program continues.
const FAILED_UPGRADE: &str = "an upgrade that failed";

/// An event of the process that serves.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum ProcessEvent<'a> {
    /// The program serves.
    Started { version: &'static str, pid: u32, listen: &'a [String] },
    /// A worker died or was ended for an upgrade that failed, and this one continues.
    Restarted { version: &'static str, pid: u32, listen: &'a [String], cause: String },
    /// Another program, or the same one again, has taken over from the previous one.
    Upgraded { version: &'static str, pid: u32, listen: &'a [String] },
    /// The configuration and the keys were read again, or were refused.
    Reloaded { is_applied: bool, changes: &'a [ReloadedKey], faults: &'a [String] },
    /// The program ends in order.
    Stopped { pid: u32 },
    /// Records were dropped here.
    RecordsLost { count: u64 },
}

impl<'a> ProcessEvent<'a> {
    /// Returns the event of a process that begins to serve at these addresses.
    pub(crate) fn begin(start: WorkerStart, listen: &'a [String]) -> Self {
        let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
        match start {
            WorkerStart::First => Self::Started { version, pid, listen },
            WorkerStart::AfterDeath(crash) => {
                Self::Restarted { version, pid, listen, cause: crash.cause.to_string() }
            }
            WorkerStart::Again => {
                Self::Restarted { version, pid, listen, cause: FAILED_UPGRADE.to_owned() }
            }
            WorkerStart::AfterUpgrade => Self::Upgraded { version, pid, listen },
        }
    }

    /// Returns the event of a reload with this result.
    pub(crate) fn reloaded(answer: &'a ReloadAnswer) -> Self {
        let ReloadAnswer { faults, changes, .. } = answer;
        Self::Reloaded { is_applied: faults.is_empty(), changes, faults }
    }

    /// Returns the end of this process.
    pub(crate) fn stopped() -> Self {
        Self::Stopped { pid: std::process::id() }
    }
}

/// The fields that precede those of an event.
#[derive(Serialize)]
struct RecordLine<'a, T> {
    v: u32,
    time: &'a str,
    #[serde(flatten)]
    event: &'a T,
}

/// Returns the line of an event that happens now; `None` if it has no form in JSON.
pub(super) fn line(event: &impl Serialize) -> Option<Vec<u8>> {
    let mut time = String::new();
    // A record is useful even without a time.
    let _ = tracing_subscriber::fmt::time::SystemTime.format_time(&mut Writer::new(&mut time));
    if time.is_empty() {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let _ = write!(time, "@{}", now.as_secs());
    }
    let record = RecordLine { v: AUDIT_VERSION, time: &time, event };
    let text = serde_json::to_string(&record).ok()?;
    let mut line = escape_json(&text).into_owned().into_bytes();
    line.push(b'\n');
    Some(line)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_line_is_one_object_with_the_version_and_the_time() {
        let faults = ["a\nb\u{202e}".to_owned()];
        let event = ProcessEvent::Reloaded { is_applied: false, changes: &[], faults: &faults };
        let line = String::from_utf8(line(&event).unwrap()).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.is_ascii(), "{line:?}");
        let object: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&object["v"], &object["event"]), (&1.into(), &"reloaded".into()));
        assert_eq!(object["faults"][0], faults[0].as_str());
        assert!(object["time"].as_str().unwrap().ends_with('Z'), "{line}");
    }
}
