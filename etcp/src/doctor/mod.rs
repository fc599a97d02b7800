//! `etcp doctor`: why a server cannot be reached, or how good the path to it is.
//!
//! The checks run in the order in which a carrier is made, and the first that fails ends those that
//! need it. Nothing is changed at either side, except that `--accept-new` stores a key.
//!
//! - `patients`: the servers that are examined;
//! - `local`: what this machine is;
//! - `network`: names, addresses and ports;
//! - `answer`, `portal`: what answers there, and login pages in between;
//! - `admission`: the first attach, and the keys of both sides;
//! - `measure`: what the carrier is like;
//! - `report`, `hidden`: the findings, and the names that they do not show.

mod admission;
mod answer;
mod hidden;
mod local;
mod measure;
mod network;
mod patients;
mod portal;
mod report;

use std::net::SocketAddr;
use std::time::Duration;

use eternaltcp::address::{ServerAddress, Target};
use eternaltcp::client::{Client, Pins, Proxy, paths_to};

use crate::cli::{DoctorArgs, ServerArgs};
use crate::credentials::Credentials;
use crate::exit::ExitError;
use crate::runtime;
use admission::Applicant;
use answer::LargePackets;
use measure::BulkOutcome;
use patients::Patient;
use report::DoctorReport;

const HOLE: &str = "etcp uses small segments there; other programs will hang: lower the MTU of your \
                    interface (ip link set dev IFACE mtu 1280), or let ICMP (fragmentation needed, \
                    packet too big) pass the firewalls";

pub(crate) fn run(args: DoctorArgs) -> Result<(), ExitError> {
    let DoctorArgs { host, target, json, hide_names, quick, config, first_contact, server } = args;
    let plan = DoctorPlan { target, is_quick: quick, patience: first_contact.connect_timeout };
    let mut report = DoctorReport::new(json, hide_names);
    for patient in patients::all(config, host, server)? {
        examine(&mut report, &plan, &patient)?;
    }
    report.end()
}

/// The plan of the examination of each server.
struct DoctorPlan {
    /// A target to try.
    target: Option<Target>,
    /// Whether neither the speed nor the pause is measured.
    is_quick: bool,
    /// The time that the first attach may take.
    patience: Duration,
}

/// Examines one server. Settings of one of several that cannot be used are a finding about it.
fn examine(
    report: &mut DoctorReport,
    plan: &DoctorPlan,
    patient: &Patient,
) -> Result<(), ExitError> {
    let Patient { name, server } = patient;
    name.iter().for_each(|name| report.hide("SERVER", name));
    server.server.iter().for_each(|server| report.hide("HOST", &server.host));
    let addresses: Vec<_> = server.server.iter().map(ToString::to_string).collect();
    report.begin(name.as_deref(), &addresses.join(", "));
    local::examine(report);
    let (credentials, keyless) = match Credentials::or_stranger(server) {
        Ok(found) => found,
        Err(error) if name.is_none() => return Err(error),
        Err(error) => {
            report.fail("settings", error.text(), "");
            return Ok(());
        }
    };
    let keyless = keyless.map(|error| error.text().to_owned());
    let keyless = keyless.as_deref();
    let doctor = Doctor { plan, server, credentials: &credentials, keyless };
    runtime::block_on(doctor.examine(report))??;
    report.close();
    Ok(())
}

/// The examination of one sproxy.
struct Doctor<'a> {
    plan: &'a DoctorPlan,
    server: &'a ServerArgs,
    credentials: &'a Credentials,
    /// The reason why the user has no key.
    keyless: Option<&'a str>,
}

/// An address at which an sproxy has proved a key, and what large packets to it did.
struct FoundServer {
    address: SocketAddr,
    large: Option<LargePackets>,
}

