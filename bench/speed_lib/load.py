"""The modes of the load generator, as functions that return the measured figures."""

import contextlib
import json
import subprocess

from common import netns

# Time that a mode may take beyond its own duration.
PATIENCE = 60


class Failed(Exception):
    """A path failed. The text names it, and has the output of its programs."""


def run(subject, mode, *words, seconds=0):
    """Runs one mode to its end."""
    with running(subject, mode, *words) as one:
        return one.result(seconds)


@contextlib.contextmanager
def running(subject, mode, *words, address=None):
    """Runs a mode beside other work."""
    one = Running(subject, mode, words, address or subject.address)
    try:
        yield one
    finally:
        netns.end(one.process)


class Running:
    """A running load generator."""

    def __init__(self, subject, mode, words, address):
        self._subject, self._mode = subject, mode
        tools = subject.world.tools
        command = ["taskset", "-c", str(tools.cores[0]), str(tools.load), *subject.load_flags,
                   mode, address, *map(str, words)]
        self.process = subprocess.Popen(
            subject.world.client.inside(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True)

    def line(self):
        """Returns its next line. The generator's own time-out limits the wait."""
        if line := self.process.stdout.readline():
            return json.loads(line)
        raise self._failure()

    def ask(self):
        """Sends a line to its stdin, and returns the answer."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.line()

    def result(self, seconds):
        """Waits for its end, and returns its last line."""
        try:
            output, errors = self.process.communicate(timeout=seconds + PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise self._failure(f"not done after {seconds + PATIENCE} s") from None
        if self.process.returncode != 0:
            raise self._failure(errors.strip())
        return json.loads(output.splitlines()[-1])

    def _failure(self, words=None):
        if words is None:
            words = self.process.communicate()[1].strip()
        return Failed(f"{self._subject.title}: {self._mode}: {words}\n{self._subject.logs()}")
