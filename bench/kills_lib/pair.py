"""A cproxy and an sproxy on the loopback, and their sessions."""

import re
import socket
import subprocess
import time

from common.netns import end

START_WITHIN = 60
# Texts that no log may have, whatever dies.
TROUBLE = ("the peer broke the protocol", "cannot be resumed", "panicked", "gives up")


class Program:
    """One proxy: its main process, which starts its workers."""

    def __init__(self, name, command, log, environment):
        self.name, self._log = name, log
        with open(log, "wb") as file:
            self.process = subprocess.Popen(
                list(map(str, command)), stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                env=environment, start_new_session=True)

    def log(self):
        return self._log.read_text(errors="replace")

    def wait_for(self, pattern, count=1):
        """Returns the addresses in the lines that match, once there are `count` of them."""
        deadline = time.monotonic() + START_WITHIN
        while len(found := re.findall(pattern, self.log())) < count:
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"{self.name} has no line {pattern!r}:\n{self.log()[-2000:]}")
            time.sleep(0.01)
        return found

    def worker(self):
        """The process that serves, if there is one; the main one without a holder."""
        pid = self.process.pid
        try:
            with open(f"/proc/{pid}/task/{pid}/children") as file:
                children = file.read().split()
        except OSError:
            return None
        for child in children:
            try:
                with open(f"/proc/{child}/comm") as file:
                    if file.read().strip() == "etcp: worker":
                        return int(child)
            except OSError:
                pass
        return None


class Pair:
    def __init__(self, number, etcp, keys, folder, has_no_holder):
        self.number = number
        self._folder = folder / str(number)
        self._folder.mkdir()
        self.has_no_holder = has_no_holder
        flags = ["--no-holder"] if has_no_holder else []
        environment = {"HOME": str(folder), "PATH": "/usr/bin:/bin"}
        self._targets = [socket.create_server(("127.0.0.1", 0)), self._unix_listener("target")]
        tcp = "127.0.0.1:{}".format(self._targets[0].getsockname()[1])
        unix = f"unix:{self._folder / 'target'}"
        self.sessions, self.programs = [], []
        try:
            self.programs.append(Program("sproxy", [
                etcp, "sproxy", "--listen", "127.0.0.1:0", "--target", tcp, "--permit", unix,
                "--identity", keys.server, "--authorized-keys", keys.authorized_keys,
                "--control", self._folder / "far.sock", *flags],
                self._folder / "sproxy.log", environment))
            address = self.programs[0].wait_for(r"listening on (127\S+)")[0]
            self.programs.append(Program("cproxy", [
                etcp, "cproxy", "--server", address, "--listen", "127.0.0.1:0",
                "-L", f"unix:{self._folder / 'near'}:{unix}", "--identity", keys.client,
                "--accept-new", "--known-hosts", self._folder / "known_hosts",
                "--control", self._folder / "near.sock", *flags],
                self._folder / "cproxy.log", environment))
            near = self.programs[1]
            near.wait_for(r"attached")
            self._listen = near.wait_for(r"listening on (127\S+)")[0]
            near.wait_for(r"listening on \S*near")
        except BaseException:
            self.close()
            raise

    def _unix_listener(self, name):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self._folder / name))
        listener.listen()
        return listener

    def open_sessions(self, streams, count):
        for number in range(count):
            is_unix = number % 2 == 1
            if is_unix:
                application = socket.socket(socket.AF_UNIX)
                application.connect(str(self._folder / "near"))
            else:
                host, _, port = self._listen.rpartition(":")
                application = socket.create_connection((host, int(port)))
            self._targets[is_unix].settimeout(START_WITHIN)
            target = self._targets[is_unix].accept()[0]
            name = f"pair {self.number}, {'Unix' if is_unix else 'TCP'} session {number}"
            self.sessions.append(streams.add(name, application, target))

    def received(self):
        """For each session, how many bytes have arrived."""
        return [session.received() for session in self.sessions]

    def trouble(self):
        """A line that no log may have."""
        for program in self.programs:
            for line in program.log().splitlines():
                if any(words in line for words in TROUBLE):
                    return f"pair {self.number}, {program.name}: {line}"
        return None

    def close(self):
        for program in self.programs:
            end(program.process)
        for target in self._targets:
            target.close()
