"""CPU time and memory of a process and its descendants."""

import collections
import os

TICKS = os.sysconf("SC_CLK_TCK")


def family(pid):
    """A process and all its descendants."""
    children = collections.defaultdict(list)
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(int(entry))):
            children[int(fields[1])].append(int(entry))
    found, queue = [], [pid]
    while queue:
        found.append(queue.pop())
        queue.extend(children[found[-1]])
    return found


def worker(pid):
    """The process of a proxy that serves: the main one, if that is its only one."""
    return next((member for member in family(pid) if _name(member) == "etcp: worker"), pid)


def cpu_seconds(pids):
    """Returns the CPU time of processes and their descendants, including those that have ended."""
    spent = 0
    for pid in pids:
        for member in family(pid):
            if fields := _stat(member):
                spent += sum(int(ticks) for ticks in fields[11:15])
    return spent / TICKS


def pss(pids):
    """Returns the KB that processes and their descendants hold. Shared memory is divided among them."""
    return sum(_field(f"/proc/{member}/smaps_rollup", "Pss:")
               for pid in pids for member in family(pid))


def rss(pids):
    """Returns the KB that are resident for processes and their descendants, shared or not."""
    return sum(_field(f"/proc/{member}/status", "VmRSS:")
               for pid in pids for member in family(pid))


def _name(pid):
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().rstrip("\n")
    except OSError:
        return None


def _stat(pid):
    """The fields of /proc/PID/stat after the name: state, parent, ..."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


def _field(path, name):
    try:
        with open(path) as file:
            for line in file:
                if line.startswith(name):
                    return int(line.split()[1])
    except OSError:
        pass  # it has ended
    return 0
