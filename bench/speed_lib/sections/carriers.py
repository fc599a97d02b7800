"""Several carriers of one tunnel on a lossy link: bulk alone, and beside keystrokes.

Each measurement has its own programs: data that one leaves in their queues does not affect the next.
"""

import functools

from .. import lanes, load
from ..encrypted import Etcp
from ..world import SlowWorld

SECTION = "i"
CONGESTION = ("cubic", "bbr")
LINK = "delay=40ms rate=100mbit queue=100ms"
LOSSES = ("0", "0.1", "1")
COUNTS = (1, 4, 8)
# The measurements with each count.
KINDS = ("alone", "typing")
MOST_ROUNDS = 3


def measure(run):
    """Both kinds of congestion control at the same time, each on a link of its own."""
    if run.chosen(Etcp.key):
        lanes.run(functools.partial(measure_one, run), CONGESTION)


def measure_one(run, congestion):
    seconds = run.size(5, 1.5)
    cases = [(count, kind) for count in COUNTS for kind in KINDS]
    with SlowWorld(run.tools, congestion) as world:
        for loss in LOSSES[:1] if run.options.quick else LOSSES:
            world.link.set(f"{LINK} loss={loss}%")
            what = f"several carriers, {congestion}, loss {loss} %"
            for count, kind in run.turns(cases, run.rounds(MOST_ROUNDS), what):
                with run.attempt(SECTION, Etcp.key):
                    figures = measure_case(world, count, kind, seconds)
                    run.results.add(SECTION, Etcp.key, **{
                        f"{congestion}-{loss}-{count}-{kind}-{name}": value
                        for name, value in figures.items()})


def measure_case(world, count, kind, seconds):
    with Etcp(world, carriers=count) as subject:
        subject.await_carriers()
        if kind == "alone":
            found = load.run(subject, "bulk", "down", seconds, 1, seconds=seconds)
            return {"bulk": found["bytes"] / found["seconds"] / 1e6}
        found = load.run(subject, "beside", "down", seconds, seconds=seconds)
        return {"bulk": found["bytes_per_second"] / 1e6,
                **{part: found[part] / 1000 for part in ("p50", "p99")}}
