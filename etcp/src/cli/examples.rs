//! The examples below each command's `--help`, and in its manual page.
//!
//! A line that begins at the margin and ends with a colon is a heading; what follows it is shown
//! as it stands.

pub(super) const ETCP: &str = "\
Examples:
  etcp demo                                         see it work, on this machine alone
  etcp sproxy --permit 'localhost:*'                on the server
  etcp cproxy --server example.org -L 5432:localhost:5432
  etcp ssh example.org                              where etcp is installed, and nothing set up
  ssh -o ProxyCommand='etcp connect --server %h localhost:22' example.org
  etcp run --server example.org curl -O https://example.com/large.iso

Exit status:
  0  ended as asked
  1  failed
  2  wrong usage
  3  refused by the peer (key or permission)

How values are written:
  durations  500ms, 10s, 5m, 2h, 7d
  addresses  host:port, [v6]:port or unix:/path; a port may be named, as http
  memory     512M, 4G, 1.5GiB";

pub(super) const SPROXY: &str = "\
Examples:
  Let clients reach every port of this machine, by the name localhost:
    etcp sproxy --permit 'localhost:*'
  Let them reach the database of another machine, and nothing else but the default target:
    etcp sproxy --permit db.example.org:5432
  Listen on one address, and send sessions whose client names no target to sshd:
    etcp sproxy --listen 192.0.2.7:6200 --target localhost:22";

pub(super) const CPROXY: &str = "\
Examples:
  Reach the server's default target at port 5200 of this machine:
    etcp cproxy --server example.org
  Reach the server's database at port 5432 of this machine:
    etcp cproxy --server example.org -L 5432:localhost:5432
  A SOCKS proxy for a browser, at port 1080:
    etcp cproxy --server example.org -D 1080
  Let port 8080 of the server lead to port 3000 here:
    etcp cproxy --server example.org -R 8080:localhost:3000";

pub(super) const CONNECT: &str = "\
Examples:
  ssh through the server's sproxy:
    ssh -o ProxyCommand='etcp connect --server %h localhost:22' example.org
  The same in ~/.ssh/config:
    Host example.org
        ProxyCommand etcp connect --server %h localhost:%p";

pub(super) const KEYGEN: &str = "\
Examples:
  Make ~/.ssh/id_ed25519 and ~/.ssh/id_ed25519.pub:
    etcp keygen
  Show the fingerprint of a key:
    etcp keygen -l ~/.ssh/id_ed25519.pub
  Make a key without a passphrase, for a service:
    etcp keygen -f service_key -N ''";

pub(super) const RUN: &str = "\
Examples:
  Download over the server's network:
    etcp run --server example.org curl -O https://example.com/large.iso
  A shell in which every program uses it:
    etcp run --server example.org bash";

pub(super) const STATUS: &str = "\
Examples:
  Look at the proxies of this user, again each second:
    etcp status --watch
  Print for a program what a proxy with a control socket of its own does:
    etcp status --json --control /run/etcp/control";

pub(super) const SESSIONS: &str = "\
Examples:
  Reset session 5 of the only proxy that runs here:
    etcp sessions kill 5
  Reset session 5 of a tunnel that etcp status names:
    etcp sessions kill 33d69d2a/5";

pub(super) const RECONNECT: &str = "\
Examples:
  Have every cproxy of this user connect again now:
    etcp reconnect";

pub(super) const DRAIN: &str = "\
Examples:
  Let the proxies end with their last session, and wait for it for an hour at most:
    etcp drain --wait --timeout 1h";

pub(super) const SSH: &str = "\
Examples:
  Log in; the session outlives changes of the network:
    etcp ssh example.org
  The same where etcp is not installed on the server:
    etcp ssh --copy example.org
  With arguments of ssh, and a command:
    etcp ssh -p 2222 -A user@example.org tail -f /var/log/syslog
  For git and rsync:
    GIT_SSH_COMMAND='etcp ssh' git pull
    rsync -e 'etcp ssh' -a folder example.org:";

pub(super) const DEMO: &str = "\
Examples:
  Run it; it ends within 20 seconds, with 0 only if every byte is right:
    etcp demo";

pub(super) const COMPLETIONS: &str = "\
Examples:
  etcp completions bash > ~/.local/share/bash-completion/completions/etcp
  etcp completions zsh > \"${fpath[1]}/_etcp\"
  etcp completions fish > ~/.config/fish/completions/etcp.fish";

pub(super) const MAN: &str = "\
Examples:
  etcp man ~/.local/share/man/man1 && man etcp-cproxy";
