"""The common parts of all sections: options, tools, results, and reports of progress."""

import contextlib
import sys
import time

from common import stop

from . import load
from .subjects import SUBJECTS


class Run:
    """One run of the bench."""

    def __init__(self, options, tools, results):
        self.options, self.tools, self.results = options, tools, results
        self.started = time.monotonic()
        self.kept = []  # titles of sections that an earlier run has measured

    def chosen(self, *keys):
        """Returns which of these subjects take part. Without names: which of all."""
        return [key for key in keys or SUBJECTS if key in self.options.subjects]

    def size(self, usual, quick):
        """Returns an amount: that of a whole run, or of a quick one."""
        return quick if self.options.quick else usual

    def rounds(self, most=None, least=1):
        """Returns the number of rounds: as requested, at least `least` and at most `most`."""
        count = max(self.options.rounds, least if not self.options.quick else 1)
        return min(count, most) if most else count

    def turns(self, subjects, rounds, what):
        """Yields every subject in every round, starting with another one each time, so that a machine
        that is slow for a while is slow for all."""
        for number in range(rounds):
            self.say(f"{what}: round {number + 1} of {rounds}")
            turn = number % max(1, len(subjects))
            yield from subjects[turn:] + subjects[:turn]

    @contextlib.contextmanager
    def attempt(self, section, subject):
        """Records a failure of the body, which is reported at the end. The run continues."""
        stop.sleep(0)
        try:
            yield
        except (load.Failed, RuntimeError) as error:
            if subject == "direct":
                raise  # then nothing could be compared
            self.results.fail(section, subject, str(error))
            self.say(f"{subject} failed: {error}")

    def start_all(self, section, world, keys):
        """Starts these subjects. Returns the subjects that could be started, by key."""
        started = {}
        for key in keys:
            with self.attempt(section, key):
                started[key] = SUBJECTS[key](world)
        return started

    def say(self, text):
        passed = time.monotonic() - self.started
        print(f"  {passed:5.0f} s  {text}", file=sys.stderr, flush=True)
