//! scp of 200 MB through `ProxyCommand etcp connect`, to a real sshd, while the client moves.

mod support;

use support::folder::{length, sha256};
use support::keys::{generate, public_half};
use support::transfer::{FILE_LENGTH, strike_on_the_way};
use support::wait::PATIENCE;
use support::{Family, Fault, Folder, Launch, Process, Sproxy, User, World, skip};

const PORT: u16 = 2222;

/// Six moves among them; the copy must outlive all.
const FAULTS: [Fault; 7] = [
    Fault::ResetAndMove,
    Fault::BlackholeThenMove,
    Fault::Forget,
    Fault::Move,
    Fault::ResetAndMove,
    Fault::BlackholeThenMove,
    Fault::SoftMove,
];

/// 20 MB/s, so that the faults fall inside the copy.
const KILOBITS_PER_SECOND: &str = "160000";

#[test]
fn scp_through_proxycommand_arrives_whole_while_the_client_moves() {
    if !skip::can_run("netns_scp", &["sshd", "scp", "sha256sum"]) {
        return;
    }
    let (world, folder) = (World::new(), Folder::new());
    let original = folder.random_file("original", FILE_LENGTH, User::Nobody);
    let copy = folder.join("copy");
    let _sshd = start_sshd(&world, &folder);
    let target = format!("127.0.0.1:{PORT}");
    let sproxy = Sproxy::start(&world, &folder, Family::V4, &target, &[&target]);

    let config = client_config(&folder, &sproxy);
    let mut scp = Launch::new("scp", "scp")
        .args(["-q", "-l", KILOBITS_PER_SECOND, "-F"])
        .arg(config)
        .arg(&original)
        .arg(format!("server:{}", copy.display()))
        .env("HOME", folder.path())
        .start(&world.client, &folder);
    strike_on_the_way(&world, &FAULTS, || {
        assert!(scp.is_running(), "scp ended early");
        length(&copy)
    });
    assert!(scp.wait(2 * PATIENCE).success(), "scp is content");
    assert_eq!(sha256(&copy), sha256(&original), "every byte is right");
}

/// sshd as an ordinary user: it lets in that user only, which is all that is needed. It asks PAM
/// about the account, because it cannot read the shadow file and would take it for locked.
fn start_sshd(world: &World, folder: &Folder) -> Process {
    let host_key = generate(folder, "ssh-host-key");
    let user_key = generate(folder, "ssh-user-key");
    let keys = folder.file("ssh-authorized-keys", &public_half(&user_key), User::Nobody);
    let known = format!("test-server {}", public_half(&host_key));
    folder.file("ssh-known-hosts", &known, User::Nobody);
    let config = format!(
        "ListenAddress 127.0.0.1:{PORT}
HostKey {}
AuthorizedKeysFile {}
PidFile none
StrictModes no
UsePAM yes
PasswordAuthentication no
Subsystem sftp internal-sftp
",
        host_key.display(),
        keys.display(),
    );
    let config = folder.file("sshd_config", &config, User::Nobody);
    let sshd = skip::find("sshd").expect("was asked for");
    let mut process =
        Launch::new("sshd", sshd).args(["-D", "-e", "-f"]).arg(config).start(&world.server, folder);
    process.wait_for("Server listening on", PATIENCE);
    process
}

fn client_config(folder: &Folder, sproxy: &Sproxy) -> std::path::PathBuf {
    let config = format!(
        "Host server
HostName 127.0.0.1
Port {PORT}
User nobody
IdentityFile {}
IdentitiesOnly yes
HostKeyAlias test-server
UserKnownHostsFile {}
StrictHostKeyChecking yes
BatchMode yes
ProxyCommand {} %h:%p
",
        folder.join("ssh-user-key").display(),
        folder.join("ssh-known-hosts").display(),
        sproxy.client_command("connect").join(" "),
    );
    folder.file("ssh_config", &config, User::Nobody)
}
