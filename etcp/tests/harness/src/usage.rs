//! The resources of a running program, from /proc.

use std::time::Duration;

use super::process::Process;
use super::worker::{descriptors_of, memory_of, processes_of};

impl Process {
    /// Returns how many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(descriptors_of(self.id())).expect("the program runs").count()
    }

    /// Describes its descriptors, to show which one is too many.
    pub fn descriptor_names(&self) -> Vec<String> {
        let folder = std::fs::read_dir(descriptors_of(self.id())).expect("it runs");
        let link = |entry: std::fs::DirEntry| std::fs::read_link(entry.path()).ok();
        let mut names: Vec<_> =
            folder.flatten().filter_map(link).map(|name| name.display().to_string()).collect();
        names.sort();
        names
    }

    /// Returns how many threads serve.
    pub fn threads(&self) -> usize {
        let folder = format!("/proc/{}/task", self.worker());
        std::fs::read_dir(folder).expect("the program runs").count()
    }

    /// Returns the resident memory of its processes in bytes.
    pub fn memory(&self) -> u64 {
        memory_of(self.id())
    }

    /// Returns the processor time that its processes have used, all their threads together.
    pub fn processor_time(&self) -> Duration {
        processes_of(self.id()).into_iter().map(processor_time_of).sum()
    }
}

/// Returns the processor time that a process has used, all its threads together.
pub fn processor_time_of(process: u32) -> Duration {
    Duration::from_millis(ticks_of(process) * 1000 / rustix::param::clock_ticks_per_second())
}

fn ticks_of(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("the program runs");
    // The name, in brackets, may contain spaces: fields are counted after it (proc_pid_stat(5)).
    let rest = stat.rsplit_once(')').expect("a name in brackets").1;
    let fields = rest.split_whitespace().skip(11).take(2);
    fields.map(|field| field.parse::<u64>().expect("a number of ticks")).sum()
}
