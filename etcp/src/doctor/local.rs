//! The properties of this machine: versions, congestion control, MPTCP.

use std::fs;
use std::process::{Command, Stdio};

use eternaltcp::clean;
use eternaltcp::process::as_started;

use super::report::DoctorReport;
use crate::version;

/// The maximum length of what ssh says about its version.
const MAX_TEXT: usize = 200;

/// Reports the versions and settings of this machine.
pub(super) fn examine(report: &mut DoctorReport) {
    let system = rustix::system::uname();
    let [name, release] = [system.sysname(), system.release()].map(|text| text.to_string_lossy());
    let ssh = ssh_version().unwrap_or_else(|| "no ssh".to_owned());
    let mptcp = if eternaltcp_sys::mptcp_available() { "with" } else { "without" };
    let congestion = match congestion() {
        Some(congestion) => format!("; congestion control {congestion}"),
        None => String::new(),
    };
    let version = version::short();
    report
        .ok("local", format!("etcp {version}, {name} {release}, {ssh}{congestion}, {mptcp} MPTCP"));
}

/// Returns the first words of `ssh -V`.
fn ssh_version() -> Option<String> {
    let mut command = Command::new("ssh");
    command.arg("-V").stdin(Stdio::null());
    let output = as_started(&mut command).output().ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let first = text.lines().next()?.split(',').next()?.to_owned();
    Some(clean(&first).chars().take(MAX_TEXT).collect())
}

/// Returns the congestion control in use, and the others that may be.
fn congestion() -> Option<String> {
    let read = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok()?;
        Some(text.trim().to_owned())
    };
    let current = read("tcp_congestion_control")?;
    let others = read("tcp_available_congestion_control").unwrap_or_default();
    let others: Vec<_> = others.split(' ').filter(|name| *name != current).collect();
    Some(match others.as_slice() {
        [] => current,
        others => format!("{current} (also {})", others.join(", ")),
    })
}
