"""All samples of all cells: which world takes which, how many worlds at once, and where they go."""

import concurrent.futures
import contextlib
import dataclasses
import json
import math
import random
import sys
import threading
import time
import traceback

from common import stop

from . import sample
from .faults import FAULTS, Site
from .stream import Stream
from .subjects import SUBJECTS
from .world import World

# Samples that one world takes: few, so that long cells are spread over many worlds.
PER_WORLD = 5
# The time to make a world, start the proxies and the stream, and end all of it.
PER_WORLD_SECONDS = 3
TRIES = 2


@dataclasses.dataclass(frozen=True)
class Cell:
    """One figure of the table."""

    subject: str
    fault: str
    rtt: float
    direction: str

    def name(self):
        return f"{self.subject}/{self.fault}-{self.rtt:g}-{self.direction}.json"

    def __str__(self):
        return f"{self.subject}, {self.fault}, RTT {self.rtt:g}, {self.direction}"


def cells(options):
    """Sorts so that the subjects take turns."""
    return [
        Cell(subject, fault, rtt, direction)
        for fault in options.faults for rtt in options.rtt for direction in ("up", "down")
        for subject in options.subjects
        if SUBJECTS[subject].has_proxies or not FAULTS[fault].needs_proxies
    ]


def samples_of(cell, options):
    if cell.subject == "etcp":
        return options.samples
    return min(options.samples, options.baseline_samples)


