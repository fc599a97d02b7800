//! The examples below each command's `--help`, and in its manual page.
//!
//! A line that begins at the margin and ends with a colon is a heading. Other lines are shown
//! unchanged.

pub(super) const ETCP: &str = "\
Examples:
  etcp demo                                         a demonstration on this machine
  etcp sproxy --permit 'localhost:*'                on the server
  etcp cproxy --server example.org -L 5432:localhost:5432
  etcp ssh example.org                              etcp is installed there; no sproxy runs
  ssh -o ProxyCommand='etcp connect --server %h localhost:22' example.org
  etcp run --server example.org curl -O https://example.com/large.iso
  etcp doctor example.org                           when something does not work

Exit status:
  0  ended as asked
  1  failed
  2  wrong usage
  3  rejected by the peer (key or permission)

Values:
  durations  500ms, 10s, 5m, 2h, 7d
  addresses  host:port, [v6]:port or unix:/path; a port may be a name such as http
  memory     512M, 4G, 1.5GiB";

pub(super) const SPROXY: &str = "\
Examples:
  Let clients reach every port of this machine as localhost:
    etcp sproxy --permit 'localhost:*'
  Let them reach only a database on another machine, and the default target:
    etcp sproxy --permit db.example.org:5432
  Listen on one address, with sshd as the default target:
    etcp sproxy --listen 192.0.2.7:6200 --target localhost:22";

pub(super) const CPROXY: &str = "\
Examples:
  Reach the server's default target through port 5200 of this machine:
    etcp cproxy --server example.org
  Reach the server's database through port 5432 of this machine:
    etcp cproxy --server example.org -L 5432:localhost:5432
  Provide a SOCKS proxy for a browser on port 1080:
    etcp cproxy --server example.org -D 1080
  Forward port 8080 of the server to port 3000 here:
    etcp cproxy --server example.org -R 8080:localhost:3000
  Serve several servers, each with a table [server.NAME] in a file:
    etcp check ~/.config/eternaltcp/cproxy.toml
    etcp cproxy --config ~/.config/eternaltcp/cproxy.toml";

pub(super) const CHECK: &str = "\
Examples:
  Check a file before sproxy is started with it:
    etcp check /etc/eternaltcp/sproxy.toml && systemctl start etcp-sproxy";

pub(super) const CONNECT: &str = "\
Examples:
  Use ssh through the server's sproxy:
    ssh -o ProxyCommand='etcp connect --server %h localhost:22' example.org
  The same in ~/.ssh/config:
    Host example.org
        ProxyCommand etcp connect --server %h localhost:%p";

pub(super) const KEYGEN: &str = "\
Examples:
  Create ~/.ssh/id_ed25519 and ~/.ssh/id_ed25519.pub:
    etcp keygen
  Show the fingerprint of a key:
    etcp keygen -l ~/.ssh/id_ed25519.pub
  Create a key without a passphrase, for a service:
    etcp keygen -f service_key -N ''";

pub(super) const RUN: &str = "\
Examples:
  Download through the server's network:
    etcp run --server example.org curl -O https://example.com/large.iso
  Start a shell in which every program uses it:
    etcp run --server example.org bash";

pub(super) const STATUS: &str = "\
Examples:
  Watch the programs of this user; q ends it:
    etcp status --watch
  Show one person's tunnels at a server, or those that wait for their clients:
    sudo etcp status --key ann
    sudo etcp status --state detached
  Print the status of one proxy for a program:
    etcp status --json --control /run/etcp/control";

pub(super) const PAGE: &str = "\
Examples:
  Open the page of the only proxy that has one, or of the client if there is a server, too:
    etcp page
    etcp page cproxy
  Turn a page on:
    etcp cproxy --metrics 9164 --server example.org
  See the page of a server here, through ssh:
    ssh -L 9163:localhost:9163 example.org
    xdg-open http://localhost:9163/

The page needs --metrics. Without a screen, its address is printed.";

