//! Namespaces of user, network and mounts, and the privileges in them (user_namespaces(7),
//! network_namespaces(7)).

use std::fs;
use std::io;

use eternaltcp_sys::unshare;
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, UnshareFlags, capabilities, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
};

use crate::exit::ExitError;

/// The capability that `ip` and `nft` need.
const NEEDED: CapabilitySet = CapabilitySet::NET_ADMIN;

/// The capabilities that a command of root keeps if `etcp run` had them: those for files, users and
/// processes. They are the default of containers, without `CAP_MKNOD` and `CAP_SETFCAP`.
///
/// None of them allows leaving the namespaces, changing their network or mounts, or inspecting a
/// process with more capabilities.
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

/// The settings by which systems forbid namespaces to ordinary users: the file, the value that
/// forbids them, and the remedy.
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

/// Moves this process into its own namespaces, without changing its user.
pub(super) fn enter() -> Result<(), ExitError> {
    let own = UnshareFlags::NEWNET | UnshareFlags::NEWNS;
    // Root needs no user namespace, which would hide other users.
    if geteuid().is_root() && unshare(own).is_ok() {
        return Ok(());
    }
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    unshare(own | UnshareFlags::NEWUSER)
        .and_then(|()| {
            // Otherwise no group may be mapped (user_namespaces(7)).
            fs::write("/proc/self/setgroups", "deny")?;
            fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
            fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
            inherit()
        })
        .map_err(|error| {
            let advice = advice(|path| fs::read_to_string(path).ok());
            ExitError::Failed(format!("cannot make a network for the command ({error}): {advice}"))
        })
}

/// Lets programs that this process starts keep its privileges here, whichever user it is.
fn inherit() -> io::Result<()> {
    let sets = capabilities(None)?;
    set_capabilities(None, CapabilitySets { inheritable: sets.inheritable | NEEDED, ..sets })?;
    configure_capability_in_ambient_set(NEEDED, true)?;
    Ok(())
}

/// Drops the privileges that the command must not have. An ordinary user loses every capability by
/// execve(2), because nothing is inheritable any more; root keeps [`KEPT`]. A capability outside
/// the bounding set cannot come back through a set-user-ID program or a file's capabilities.
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

/// Removes all capabilities except [`KEPT`] from the bounding set, including those unknown to this
/// program.
fn limit_bounding_set() -> io::Result<()> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if KEPT.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            // The kernel has no capability with this number or a higher one.
            Err(Errno::INVAL) => break,
            result => result?,
        }
    }
    Ok(())
}

/// Adds advice to a failure inside a namespace, if the system allows namespaces but forbids
/// everything in them, as AppArmor does.
pub(super) fn explain(failure: ExitError) -> ExitError {
    match (failure, switch(|path| fs::read_to_string(path).ok())) {
        (ExitError::Failed(text), Some(what)) => ExitError::Failed(format!("{text}; {what}")),
        (failure, _) => failure,
    }
}

/// Returns what to do if namespaces are forbidden. `read` reads a file, if it exists.
fn advice(read: impl Fn(&str) -> Option<String>) -> String {
    switch(read).unwrap_or_else(|| {
        "a container or sandbox seems to forbid user namespaces; allow them there, or run it \
         outside"
            .to_owned()
    })
}

/// Returns advice for the setting that forbids namespaces, if there is one.
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
