"""Echo beside bulk: a small message through the same proxies, on a slow link.

Each measurement has its own programs: data that one leaves in their queues does not affect the next.
"""

import functools

from .. import lanes, load
from ..subjects import SUBJECTS
from ..world import SlowWorld

SECTION = "f"
SUBJECT_ORDER = ("direct", "ssh", "etcp")
CONGESTION = ("cubic", "bbr")
LINK = "delay=20ms rate=50mbit queue=40ms"
WAYS = ("up", "down")


def measure(run):
    """Both kinds of congestion control at the same time, each on a link of its own."""
    lanes.run(functools.partial(measure_one, run), CONGESTION)


def measure_one(run, congestion):
    seconds = run.size(4, 1.5)
    with SlowWorld(run.tools, congestion) as world:
        world.link.set(LINK)
        what = f"echo beside bulk, {congestion}"
        for key in run.turns(run.chosen(*SUBJECT_ORDER), run.rounds(), what):
            for way in WAYS:
                with run.attempt(SECTION, key), SUBJECTS[key](world) as subject:
                    found = load.run(subject, "beside", way, seconds, seconds=seconds)
                    name = f"{congestion}-{way}"
                    run.results.add(SECTION, key, **{
                        f"{name}-p50": found["p50"] / 1000, f"{name}-p99": found["p99"] / 1000,
                        f"{name}-bulk": found["bytes_per_second"] / 1e6})