impl Doctor<'_> {
    async fn examine(&self, report: &mut DoctorReport) -> Result<(), ExitError> {
        let found = match &self.credentials.via {
            Some(via) => {
                report.skip("port", format!("connections go through {}", via.name));
                None
            }
            None => {
                let mut found = None;
                for server in self.credentials.servers.iter() {
                    found = self.find(report, server).await.or(found);
                }
                if found.is_none() {
                    return Ok(());
                }
                found.flatten()
            }
        };
        let applicant = Applicant {
            args: self.server,
            credentials: self.credentials,
            patience: self.plan.patience,
            keyless: self.keyless,
        };
        let client = applicant.attach(report).await?;
        let passage = match &client {
            Some(client) => self.measure(report, client).await,
            None => BulkOutcome::Unknown,
        };
        if let Some(found) = found {
            report_size(report, &found, passage);
            report_paths(report, found.address, &self.credentials.pins);
        }
        if let Some(client) = client {
            client.close().await;
        }
        Ok(())
    }

    /// Looks for an sproxy at the addresses of a server. Returns `Some(None)` if a proxy leads
    /// there.
    async fn find(
        &self,
        report: &mut DoctorReport,
        server: &ServerAddress,
    ) -> Option<Option<FoundServer>> {
        let pins = &self.credentials.pins;
        let proxy = self.credentials.proxy.as_ref().filter(|proxy| proxy.is_for(server));
        let dialed = proxy.map_or(server, Proxy::address);
        let addresses = network::resolve(report, dialed, pins).await;
        if addresses.is_empty() {
            return None;
        }
        let open = network::try_all(report, &addresses, pins).await;
        if proxy.is_some() && !open.is_empty() {
            report.skip("answer", format!("the port belongs to the proxy {dialed}"));
            return Some(None);
        }
        for address in &open {
            let known = answer::identify_at(report, &server.host, *address, pins).await;
            if known.is_some() {
                let large = answer::try_large(*address, pins).await;
                return Some(Some(FoundServer { address: *address, large }));
            }
        }
        portal::look(report, &server.host, &addresses, pins).await;
        None
    }

    /// Reports what an attached carrier is like.
    async fn measure(&self, report: &mut DoctorReport, client: &Client) -> BulkOutcome {
        if let Some(target) = &self.plan.target {
            measure::try_target(report, client, target).await;
        }
        // Bulk would fill queues on the path.
        measure::round_trip(report, client).await;
        if self.plan.is_quick {
            return BulkOutcome::Unknown;
        }
        let passage = measure::speed(report, client).await;
        measure::pause(report, client).await;
        passage
    }
}

/// Reports whether large packets pass.
fn report_size(report: &mut DoctorReport, found: &FoundServer, passage: BulkOutcome) {
    let Some(LargePackets { mtu, is_answered }) = found.large else { return };
    let mtu_text = mtu.map_or_else(String::new, |mtu| format!(" (path MTU {mtu})"));
    let values: Vec<_> = mtu.map(|mtu| ("path_mtu", f64::from(mtu))).into_iter().collect();
    match (is_answered, passage) {
        (false, _) => {
            let text = format!("large packets to the server vanish{mtu_text}, small ones pass");
            report.fail("MTU", text, HOLE);
        }
        (true, BulkOutcome::Hole) => {
            let text = format!("large packets from the server vanish{mtu_text}, small ones pass");
            report.fail("MTU", text, HOLE);
        }
        (true, BulkOutcome::Whole) => {
            report.measured("MTU", format!("large packets pass both ways{mtu_text}"), &values);
        }
        (true, BulkOutcome::Unknown) => {
            let text = format!(
                "large packets to the server pass{mtu_text}; the way back is known only with a speed"
            );
            report.measured("MTU", text, &values);
        }
    }
}

/// Reports the paths to an address.
fn report_paths(report: &mut DoctorReport, address: SocketAddr, pins: &Pins) {
    let (chosen, others) = paths_to(address, pins);
    let chosen = chosen.unwrap_or_else(|| "an unknown path".to_owned());
    let text = match others.as_slice() {
        [] => format!("{chosen}; no other interface leads there, so --spare has none to use"),
        others => format!("{chosen}; --spare could use {}", others.join(" or ")),
    };
    report.ok("paths", text);
}
