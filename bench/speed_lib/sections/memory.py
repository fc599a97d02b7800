"""Memory: of a process that does nothing, of idle sessions, and after a burst."""

from common import stop

from common import process

from .. import crowd, load, tools
from ..subjects import SUBJECTS
from ..world import FastWorld

SECTION = "d"
SIDES = ("near", "far")
FEW = 1000
BURST_STREAMS = 100
WARM_UP = 0.2
# The time that memory may take to be given back, and what counts as settled: this many seconds without
# change.
SETTLE_WITHIN, SETTLED_FOR, SETTLED_KB = 15, 4, 16


def measure(run):
    for key in run.chosen():
        subject_type = SUBJECTS[key]
        if not subject_type.programs:
            continue
        run.say(f"memory: {key}")
        with run.attempt(SECTION, key):
            idle(run, key, run.size(FEW, 200), "few")
        if subject_type.is_light:
            most = tools.most_sessions(subject_type.descriptors_each)
            with run.attempt(SECTION, key):
                idle(run, key, min(run.size(crowd.MANY, 2000), most), "many")
        with run.attempt(SECTION, key):
            burst(run, key)


def idle(run, key, count, name):
    """KB that each of `count` idle sessions adds to the proxies of each side."""
    before, sizes = {}, {}

    def weigh(subject):
        # The first session has costs that further ones do not have.
        load.run(subject, "echo", 10, 0)
        before.update({side: process.pss(pids(subject, side)) for side in SIDES})
        sizes.update({f"size-{side}": process.rss(pids(subject, side)) for side in SIDES})

    with FastWorld(run.tools) as world:
        with crowd.gather(world, key, count, weigh) as (subject, clients):
            figures = {f"{name}-{side}": (process.pss(pids(subject, side)) - before[side]) / count
                       for side in SIDES}
        if name == "few":
            figures.update(sizes)
        run.results.add(SECTION, key, **figures, **{
            f"{name}-count": count, f"{name}-tunnels": len(clients)})


def pids(subject, side):
    return [one.pid for one in getattr(subject, side)]


def burst(run, key):
    """The memory of proxies before, during and after a burst."""
    seconds = run.size(3, 1)
    with FastWorld(run.tools) as world, SUBJECTS[key](world) as subject:
        # The code and tables for the first bytes do not count as memory left by a burst.
        load.run(subject, "bulk", "up", WARM_UP, 1, seconds=WARM_UP)
        before = settled(subject)
        load.run(subject, "bulk", "up", seconds, BURST_STREAMS, seconds=seconds)
        with load.running(subject, "bulk", "down", seconds, BURST_STREAMS) as bulk:
            stop.sleep(seconds / 2)
            amid = process.pss(subject.pids())
            bulk.result(seconds)
        run.results.add(SECTION, key, **{
            "burst-before": before, "burst-amid": amid, "burst-after": settled(subject)})


def settled(subject):
    last = [process.pss(subject.pids())]

    def is_still():
        last.append(process.pss(subject.pids()))
        latest = last[-SETTLED_FOR - 1:]
        return len(latest) > SETTLED_FOR and max(latest) - min(latest) <= SETTLED_KB

    stop.until(is_still, SETTLE_WITHIN, every=1)
    return last[-1]
