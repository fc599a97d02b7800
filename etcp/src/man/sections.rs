//! The sections that follow the options in each manual page: files, environment, signals, exit
//! status and related pages.
//!
//! The form is that of the examples in the help: a line at the margin that ends with a colon is a
//! heading.

const SERVER_FILES: &str = "\
Files:
  ~/.ssh/authorized_keys
    The admitted keys; --authorized-keys names another file.
  STATE/server_key, STATE/server_key.pub
    The server's key; created at the first start. STATE is $STATE_DIRECTORY, else
    $XDG_STATE_HOME/eternaltcp, else ~/.local/state/eternaltcp.
  $CREDENTIALS_DIRECTORY/authorized_keys, $CREDENTIALS_DIRECTORY/server_key
    Used instead of these two files if systemd has loaded them, with LoadCredential=.
  /etc/resolv.conf
    The resolver that --permit-resolver lets clients query.
";

const CLIENT_FILES: &str = "\
Files:
  ~/.ssh/id_ed25519, ~/.ssh/id_ecdsa
    Your keys, unless ssh's configuration or -i names others.
  ~/.ssh/known_hosts, /etc/ssh/ssh_known_hosts
    The trusted servers, unless ssh's configuration or --known-hosts names other files.
  ~/.ssh/config, /etc/ssh/ssh_config
    ssh's configuration, read by ssh -G.
  STATE/client_id
    This client's id, if the machine has none. STATE is $STATE_DIRECTORY, else
    $XDG_STATE_HOME/eternaltcp, else ~/.local/state/eternaltcp.
";

const CONFIG_FILES: &str = "\
  FILE, FILE.d/*.toml
    The files of --config, in TOML. Each option is a key by its long name without dashes, such as
    dead-after = \"5s\"; an option that may be repeated takes a list; one without a value is true
    or false. The command line replaces values of the files, and adds to their lists.
";

const CONTROL_FILES: &str = "\
  RUNTIME/ROLE.PID.sock
    The control socket. RUNTIME is $RUNTIME_DIRECTORY, else $XDG_RUNTIME_DIR/eternaltcp,
    else control in the state folder.
";

const COMMON_ENVIRONMENT: &str = "\
Environment:
  RUST_LOG
    The level of the log, or levels of parts of the program; overrides -v.
  ETCP_TRACEABLE
    If set, debuggers and core dumps can see the process, including its keys.
  STATE_DIRECTORY, XDG_STATE_HOME, RUNTIME_DIRECTORY, XDG_RUNTIME_DIR, HOME, TMPDIR
    Where files are: see FILES.
  LOGS_DIRECTORY
    The folder of a relative path of --audit-log, for systemd's LogsDirectory=.
  NOTIFY_SOCKET
    Where cproxy and sproxy say that they listen, for systemd's Type=notify.
  WATCHDOG_USEC, WATCHDOG_PID
    How often they say there that they serve, for systemd's WatchdogSec=.
  JOURNAL_STREAM
    If stderr leads to systemd's journal, each line of the log has its level for the journal.
";

const CLIENT_ENVIRONMENT: &str = "\
  ETCP_PROXY
    As --proxy, but not visible in the list of processes.
  https_proxy, all_proxy, no_proxy, and the same in capitals
    The proxy, as for curl(1).
  SSH_AUTH_SOCK
    The ssh agent.
  SSH_ASKPASS, SSH_ASKPASS_REQUIRE, DISPLAY
    How a passphrase is asked for, as for ssh(1).
";

const PAGE_ENVIRONMENT: &str = "\
  DISPLAY, WAYLAND_DISPLAY
    If one is set, xdg-open opens the page; else only its address is printed.
";

const EVENT_ENVIRONMENT: &str = "\
  ETCP_EVENT, ETCP_TUNNEL, ETCP_PATH, ETCP_WHY, ETCP_OUTAGE_MS, ETCP_REPLAYED, ETCP_SESSIONS,
  ETCP_SERVER, ETCP_KEY, ETCP_PID, ETCP_CONTROL
    Set for the command of --on-event.
