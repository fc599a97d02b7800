"""Network namespaces, and the programs that run in them."""

import os
import signal
import subprocess
import tempfile

PREFIX = "etcp-bench-"


class Namespace:
    """A namespace that exists until it is closed, with an `ip` in it that waits for commands."""

    def __init__(self, name):
        self.name = name
        run(["ip", "netns", "add", name])
        self._errors = tempfile.TemporaryFile()
        # One process for all: a command takes effect in a tenth of a millisecond.
        self._ip = subprocess.Popen(
            ["ip", "-oneline", "-n", name, "-force", "-batch", "-"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self._errors, start_new_session=True, text=True,
            bufsize=1)
        self.ip("link set lo up")

    def ip(self, *lines):
        """Runs commands of `ip`, and returns once the last one is done."""
        self._ip.stdin.write("".join(f"{line}\n" for line in lines) + "link show dev lo\n")
        self._ip.stdin.flush()
        answer = self._ip.stdout.readline()
        self._errors.seek(0)
        if (errors := self._errors.read()) or not answer:
            self._errors.truncate(0)
            raise RuntimeError(f"{self.name}: ip: {errors.decode().strip()}: {'; '.join(lines)}")

    def nft(self, script):
        self.run(["nft", "-f", "-"], script)

    def sysctl(self, path, value):
        self.run(["sh", "-c", f"echo {value} > /proc/sys/net/{path}"])

    def run(self, command, text=None):
        return run(self.inside(command), text)

    def start(self, command, output):
        """Starts a program with its output in the file `output` and a pipe as its stdin."""
        with open(output, "ab") as file:
            return subprocess.Popen(
                self.inside(command), stdin=subprocess.PIPE, stdout=file, stderr=file,
                start_new_session=True)

    def proc(self, path):
        """Reads a file under /proc/net inside the namespace."""
        return f"/proc/{self._ip.pid}/net/{path}"

    def listens(self, port):
        """Returns whether something listens on this TCP port."""
        for family in ("tcp", "tcp6"):
            with open(self.proc(family)) as file:
                for line in file.readlines()[1:]:
                    local, state = line.split()[1], line.split()[3]
                    if state == "0A" and int(local.rpartition(":")[2], 16) == port:
                        return True
        return False

    def close(self):
        end(self._ip)
        self._errors.close()
        remove(self.name)

    def inside(self, command):
        """Returns the command that runs another one in the namespace."""
        return ["nsenter", f"--net=/run/netns/{self.name}", "--", *command]


def run(command, text=None):
    """Runs a program to its end. Its error output becomes the exception's text."""
    outcome = subprocess.run(
        command, input=text, capture_output=True, text=True, start_new_session=True)
    if outcome.returncode != 0:
        said = (outcome.stderr or outcome.stdout).strip()
        raise RuntimeError(f"{' '.join(map(str, command))}: {said}\n{text or ''}")
    return outcome.stdout


def end(process):
    """Ends a program that this run has started, whatever state it is in."""
    if process.poll() is None:
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        try:
            if pipe:
                pipe.close()
        except OSError:
            pass  # what was left to write has nobody to read it


def remove(name):
    """Removes a namespace of ours and ends what still runs in it."""
    pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
    for pid in pids.stdout.split():
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            pass
    subprocess.run(["ip", "netns", "del", name], capture_output=True)


def remove_orphans():
    """Removes the namespaces that were left by runs whose process is gone."""
    try:
        names = os.listdir("/run/netns")
    except FileNotFoundError:
        return
    for name in names:
        owner = name.removeprefix(PREFIX).split("-")[0]
        if name.startswith(PREFIX) and not os.path.exists(f"/proc/{owner}"):
            remove(name)
