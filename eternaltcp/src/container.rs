//! Detects whether this process runs in a container, and when the container started.

use std::fs;
use std::path::Path;

/// Files that container programs leave in them: Docker, Podman, systemd.
const MARKS: [&str; 3] = [".dockerenv", "run/.containerenv", "run/systemd/container"];

/// Variables that mark a container: those of Podman, LXC and systemd-nspawn, and of Kubernetes.
const VARIABLES: [&str; 2] = ["container", "KUBERNETES_SERVICE_HOST"];

/// Parts of the control group names that container programs choose.
const GROUPS: [&str; 7] =
    ["/docker/", "/docker-", "kubepods", "cri-containerd", "libpod-", "/lxc/", "/lxc.payload"];

/// Returns whether the files below `root` are those of a container. Mistaking a machine for a
/// container costs only a file.
pub(crate) fn is_here(root: &Path) -> bool {
    let read = |name: &str| fs::read(root.join(name)).unwrap_or_default();
    let text = |name: &str| String::from_utf8_lossy(&read(name)).into_owned();
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let first = read("proc/1/environ");
    let first_is_told = first.split(|byte| *byte == 0).any(|entry| {
        VARIABLES.iter().any(|name| {
            let value = entry.strip_prefix(name.as_bytes());
            value.is_some_and(|value| value.len() > 1 && value[0] == b'=')
        })
    });
    let groups = text("proc/1/cgroup") + &text("proc/self/cgroup");
    MARKS.iter().any(|mark| root.join(mark).exists())
        || VARIABLES.iter().any(is_set)
        || first_is_told
        || GROUPS.iter().any(|part| groups.contains(part))
        || is_root_overlay(&text("proc/self/mountinfo"))
}

/// Returns whether the root is an overlay, such as an image with a layer of changes
/// (proc_pid_mountinfo(5)).
fn is_root_overlay(mounts: &str) -> bool {
    mounts.lines().any(|line| {
        let place = line.split(' ').nth(4);
        let kind = line.split_once(" - ").and_then(|(_, rest)| rest.split(' ').next());
        place == Some("/")
            && kind.is_some_and(|kind| kind.ends_with("overlay") || kind == "overlayfs")
    })
}

/// Returns what distinguishes this container from all others: the namespace and the start time of
/// its first process.
pub(crate) fn container_boot() -> String {
    let space = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let stat = fs::read_to_string("/proc/1/stat").unwrap_or_default();
    // The name before it may contain anything; the start time is the 22nd field (proc_pid_stat(5)).
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let start = rest.split_ascii_whitespace().nth(19).unwrap_or_default();
    format!("{} {start}", space.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_known_by_each_of_its_marks() {
        let mount = "1 0 0:1 / / rw - overlay overlay rw";
        for (name, text, expected) in [
            ("proc/1/environ", "PATH=/bin\0HOME=/root\0", false),
            ("proc/1/environ", "container=\0mycontainer=x\0", false),
            ("proc/1/environ", "PATH=/bin\0container=lxc\0", true),
            ("proc/self/cgroup", "0::/user.slice/user-0.slice\n", false),
            ("proc/self/cgroup", "0::/system.slice/docker-0123.scope\n", true),
            ("proc/1/cgroup", "1:name=systemd:/kubepods/besteffort\n", true),
            (
                "proc/self/mountinfo",
                "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:2 / /x rw - overlay o rw",
                false,
            ),
            ("proc/self/mountinfo", mount, true),
            (".dockerenv", "", true),
            ("run/.containerenv", "", true),
            ("run/systemd/container", "systemd-nspawn", true),
        ] {
            let root = tempfile::tempdir().unwrap();
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            let is_told = VARIABLES.iter().any(|name| std::env::var_os(name).is_some());
            assert_eq!(is_here(root.path()), expected || is_told, "{name}: {text}");
        }
        assert_eq!(container_boot(), container_boot());
    }
}
