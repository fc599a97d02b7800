//! A system that denies what a holder needs.

use std::process::Command;

use etcp_testkit::loopback::program::{RunningProgram, etcp};
use etcp_testkit::loopback::{Cproxy, Echo, LoopbackSite, Steady};
use etcp_testkit::skip;
use etcp_testkit::worker::worker_of;

/// Runs a program below a filter of system calls (seccomp(2)), as a container would. The first
/// argument says what is denied: files in memory, or processes that share a table of descriptors.
const FILTER: &str = r#"
import ctypes, os, platform, struct, sys
memfd_create, clone = {"x86_64": (319, 56), "aarch64": (279, 220)}[platform.machine()]
LOAD, EQUAL, SET, RETURN = 0x20, 0x15, 0x45, 0x06
ALLOW, DENY = 0x7fff0000, 0x00050000 | 1
CLONE_VM, CLONE_FILES = 0x100, 0x400
filters = {
    "memfd": [(LOAD, 0, 0, 0), (EQUAL, 0, 1, memfd_create), (RETURN, 0, 0, DENY), (RETURN, 0, 0, ALLOW)],
    "clone": [(LOAD, 0, 0, 0), (EQUAL, 0, 4, clone), (LOAD, 0, 0, 16), (SET, 2, 0, CLONE_VM),
              (SET, 0, 1, CLONE_FILES), (RETURN, 0, 0, DENY), (RETURN, 0, 0, ALLOW)],
}
code = b"".join(struct.pack("HBBI", *line) for line in filters[sys.argv[1]])
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, ctypes.byref(Program(len(code) // 8, code)), 0, 0) == 0  # PR_SET_SECCOMP
os.execvp(sys.argv[2], sys.argv[2:])
"#;

/// Returns the same command below the filter.
fn denying(what: &str, command: &Command) -> Command {
    let mut filtered = Command::new("python3");
    filtered.args(["-c", FILTER, what]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => filtered.env(name, value),
            None => filtered.env_remove(name),
        };
    }
    filtered
}

#[test]
fn where_the_system_denies_a_holder_one_process_serves_and_says_so_once() {
    if !skip::can_find("deaths::refused", &["python3"]) {
        return;
    }
    for (what, reason) in [
        ("memfd", "memory that outlives a process (memfd_create, mmap)"),
        ("clone", "a process that shares its descriptors (clone with CLONE_FILES)"),
    ] {
        let site = LoopbackSite::new();
        let target = Echo::start().address.to_string();
        let mut command = etcp(site.path(), ["sproxy", "--listen", "127.0.0.1:0", "--target"]);
        command.arg(target).arg("--identity").arg(site.server_key());
        command.arg("--authorized-keys").arg(site.authorized_keys());
        let command = denying(what, &command);
        let mut sproxy = RunningProgram::start("sproxy", site.path(), command);
        let line = sproxy.wait_for("listening on ");
        let address = line.rsplit_once(' ').expect("an address").1.parse().expect("an address");
        assert_eq!(worker_of(sproxy.id()), sproxy.id(), "{what}");
        let cproxy = Cproxy::start(&site, address, "cproxy").attached();
        Steady::start(cproxy.listen).finish();
        let said = format!(
            "WARN one process serves, and its death ends all sessions: {reason} is refused by a filter"
        );
        assert_eq!(sproxy.count(&said), 1, "{}", sproxy.log());
        assert_eq!(sproxy.count("WARN"), 1, "{}", sproxy.log());
        sproxy.signal(rustix::process::Signal::TERM);
        assert_eq!(sproxy.end().0, Some(0), "{}", sproxy.log());
    }
}
