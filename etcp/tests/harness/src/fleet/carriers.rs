//! Carriers of the clients of a fleet, and what can happen to one of them.

use std::net::Ipv4Addr;

use super::world::FleetWorld;
use crate::random::TestRng;
use crate::world::CARRIER_PORT;

/// The client's end of a carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FleetCarrier {
    address: Ipv4Addr,
    port: u16,
}

/// The sets of rules that a carrier can be added to: what they drop, and whom they answer with a
/// reset.
const SETS: [&str; 3] = ["silent", "reset_to_client", "reset_to_server"];

/// The rules for the machine at which the client's packets arrive first.
const ENTRY: &str = r"
table ip carriers {
  set silent { type ipv4_addr . inet_service; }
  set reset_to_client { type ipv4_addr . inet_service; }
  set reset_to_server { type ipv4_addr . inet_service; }
  chain from_client {
    ip saddr . tcp sport @silent drop
    ip saddr . tcp sport @reset_to_client reject with tcp reset
  }
  chain received { type filter hook input priority filter; jump from_client; }
  chain forwarded { type filter hook forward priority filter; jump from_client; }
}
";
const CLIENT: &str = r"
table ip carriers {
  set silent { type ipv4_addr . inet_service; }
  set reset_to_client { type ipv4_addr . inet_service; }
  set reset_to_server { type ipv4_addr . inet_service; }
  chain received {
    type filter hook input priority filter;
    ip daddr . tcp dport @silent drop
    ip daddr . tcp dport @reset_to_server reject with tcp reset
  }
}
";

impl FleetWorld {
    pub(super) fn prepare_faults(&self) {
        self.entry.nft(ENTRY);
        self.client.nft(CLIENT);
    }

    /// Returns the carriers that are established at the clients.
    pub fn carriers(&self) -> Vec<FleetCarrier> {
        // Not /proc/net: that is the main thread's namespace.
        let table = self.client.run(|| std::fs::read_to_string("/proc/thread-self/net/tcp"));
        table.expect("the kernel lists connections").lines().filter_map(carrier).collect()
    }

    /// Cuts about half of the carriers, each in one of three ways: silently, or with a reset that the
    /// client or the server gets. Returns how many.
    pub fn cut_some(&self, random: &mut TestRng) -> usize {
        let chosen: Vec<_> = self.carriers().into_iter().filter(|_| random.one_in(2)).collect();
        let mut script = String::new();
        for FleetCarrier { address, port } in &chosen {
            let set = SETS[(random.next() % 3) as usize];
            script += &format!("add element ip carriers {set} {{ {address} . {port} }}\n");
        }
        for namespace in [&self.entry, &self.client] {
            namespace.nft(&script);
        }
        chosen.len()
    }
}

/// Parses a line of the kernel's list: number, own address, the other's, state; addresses are
/// hexadecimal, in the machine's byte order.
fn carrier(line: &str) -> Option<FleetCarrier> {
    const ESTABLISHED: &str = "01";
    let fields: Vec<_> = line.split_whitespace().collect();
    let (address, port) = fields.get(1)?.split_once(':')?;
    let (_, other_port) = fields.get(2)?.split_once(':')?;
    let port_of = |text| u16::from_str_radix(text, 16).ok();
    if fields.get(3) != Some(&ESTABLISHED) || port_of(other_port) != Some(CARRIER_PORT) {
        return None;
    }
    let address = u32::from_str_radix(address, 16).ok()?.to_ne_bytes();
    Some(FleetCarrier { address: address.into(), port: port_of(port)? })
}
