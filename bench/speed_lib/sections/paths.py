"""Far and lossy paths: a bulk stream on links of 100 Mbit/s.

Each measurement has its own programs: data that one leaves in their queues does not affect the next.
"""

import functools

from .. import lanes, load
from ..subjects import SUBJECTS
from ..world import SlowWorld

SECTION = "e"
SUBJECT_ORDER = ("direct", "etcp")
CONGESTION = ("cubic", "bbr")
RTTS = (1, 20, 80, 200)
LOSSES = ("0", "0.1", "1")
MOST_ROUNDS = 3
# These have limits, and therefore as many rounds as everything else.
WANTED = (200, "0")


def measure(run):
    """Both kinds of congestion control at the same time, each on a link of its own."""
    lanes.run(functools.partial(measure_one, run), CONGESTION)


def measure_one(run, congestion):
    cells = [(rtt, loss) for rtt in RTTS for loss in LOSSES]
    if run.options.quick:
        cells = [(20, "0"), WANTED]
    with SlowWorld(run.tools, congestion) as world:
        for number in range(run.rounds()):
            for cell in cells:
                if number < MOST_ROUNDS or cell == WANTED:
                    measure_cell(run, world, congestion, *cell, number)


def seconds_of(rtt, loss):
    """Returns a duration in which the start of the stream matters little."""
    return 8 if (rtt, loss) == WANTED else 3 + rtt / 100


def measure_cell(run, world, congestion, rtt, loss, number):
    seconds = run.size(seconds_of(rtt, loss), 1.5)
    run.say(f"paths, {congestion}: round {number + 1}, RTT {rtt} ms, loss {loss} %")
    world.link.set(f"delay={rtt * 500}us rate=100mbit queue=100ms loss={loss}%")
    keys = run.chosen(*SUBJECT_ORDER)
    for key in keys[number % 2:] + keys[:number % 2]:
        with run.attempt(SECTION, key), SUBJECTS[key](world) as subject:
            bulk = load.run(subject, "bulk", "down", seconds, 1, seconds=seconds)
            run.results.add(SECTION, key, **{
                f"{congestion}-{rtt}-{loss}": bulk["bytes"] / bulk["seconds"] / 1e6})
