"""The load generator's modes, as calls: each returns what it measured."""

import contextlib
import json
import subprocess

from common import netns

# Time that a mode may take beyond its own duration.
PATIENCE = 60


class Failed(Exception):
    """A path did not do what every path has to do; says which, and what its programs said."""


def run(subject, mode, *words, seconds=0):
    """One mode to its end."""
    with running(subject, mode, *words) as one:
        return one.result(seconds)


@contextlib.contextmanager
def running(subject, mode, *words, address=None):
    """A mode that goes on while others do something."""
    one = Running(subject, mode, words, address or subject.address)
    try:
        yield one
    finally:
        netns.end(one.process)


class Running:
    """A load generator at work."""

    def __init__(self, subject, mode, words, address):
        self._subject, self._mode = subject, mode
        tools = subject.world.tools
        command = ["taskset", "-c", str(tools.cores[0]), str(tools.load), *subject.load_flags,
                   mode, address, *map(str, words)]
        self.process = subprocess.Popen(
            subject.world.client.inside(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True)

    def line(self):
        """Its next line; the generator's own patience ends a wait that would be for ever."""
        if line := self.process.stdout.readline():
            return json.loads(line)
        raise self._failure()

    def ask(self):
        """A line of stdin, and the answer."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.line()

    def result(self, seconds):
        """The last line, once it has ended."""
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
