"""Kills workers at random instants."""

import os
import random
import signal
import time

# A holder gives up at ten deaths within ten seconds.
LEAST_LIFE, MOST_LIFE = 1.13, 1.6


class Victim:
    """A program whose worker is killed again and again."""

    def __init__(self, pair, program, at):
        self.pair, self.program, self.at = pair, program, at
        self.last = None
        self.received = pair.received()

    def is_due(self, now):
        """Whether its worker may be killed: its time has come, and every session has moved since
        the last death."""
        if now < self.at or self.program.process.poll() is not None:
            return False
        since = zip(self.pair.received(), self.received)
        return all(received > before for received, before in since)


class Killer:
    def __init__(self, pairs, seed):
        self._random = random.Random(seed)
        self.count = 0
        now = time.monotonic()
        self._victims = [Victim(pair, program, now + self._life())
                         for pair in pairs for program in pair.programs]

    def _life(self):
        return self._random.uniform(LEAST_LIFE, MOST_LIFE)

    def strike(self, most):
        """Kills the workers whose time has come."""
        now = time.monotonic()
        for victim in self._victims:
            if self.count >= most:
                return
            if victim.is_due(now):
                self._kill(victim, now)

    def _kill(self, victim, now):
        pid = victim.program.process.pid if victim.pair.has_no_holder else victim.program.worker()
        if pid is None or pid == victim.last:
            return
        os.kill(pid, signal.SIGKILL)
        self.count += 1
        victim.last, victim.at = pid, now + self._life()
        victim.received = victim.pair.received()