pub(super) const SESSIONS: &str = "\
Examples:
  Reset session 5 of the only running proxy:
    etcp sessions kill 5
  Reset session 5 of a tunnel, named as in etcp status:
    etcp sessions kill 33d69d2a/5
  Reset session 5 of one of several servers:
    etcp sessions kill --server office 5";

pub(super) const TUNNELS: &str = "\
Examples:
  End a tunnel, named as in etcp status, and reset its sessions:
    etcp tunnels kill 33d69d2a
  End all tunnels of a person, after her key was removed:
    etcp tunnels kill --key ann@laptop";

pub(super) const RECONNECT: &str = "\
Examples:
  Make every cproxy of this user reconnect now:
    etcp reconnect";

pub(super) const RELOAD: &str = "\
Examples:
  Apply a changed configuration file; existing sessions continue if they are still permitted:
    etcp check /etc/eternaltcp/sproxy.toml && etcp reload
  Apply what a reload cannot change, too:
    etcp upgrade";

pub(super) const DRAIN: &str = "\
Examples:
  Let the proxy exit after its last session, at the latest after an hour, and wait for it:
    etcp drain --wait --timeout 1h
  Let the clients of an sproxy move to another one of the same name first:
    etcp drain --move --wait";

pub(super) const UPGRADE: &str = "\
Examples:
  Serve with the file that was installed over the running program:
    etcp upgrade
  Try another version, and go back:
    etcp upgrade --program ./etcp-new
    etcp upgrade --program /usr/local/bin/etcp";

pub(super) const SSH: &str = "\
Examples:
  Log in; the session survives changes of the network:
    etcp ssh example.org
  Log in to a server without etcp:
    etcp ssh --copy example.org
  Pass arguments and a command to ssh:
    etcp ssh -p 2222 -A user@example.org tail -f /var/log/syslog
  Use it in git and rsync:
    GIT_SSH_COMMAND='etcp ssh' git pull
    rsync -e 'etcp ssh' -a folder example.org:";

pub(super) const DOCTOR: &str = "\
Examples:
  Find out why a server cannot be reached:
    etcp doctor example.org
  Also try a target that it should permit:
    etcp doctor example.org localhost:5432
  Examine the server of a cproxy with its flags, or with its configuration file:
    etcp doctor --server gateway:443 -i ~/.ssh/work_key
    etcp doctor --config ~/.config/eternaltcp/cproxy.toml
  Write a report for others, without names and addresses:
    etcp doctor --hide-names example.org > report.txt

Checks:
  local      versions of etcp, the kernel and ssh; congestion control; MPTCP
  name       the addresses of the name
  port       whether each address answers; if not, whether other ports of it do
  portal     whether a network's login page is in between
  answer     what answers there, and the key that it proves
  MTU        whether large packets pass, and the path MTU
  paths      the path in use, and those that --spare could use
  host key   whether the server's key is known
  own key    which of your keys is admitted
  server     the protocol and the features of the server
  target     TARGET, if you name one: sproxy does not tell what it permits
  round trip, speed, pause
             with a carrier. The speed needs a server that permits localhost:PORT: data goes
             through a listener there and back, for 3 s, and at most 256 MB

  Clocks are not compared: the protocol does not tell the server's time, and does not need it.

Exit status:
  0  all is well
  1  a line begins with FAIL: the line below it says what to do
  2  wrong usage";

pub(super) const DEMO: &str = "\
Examples:
  Run the demonstration; it exits with 0 within 20 seconds if every byte is right:
    etcp demo
  Run it with the sproxy of another machine, or with one that ssh starts there:
    etcp demo --server example.org
    etcp demo --server example.org --copy";

pub(super) const COMPLETIONS: &str = "\
Examples:
  etcp completions bash > ~/.local/share/bash-completion/completions/etcp
  etcp completions zsh > \"${fpath[1]}/_etcp\"
  etcp completions fish > ~/.config/fish/completions/etcp.fish";

pub(super) const MAN: &str = "\
Examples:
  etcp man ~/.local/share/man/man1 && man etcp-cproxy";
