//! The resources of a running program, from /proc.

use std::time::Duration;

use super::process::Process;

impl Process {
    /// Returns how many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.id());
        std::fs::read_dir(folder).expect("the program runs").count()
    }

    /// Describes its descriptors, to show which one is too many.
    pub fn descriptor_names(&self) -> Vec<String> {
        let folder = std::fs::read_dir(format!("/proc/{}/fd", self.id())).expect("it runs");
        let link = |entry: std::fs::DirEntry| std::fs::read_link(entry.path()).ok();
        let mut names: Vec<_> =
            folder.flatten().filter_map(link).map(|name| name.display().to_string()).collect();
        names.sort();
        names
    }

    /// Returns how many threads it has.
    pub fn threads(&self) -> usize {
        let folder = format!("/proc/{}/task", self.id());
        std::fs::read_dir(folder).expect("the program runs").count()
    }

    /// Returns its resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))
            .expect("the program runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kibibytes.expect("/proc tells the memory") * 1024
    }

    /// Returns the processor time it has used, all its threads together.
    pub fn processor_time(&self) -> Duration {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", self.id())).expect("the program runs");
        // The name, in brackets, may contain spaces: fields are counted after it
        // (proc_pid_stat(5)).
        let rest = stat.rsplit_once(')').expect("a name in brackets").1;
        let ticks: u64 = rest
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().expect("a number of ticks"))
            .sum();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }
}
