//! The name of a client's instance: what stays over its restarts.

use std::fs;

use eternaltcp_proto::Instance;
use hmac::{Hmac, Mac};
use sha1::Sha1;

/// This machine, its present boot, this user, and `name`.
///
/// The machine's id is not told as it is (machine-id(5) asks for that), but as
/// a keyed hash. Where the system gives no id, the host name has to do.
#[must_use]
pub fn this_instance(name: impl Into<String>) -> Instance {
    let machine = fs::read_to_string("/etc/machine-id")
        .or_else(|_| fs::read_to_string("/proc/sys/kernel/hostname"))
        .unwrap_or_default();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Instance {
        machine: hashed(machine.trim()).into(),
        boot: boot.trim().into(),
        user: rustix::process::getuid().as_raw().to_string().into(),
        name: short(name.into()).into(),
    }
}

/// A name that is too long for the protocol is told as its hash.
fn short(name: String) -> String {
    if name.len() > 200 { hashed(&name) } else { name }
}

fn hashed(id: &str) -> String {
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(id.as_bytes()) else { return String::new() };
    mac.update(b"eternaltcp instance");
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_the_same_each_time_and_hides_the_machine_id() {
        let instance = this_instance("127.0.0.1:5200");
        assert_eq!(instance, this_instance("127.0.0.1:5200"));
        assert_eq!(instance.machine.len(), 40);
        if let Ok(id) = fs::read_to_string("/etc/machine-id") {
            assert_ne!(instance.machine, id.trim());
        }
    }
}
