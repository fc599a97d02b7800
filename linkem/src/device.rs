//! One end of the link: its device in its namespace, set up with the program `ip`.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};
use std::process::{Command, Stdio};

use crate::endpoint::Endpoint;
use crate::netns::Netns;
use crate::tun::Tun;

/// The number of packets that the kernel queues until they are read: those of 300 Mbit/s while this
/// program waits 100 ms for the processor.
const TX_QUEUE: u32 = 4000;
/// IPv6 does not work with less, and the kernel would remove the addresses.
const MIN_IPV6_MTU: u32 = 1280;

/// A device that is up.
#[derive(Debug)]
pub(crate) struct Device {
    netns: Netns,
    name: String,
    has_ipv6: bool,
}

impl Device {
    /// Creates the device and configures its addresses.
    pub(crate) fn create(end: &Endpoint, mtu: u32) -> Result<(Self, Tun), String> {
        let device = Self {
            netns: Netns::open(end.netns.as_deref())?,
            name: end.device.clone(),
            has_ipv6: end.has_ipv6(),
        };
        device.check_mtu(mtu)?;
        let name = &device.name;
        let mut script = format!("link set {name} mtu {mtu} txqueuelen {TX_QUEUE} up\n");
        for (ip, prefix) in &end.addresses {
            // The only neighbour is at the other end: no need for neighbour discovery.
            let option = if ip.is_ipv6() { " nodad" } else { "" };
            let _ = writeln!(script, "addr add {ip}/{prefix} dev {name}{option}");
        }
        let tun = device.netns.run(|| {
            let tun = Tun::create(name)?;
            ip(&script)?;
            Ok(tun)
        })?;
        Ok((device, tun))
    }

    pub(crate) fn check_mtu(&self, mtu: u32) -> Result<(), String> {
        if self.has_ipv6 && mtu < MIN_IPV6_MTU {
            return Err(format!(
                "{} has an IPv6 address, and IPv6 needs an MTU of {MIN_IPV6_MTU} or more",
                self.name
            ));
        }
        Ok(())
    }

    pub(crate) fn set_mtu(&self, mtu: u32) -> Result<(), String> {
        self.check_mtu(mtu)?;
        self.netns.run(|| ip(&format!("link set {} mtu {mtu}\n", self.name)))
    }
}

/// Runs the lines of `script` in the namespace of the calling thread.
fn ip(script: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot run the program ip: {error}");
    let mut command = Command::new("ip");
    command.args(["-batch", "-"]).env("LC_ALL", "C");
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => "the program ip is missing: install iproute2".to_owned(),
        _ => failed(error),
    })?;
    if let Some(mut stdin) = child.stdin.take() {
        // If ip has ended already, its stderr explains more than the broken pipe.
        let _ = stdin.write_all(script.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<_> = errors.lines().map(str::trim).collect();
    Err(format!("the program ip refused: {}", errors.join(" ")))
}