";

const SERVER_SIGNALS: &str = "\
Signals:
  SIGTERM, SIGINT, SIGQUIT   close every tunnel in order, then exit
  SIGHUP                     read the configuration files and authorized_keys again, as etcp reload
  SIGUSR2                    replace the program, as etcp upgrade
  SIGKILL                    to its child, the worker: another worker continues all sessions; to the
                             main process: resets them
  A signal that was ignored at the start stays ignored.
";

const CPROXY_SIGNALS: &str = "\
Signals:
  SIGTERM, SIGINT, SIGQUIT   close the tunnel in order, then exit
  SIGHUP                     with a terminal exit, without one read the configuration files and
                             keys again, as etcp reload
  SIGUSR1                    connect again now
  SIGUSR2                    replace the program, as etcp upgrade
  SIGKILL                    to its child, the worker: another worker continues all sessions; to the
                             main process: resets them
  A signal that was ignored at the start stays ignored.
";

const CONNECT_SIGNALS: &str = "\
Signals:
  SIGTERM, SIGINT, SIGQUIT, SIGHUP   close the tunnel in order, then exit
  SIGUSR1                            connect again now
  SIGKILL                            resets the session: stdin and stdout may be pipes, of which nobody
                                     can tell afterwards how much was read or written
  A signal that was ignored at the start stays ignored.
";

const RUN_SIGNALS: &str = "\
Signals:
  SIGTERM, SIGINT, SIGQUIT, SIGHUP   passed on to the command
  SIGUSR1                            connect again now
  SIGKILL                            resets the sessions: this program shares its terminal and its
                                     namespaces with the command, and none could take its place
";

const PLAIN_SIGNALS: &str = "\
Signals:
  SIGTERM, SIGINT, SIGQUIT, SIGHUP   exit
";

const SSH_SIGNALS: &str = "\
Signals:
  SIGTERM, SIGINT, SIGQUIT, SIGHUP   exit
  SIGKILL                            resets the session: this program shares its terminal with ssh, and
                                     none could take its place
";

const PROXY_STATUS: &str = "\
Exit status:
  0  ended by a signal, or by etcp drain
  1  failed: no key, port in use, gave up waiting
  2  wrong usage
  3  rejected by the peer: key, name, version or permission
";

const CONNECT_STATUS: &str = "\
Exit status:
  0    both directions ended
  1    failed: not reached in time, session reset, stdin or stdout failed
  2    wrong usage
  3    rejected by the server, or the server is not trusted
  129, 130, 131, 143
       ended by SIGHUP, SIGINT, SIGQUIT or SIGTERM
  141  the reader of stdout has closed it
";

const RUN_STATUS: &str = "\
Exit status:
  The exit code of the command; 128 plus the signal's number if a signal ended it. Before it runs:
  1    the server was not reached in time
  2    wrong usage
  3    rejected by the server, or the server is not trusted
  126  the command cannot be run
  127  the command does not exist
";

const SSH_STATUS: &str = "\
Exit status:
  The exit code of ssh; 255 if the login failed. Before ssh runs:
  1  failed
  2  wrong usage
  3  rejected by the server, or the server is not trusted
";

const CHECK_STATUS: &str = "\
Exit status:
  0  the file is right
  1  it is not; each fault is printed with its file, line and column
  2  wrong usage
";

const PLAIN_STATUS: &str = "\
Exit status:
  0  success
  1  failed
  2  wrong usage
";

