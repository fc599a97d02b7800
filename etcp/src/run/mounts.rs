//! The files that the program sees instead of the system's: its name server, and no other service
//! that answers for names.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use eternaltcp::paths::temporary;
use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};

use super::network::ADDRESS_V4;
use crate::exit::ExitError;

/// Sockets of services that resolve names through this machine's own network.
const ANSWERERS: [&str; 4] = [
    "/run/nscd/socket",
    "/var/run/nscd/socket",
    "/run/systemd/resolve/io.systemd.Resolve",
    "/run/avahi-daemon/socket",
];

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Mounts the files over those of the system, only in this mount namespace.
pub(super) fn lay_over() -> Result<(), ExitError> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        ExitError::Failed(format!("cannot mount a file over {what} for the command: {error}"))
    };
    // No change here may reach the system's mounts; later mounts of the system still appear here.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|error| failed("/", &error))?;
    for socket in ANSWERERS.iter().filter(|socket| Path::new(socket).exists()) {
        // Connecting to a file that is not a socket is refused; then the next service in
        // nsswitch.conf is asked.
        mount_bind("/dev/null", *socket).map_err(|error| failed(socket, &error))?;
    }
    // Without the file the system asks 127.0.0.1, which is redirected like every other address.
    let Ok(place) = fs::canonicalize(RESOLV_CONF) else { return Ok(()) };
    let old = fs::read(&place).unwrap_or_default();
    let file = (|| {
        let none = Err(std::io::Error::other("there is no place for a temporary file: set TMPDIR"));
        let mut files = temporary().map(tempfile::NamedTempFile::new_in);
        let mut file = files.find(Result::is_ok).unwrap_or(none)?;
        file.write_all(resolv_conf(&String::from_utf8_lossy(&old)).as_bytes())?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        Ok::<_, std::io::Error>(file)
    })()
    .map_err(|error| failed(RESOLV_CONF, &error))?;
    // The name is removed with the value, and the file stays where it is mounted.
    mount_bind(file.path(), &place).map_err(|error| failed(RESOLV_CONF, &error))
}

/// Returns the system's file with another name server.
fn resolv_conf(old: &str) -> String {
    let kept = old.lines().filter(|line| !line.trim_start().starts_with("nameserver"));
    let kept: String = kept.flat_map(|line| [line, "\n"]).collect();
    format!("{kept}nameserver {ADDRESS_V4}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_servers_are_replaced() {
        let old =
            "search corp.example\nnameserver fe80::1%wlan0\n nameserver 8.8.8.8\noptions ndots:2";
        let new = "search corp.example\noptions ndots:2\nnameserver 198.18.0.1\n";
        assert_eq!(resolv_conf(old), new);
        assert_eq!(resolv_conf(""), "nameserver 198.18.0.1\n");
    }
}
