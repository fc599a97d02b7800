"""What is measured of a path: rate, CPU time, echo times, memory of idle sessions."""

import collections
import json
import os
import subprocess

TICKS = os.sysconf("SC_CLK_TCK")


class Results:
    """All samples of one path, by column."""

    def __init__(self):
        self.samples = collections.defaultdict(list)
        self.memory = (0.0, 0.0)


def measure_round(path, results, options):
    """One bulk stream each way, and the echoes."""
    for way in ("up", "down"):
        before = sum(cpu_seconds(pid) for pid in path.pids())
        bulk = load(path, way, options.seconds)
        spent = sum(cpu_seconds(pid) for pid in path.pids()) - before
        results.samples[way].append(bulk["bytes"] / bulk["seconds"] / 1e6)
        results.samples[f"cpu_{way}"].append(spent / (bulk["bytes"] / 1e9))
    echo = load(path, "echo", options.echoes)
    results.samples["p50"].append(echo["p50"])
    results.samples["p99"].append(echo["p99"])


def idle_memory(path, count):
    """KB that each of `count` idle sessions adds to the near and to the far proxy."""
    if not path.near:
        return (0.0, 0.0)
    before = [memory(process.pid) for process in (path.near, path.far)]
    client = subprocess.Popen(
        [path.bench.load, "idle", path.address, str(count)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        opened = client.stdout.readline()
        if not opened or json.loads(opened)["open"] != count:
            raise SystemExit(f"{path.name}: {count} sessions could not be opened\n{path.logs()}")
        after = [memory(process.pid) for process in (path.near, path.far)]
    finally:
        client.communicate()
    near, far = ((later - earlier) / count for later, earlier in zip(after, before))
    return (near, far)


def load(path, mode, amount):
    """Runs the load generator on a path and returns what it measured."""
    command = [path.bench.load, mode, path.address, str(amount)]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if outcome.returncode != 0:
        raise SystemExit(f"{path.name}: {mode} failed: {outcome.stderr}\n{path.logs()}")
    return json.loads(outcome.stdout)


def family(pid):
    """A process and all its descendants."""
    children = collections.defaultdict(list)
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := stat(int(entry))):
            children[int(fields[1])].append(int(entry))
    found, queue = [], [pid]
    while queue:
        found.append(queue.pop())
        queue.extend(children[found[-1]])
    return found


def cpu_seconds(pid):
    """CPU time of a process, its descendants, and those of them that have ended."""
    spent = 0
    for member in family(pid):
        if fields := stat(member):
            spent += sum(int(ticks) for ticks in fields[11:15])
    return spent / TICKS


def stat(pid):
    """The fields of /proc/PID/stat after the name: state, parent, ..."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


def memory(pid):
    """KB of a process and its descendants: PSS, or where it may not be read, RSS."""
    total = 0
    for member in family(pid):
        try:
            total += field(f"/proc/{member}/smaps_rollup", "Pss:")
        except OSError:
            try:
                total += field(f"/proc/{member}/status", "VmRSS:")
            except OSError:
                pass  # it has ended
    return total


def field(path, name):
    with open(path) as file:
        for line in file:
            if line.startswith(name):
                return int(line.split()[1])
    return 0