/// Returns the sections of a page, by its file name.
pub(super) fn of(page: &str) -> Vec<&'static str> {
    let common = COMMON_ENVIRONMENT;
    match page {
        // The examples of the program end with its exit status.
        "etcp.1" => {
            let (files, environment) = (CLIENT_FILES, CLIENT_ENVIRONMENT);
            vec![files, CONTROL_FILES, common, environment, PLAIN_SIGNALS]
        }
        "etcp-sproxy.1" => vec![
            SERVER_FILES,
            CONFIG_FILES,
            CONTROL_FILES,
            common,
            EVENT_ENVIRONMENT,
            SERVER_SIGNALS,
            PROXY_STATUS,
        ],
        "etcp-cproxy.1" => vec![
            CLIENT_FILES,
            CONFIG_FILES,
            CONTROL_FILES,
            common,
            CLIENT_ENVIRONMENT,
            EVENT_ENVIRONMENT,
            CPROXY_SIGNALS,
            PROXY_STATUS,
        ],
        "etcp-check.1" => {
            vec!["Files:\n", CONFIG_FILES, common, PLAIN_SIGNALS, CHECK_STATUS]
        }
        "etcp-connect.1" => {
            vec![CLIENT_FILES, common, CLIENT_ENVIRONMENT, CONNECT_SIGNALS, CONNECT_STATUS]
        }
        // The examples of the doctor end with its exit status.
        "etcp-doctor.1" => vec![CLIENT_FILES, common, CLIENT_ENVIRONMENT, PLAIN_SIGNALS],
        "etcp-run.1" => vec![CLIENT_FILES, common, CLIENT_ENVIRONMENT, RUN_SIGNALS, RUN_STATUS],
        "etcp-ssh.1" => vec![CLIENT_FILES, common, CLIENT_ENVIRONMENT, SSH_SIGNALS, SSH_STATUS],
        "etcp-keygen.1" => vec![
            "Files:\n  ~/.ssh/id_ed25519, ~/.ssh/id_ed25519.pub\n    The key pair, unless -f names \
             another file.\n",
            common,
            PLAIN_SIGNALS,
            PLAIN_STATUS,
        ],
        "etcp-demo.1" | "etcp-completions.1" | "etcp-man.1" => {
            let files = "Files:\n  Only those that the command line names.\n";
            vec![files, common, PLAIN_SIGNALS, PLAIN_STATUS]
        }
        "etcp-page.1" => {
            vec!["Files:\n", CONTROL_FILES, common, PAGE_ENVIRONMENT, PLAIN_SIGNALS, PLAIN_STATUS]
        }
        _ => vec!["Files:\n", CONTROL_FILES, common, PLAIN_SIGNALS, PLAIN_STATUS],
    }
}

/// Returns the pages that a page refers to, besides those of ssh.
pub(super) fn see_also(page: &str) -> &'static str {
    match page {
        "etcp.1" => {
            "etcp-sproxy(1), etcp-cproxy(1), etcp-check(1), etcp-connect(1), etcp-run(1), etcp-ssh(1), etcp-doctor(1), \
             etcp-keygen(1), etcp-status(1), etcp-page(1), etcp-sessions(1), etcp-reconnect(1), etcp-reload(1), etcp-drain(1), etcp-upgrade(1), \
             etcp-demo(1), "
        }
        "etcp-sproxy.1" => {
            "etcp(1), etcp-cproxy(1), etcp-check(1), etcp-status(1), etcp-reload(1), etcp-drain(1), etcp-upgrade(1), "
        }
        "etcp-cproxy.1" => {
            "etcp(1), etcp-sproxy(1), etcp-check(1), etcp-connect(1), etcp-status(1), "
        }
        "etcp-check.1" => "etcp(1), etcp-sproxy(1), etcp-cproxy(1), ",
        "etcp-connect.1" | "etcp-run.1" => "etcp(1), etcp-cproxy(1), etcp-sproxy(1), ",
        "etcp-page.1" => "etcp(1), etcp-cproxy(1), etcp-sproxy(1), etcp-status(1), xdg-open(1), ",
        "etcp-sessions-kill.1" => "etcp(1), etcp-sessions(1), etcp-status(1), ",
        "etcp-sessions.1" => "etcp(1), etcp-sessions-kill(1), etcp-status(1), ",
        _ => "etcp(1), ",
    }
}