class Run:
    """The results so far, and the run that completes them."""

    def __init__(self, options, programs, folder):
        self.options, self.programs, self.folder = options, programs, folder
        self.results = {}
        self._lock = threading.Lock()
        self._making = threading.Lock()
        self._parts = {}
        self._taken = 0
        self._done = 0.0
        self.errors = []
        for cell in cells(options):
            if options.resume and (known := self._load(cell)):
                self.results[cell] = known

    def missing(self):
        return [cell for cell in cells(self.options) if cell not in self.results]

    def planned(self, is_quiet):
        """Worlds to make: a cell and how many samples."""
        jobs = []
        for cell in self.missing():
            if FAULTS[cell.fault].is_quiet == is_quiet:
                count = samples_of(cell, self.options)
                jobs += [(cell, number, min(PER_WORLD, count - number))
                         for number in range(0, count, PER_WORLD)]
        if is_quiet:  # the longest first, so that no single one is left at the end
            jobs.sort(key=lambda job: -FAULTS[job[0].fault].outage)
        return jobs

    def at_once(self, is_quiet):
        """Short faults need a processor that answers at once: fewer of them at a time."""
        return self.options.worlds if is_quiet else max(1, self.options.worlds // 4)

    def work(self, cell, count):
        """The part of the whole time that a world takes, among the others of its kind."""
        return self.seconds(cell, count) / self.at_once(FAULTS[cell.fault].is_quiet)

    def seconds(self, cell, count):
        """About how long a world takes."""
        fault = FAULTS[cell.fault]
        seconds = sample.seconds_of(fault)
        if not SUBJECTS[cell.subject].has_proxies:
            seconds += 0.6 * fault.patience()  # most of them do not come back
        return PER_WORLD_SECONDS + count * seconds

    def complete(self):
        phases = [(is_quiet, self.planned(is_quiet)) for is_quiet in (False, True)]
        self._work = sum(self.work(cell, count) for _, jobs in phases for cell, _, count in jobs)
        longest = [max((self.seconds(cell, count) for cell, _, count in jobs), default=0)
                   for _, jobs in phases]
        self._total = max(self._work, sum(longest))
        self._count = sum(count for _, jobs in phases for _, _, count in jobs)
        worlds = sum(len(jobs) for _, jobs in phases)
        say(f"{self._count} samples in {worlds} worlds, about {minutes(self._total)}; "
            f"{len(self.results)} cells are there already")
        self._started = time.monotonic()
        for is_quiet, jobs in phases:
            self._run_phase(jobs, is_quiet)

    def _run_phase(self, jobs, is_quiet):
        count = self.at_once(is_quiet)
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            futures = [pool.submit(self._run_job, *job) for job in jobs]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                stop.stop_all()
                for future in futures:
                    future.cancel()
                raise

    def _run_job(self, cell, number, count):
        # Worlds that start together would wait together.
        stop.sleep(random.random())
        chance = random.Random(f"{cell} {number}")
        taken = []
        for attempt in range(TRIES):
            try:
                self._take(cell, count, taken, chance)
                break
            except stop.Stopped:
                raise
            except Exception as error:
                if attempt + 1 == TRIES:
                    self.errors.append(f"{cell}: {error}")
                say(f"{cell}: {error}")
                if self.options.debug:
                    traceback.print_exc()
        self._keep(cell, taken, count)

    def _take(self, cell, count, taken, chance):
        """Adds to `taken` until there are `count`; a stream that is lost needs a new world."""
        subject_type, fault = SUBJECTS[cell.subject], FAULTS[cell.fault]
        while len(taken) < count:
            with contextlib.ExitStack() as stack:
                with self._making:  # one at a time: it costs more than all that follows
                    world = stack.enter_context(contextlib.closing(World(
                        self.programs, cell.rtt, subject_type.has_both_uplinks, **fault.world)))
                    subject = subject_type(world)
                    stream = Stream(world, subject, cell.direction, fault.period)
                site = Site(world, subject, stream, chance)
                before = len(taken)
                try:
                    while len(taken) < count and lives(taken[before:]):
                        taken.append(sample.take(site, fault))
                        sample.restore(site)
                    end = stream.finish() if lives(taken[before:]) else "back"
                except sample.Stalled:
                    if len(taken) == before:
                        raise
                    end = sample.outcome(stream, False)
                if end != "back":
                    # It came back, but not permanently.
                    taken[-1].update(outcome=end, pause=None, words=stream.last_words())

    def _keep(self, cell, taken, planned):
        with self._lock:
            self._taken += planned
            self._done += self.work(cell, planned)
            samples, open_ = self._parts.setdefault(
                cell, ([], math.ceil(samples_of(cell, self.options) / PER_WORLD)))
            samples.extend(taken)
            self._parts[cell] = (samples, open_ - 1)
            self._say_progress(cell, taken)
            if open_ == 1 and samples:
                self.results[cell] = samples
                path = self.folder / cell.name()
                path.parent.mkdir(parents=True, exist_ok=True)
                whole = path.with_suffix(".new")
                whole.write_text(json.dumps(
                    {**dataclasses.asdict(cell), "program": self._program(cell),
                     "samples": samples}, indent=1))
                whole.replace(path)

    def _load(self, cell):
        """The results of an earlier run, if they are of the same program and enough."""
        try:
            known = json.loads((self.folder / cell.name()).read_text())
        except OSError:
            return None
        is_same = known["program"] == self._program(cell)
        is_enough = len(known["samples"]) >= samples_of(cell, self.options)
        return known["samples"] if is_same and is_enough else None

    def _program(self, cell):
        return self.programs.digest if SUBJECTS[cell.subject].has_proxies else ""

    def _say_progress(self, cell, taken):
        pauses = [f"{one['pause']:.0f}" if one["pause"] is not None else one["outcome"]
                  for one in taken]
        elapsed, share = time.monotonic() - self._started, min(1, self._done / self._work)
        left = elapsed * (1 - share) / share if share > 0.2 else max(0, self._total - elapsed)
        say(f"{self._taken:5} of {self._count}, about {minutes(left)} left: {cell}: "
            f"{' '.join(pauses)}")


def lives(taken):
    return not taken or taken[-1]["outcome"] == "back"


def minutes(seconds):
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def say(text):
    print(f"  {text}", file=sys.stderr, flush=True)
