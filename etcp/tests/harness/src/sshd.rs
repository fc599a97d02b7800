//! A stock sshd for one user, and the configuration of an ssh that reaches it.

use std::path::PathBuf;

use super::folder::TestFolder;
use super::keys::{generate, public_half};
use super::netns::Namespace;
use super::process::{Launch, Process, RunAs};
use super::skip;
use super::wait::PATIENCE;

/// The address on which sshd listens, on its machine's loopback.
pub const PORT: u16 = 2222;

/// Starts sshd as an ordinary user: it admits only that user, which is enough. It asks PAM about
/// the account, because it cannot read the shadow file and would consider it locked.
pub fn start_sshd(namespace: &Namespace, folder: &TestFolder) -> Process {
    let config = server_config(folder, &format!("127.0.0.1:{PORT}"), "UsePAM yes\n");
    let sshd = skip::find("sshd").expect("was asked for");
    let mut process =
        Launch::new("sshd", sshd).args(["-D", "-e", "-f"]).arg(config).start(namespace, folder);
    process.wait_for("Server listening on", PATIENCE);
    process
}

/// Creates the keys of sshd and of its user, and writes the configuration of an sshd that listens on
/// `listen`, with these additional lines.
pub(crate) fn server_config(folder: &TestFolder, listen: &str, lines: &str) -> PathBuf {
    let host_key = generate(folder, "ssh-host-key");
    let user_key = generate(folder, "ssh-user-key");
    let keys = folder.file("ssh-authorized-keys", &public_half(&user_key), RunAs::Nobody);
    let known = format!("test-server {}", public_half(&host_key));
    folder.file("ssh-known-hosts", &known, RunAs::Nobody);
    let config = format!(
        "ListenAddress {listen}
HostKey {}
AuthorizedKeysFile {}
PidFile none
StrictModes no
PasswordAuthentication no
Subsystem sftp internal-sftp
{lines}",
        host_key.display(),
        keys.display(),
    );
    folder.file("sshd_config", &config, RunAs::Nobody)
}

/// Returns the options of an ssh that proves the user's key, and trusts only that sshd.
pub(crate) fn client_options(folder: &TestFolder) -> String {
    format!(
        "User nobody
IdentityFile {}
IdentitiesOnly yes
HostKeyAlias test-server
UserKnownHostsFile {}
StrictHostKeyChecking yes
BatchMode yes
",
        folder.join("ssh-user-key").display(),
        folder.join("ssh-known-hosts").display(),
    )
}

/// Writes the configuration of an ssh that finds `Host server` at `host_name` by a `ProxyCommand`.
pub fn ssh_config(
    folder: &TestFolder,
    name: &str,
    host_name: &str,
    proxy_command: &str,
) -> PathBuf {
    let config = format!(
        "Host server
HostName {host_name}
Port {PORT}
ProxyCommand {proxy_command}
{}",
        client_options(folder),
    );
    folder.file(name, &config, RunAs::Nobody)
}
