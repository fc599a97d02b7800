//! The memory that this process may use.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

/// The file systems of control groups, and the names of their memory limit files.
const VERSION_2: (&str, &[&str]) = ("cgroup2", &["memory.max", "memory.high"]);
const VERSION_1: (&str, &[&str]) = ("cgroup", &["memory.limit_in_bytes"]);

/// Returns the limit in bytes: the least of the machine's memory, the limits of the control groups
/// that contain the process, including parent groups, and the limits of setrlimit(2).
pub fn memory_limit() -> u64 {
    let info = rustix::system::sysinfo();
    #[allow(clippy::useless_conversion, reason = "the fields are of another width elsewhere")]
    let machine = u64::from(info.totalram) * u64::from(info.mem_unit);
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let groups = limits_of_groups(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
    let limits = [Resource::As, Resource::Data].map(|resource| getrlimit(resource).current);
    groups.into_iter().chain(limits.into_iter().flatten()).fold(machine, u64::min)
}

/// Returns the limits of all control groups that contain the process.
fn limits_of_groups(mounts: &str, groups: &str) -> Vec<u64> {
    let places = mounts.lines().filter_map(|line| Some((parse_mount(line)?, groups)));
    let places = places.flat_map(|(mount, groups)| {
        let (_, names) = mount.version;
        let folders = mount.folders(groups);
        folders.into_iter().flat_map(move |folder| names.iter().map(move |name| folder.join(name)))
    });
    // A missing limit does not limit, and neither does "max".
    places.filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok()).collect()
}

/// A mount point of control groups that limit memory.
#[derive(PartialEq, Eq, Debug)]
struct Mount {
    version: (&'static str, &'static [&'static str]),
    /// The group that is mounted there.
    root: String,
    at: PathBuf,
}

/// Parses a line of mountinfo, as proc_pid_mountinfo(5) describes it.
fn parse_mount(line: &str) -> Option<Mount> {
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, at) = (place.next()?, place.next()?);
    let mut kind = kind.split(' ');
    let (kind, options) = (kind.next()?, kind.nth(1)?);
    let version = [VERSION_1, VERSION_2].into_iter().find(|(name, _)| *name == kind)?;
    let is_memory = version == VERSION_2 || options.split(',').any(|option| option == "memory");
    let at = PathBuf::from(unescape(at));
    is_memory.then(|| Mount { version, root: unescape(root), at })
}

/// Decodes the octal escapes of spaces and some other characters.
fn unescape(text: &str) -> String {
    let codes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    codes.iter().fold(text.to_owned(), |text, (code, character)| text.replace(code, character))
}

impl Mount {
    /// Returns the folders of the process's group and of its parents, as far as they are visible.
    fn folders(&self, groups: &str) -> Vec<PathBuf> {
        let group = groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            let is_ours = if self.version == VERSION_2 {
                number == "0"
            } else {
                controllers.split(',').any(|name| name == "memory")
            };
            is_ours.then_some(path)
        });
        // In a container the mount shows less than the path names.
        let below = group.and_then(|path| Path::new(path).strip_prefix(&self.root).ok());
        let below = below.filter(|path| !path.iter().any(|part| part == ".."));
        let below = below.unwrap_or(Path::new(""));
        below.ancestors().map(|path| self.at.join(path)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
        24 30 0:22 / /proc rw,relatime - proc proc rw
33 32 0:29 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory
34 32 0:30 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
36 32 0:31 /user /mnt/a\\040b rw shared:9 - cgroup2 cgroup2 rw,nsdelegate
";

    fn folders(mount: &Mount, groups: &str) -> Vec<String> {
        mount.folders(groups).iter().map(|path| path.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn groups_of_memory_are_found_with_all_above_them() {
        let mounts: Vec<_> = MOUNTS.lines().filter_map(parse_mount).collect();
        let [first, second] = &mounts[..] else { panic!("{mounts:?}") };
        let groups = "12:pids:/x\n4:memory:/a/b\n0::/user/c\n";
        let all = ["/a/b", "/a", "/"].map(|path| format!("/sys/fs/cgroup/memory{path}"));
        assert_eq!(folders(first, groups), all);
        assert_eq!(folders(second, groups), ["/mnt/a b/c", "/mnt/a b/"]);
        // A group outside the mounted tree, as in a container.
        assert_eq!(folders(second, "0::/other/d\n"), ["/mnt/a b/"]);
        assert_eq!(folders(second, "0::/user/../d\n"), ["/mnt/a b/"]);
        assert_eq!(folders(second, ""), ["/mnt/a b/"]);
    }

    #[test]
    fn the_limits_of_every_group_count_and_none_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().to_str().unwrap();
        let groups = "0::/outer/inner\n";
        let mounts = format!("36 32 0:31 / {at} rw - cgroup2 cgroup2 rw\nnonsense\n");
        fs::create_dir_all(folder.path().join("outer/inner")).unwrap();
        assert!(limits_of_groups(&mounts, groups).is_empty());
        fs::write(folder.path().join("outer/inner/memory.max"), "max\n").unwrap();
        fs::write(folder.path().join("outer/inner/memory.high"), "3000\n").unwrap();
        fs::write(folder.path().join("outer/memory.max"), "2000\n").unwrap();
        assert_eq!(limits_of_groups(&mounts, groups), [3000, 2000]);
    }

    #[test]
    fn there_is_some_memory_and_no_more_than_the_machine_has() {
        assert!((1 << 20..1 << 50).contains(&memory_limit()));
    }
}
