//! Namespaces of user, network and mounts, and what may be done in them
//! (user_namespaces(7), network_namespaces(7)).

use std::fs;
use std::io;

use eternaltcp_sys::unshare;
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, UnshareFlags, capabilities, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
};

use crate::exit::Failure;

/// What `ip` and `nft` need.
const NEEDED: CapabilitySet = CapabilitySet::NET_ADMIN;

/// What the command of root keeps, if `etcp run` had it: the work of root on files, users and
/// processes. It is what containers have by default, without `CAP_MKNOD` and `CAP_SETFCAP`.
///
/// None of it leaves the namespaces, changes their network or mounts, or reaches into a process
/// that has more.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::AUDIT_WRITE);

/// Where a system says that ordinary users make no namespaces: the file, the
/// value that says so, and what to do.
const SWITCHES: [(&str, &str, &str); 3] = [
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        "have root set sysctl user.max_user_namespaces=10000",
    ),
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "have root set sysctl kernel.unprivileged_userns_clone=1",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "have root give etcp an AppArmor profile with userns, or set sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
];

/// Moves this process into namespaces of its own, as the user who it is.
pub(super) fn enter() -> Result<(), Failure> {
    let own = UnshareFlags::NEWNET | UnshareFlags::NEWNS;
    // Root needs no other user: a user namespace would take other users away.
    if geteuid().is_root() && unshare(own).is_ok() {
        return Ok(());
    }
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    unshare(own | UnshareFlags::NEWUSER)
        .and_then(|()| {
            // Without it no group may be mapped (user_namespaces(7)).
            fs::write("/proc/self/setgroups", "deny")?;
            fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
            fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
            inherit()
        })
        .map_err(|error| {
            let advice = advice(|path| fs::read_to_string(path).ok());
            Failure::Failed(format!("cannot make a network for the command ({error}): {advice}"))
        })
}

/// Lets programs that this process starts do what it may do here, whoever it is.
fn inherit() -> io::Result<()> {
    let sets = capabilities(None)?;
    set_capabilities(None, CapabilitySets { inheritable: sets.inheritable | NEEDED, ..sets })?;
    configure_capability_in_ambient_set(NEEDED, true)?;
    Ok(())
}

/// Takes away what the command is not to have. An ordinary user loses every capability by
/// execve(2), now that nothing is inherited; root keeps [`KEPT`]. What is not in the bounding
/// set cannot come back by a set-user-ID program or by capabilities of a file.
pub(super) fn give_up_privileges() -> io::Result<()> {
    limit_bounding_set()?;
    clear_ambient_capability_set()?;
    let sets = capabilities(None)?;
    let sets = if geteuid().is_root() {
        CapabilitySets {
            effective: sets.effective & KEPT,
            permitted: sets.permitted & KEPT,
            inheritable: sets.inheritable & KEPT,
        }
    } else {
        CapabilitySets { inheritable: CapabilitySet::empty(), ..sets }
    };
    set_capabilities(None, sets)?;
    Ok(())
}

/// Removes all but [`KEPT`] from the bounding set, also what this program does not know.
fn limit_bounding_set() -> io::Result<()> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if KEPT.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            // The kernel's last one was before.
            Err(Errno::INVAL) => break,
            result => result?,
        }
    }
    Ok(())
}

/// A failure inside, with what to do if it is of a system that lets namespaces
/// be made and forbids everything in them, as AppArmor does.
pub(super) fn explain(failure: Failure) -> Failure {
    match (failure, switch(|path| fs::read_to_string(path).ok())) {
        (Failure::Failed(text), Some(what)) => Failure::Failed(format!("{text}; {what}")),
        (failure, _) => failure,
    }
}

/// What to do where namespaces are forbidden; `read` reads a file, if it is there.
fn advice(read: impl Fn(&str) -> Option<String>) -> String {
    switch(read).unwrap_or_else(|| {
        "a container or sandbox seems to forbid user namespaces; allow them there, or run it \
         outside"
            .to_owned()
    })
}

/// The same if there is a switch for it, and it is off.
fn switch(read: impl Fn(&str) -> Option<String>) -> Option<String> {
    let is_set = |path: &str, value: &str| read(path).is_some_and(|text| text.trim() == value);
    let (_, _, what) = SWITCHES.iter().find(|(path, value, _)| is_set(path, value))?;
    Some(format!("this system forbids user namespaces; {what}, or run it as root"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_names_the_switch_that_is_off() {
        for (path, value, _) in SWITCHES {
            let text = advice(|asked| (asked == path).then(|| format!("{value}\n")));
            let name = path.rsplit('/').next().unwrap();
            assert!(text.contains(name), "{text}");
        }
        assert!(advice(|_| None).contains("container"));
        assert!(advice(|_| Some("7\n".to_owned())).contains("container"));
    }
}
