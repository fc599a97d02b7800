"""Memory: of a process that does nothing, of idle sessions, and after a burst."""

import contextlib

from common import stop

from .. import load, process, tools
from ..subjects import SUBJECTS
from ..world import FastWorld

SECTION = "d"
SIDES = ("near", "far")
FEW, MANY = 1000, 20_000
BURST_STREAMS = 100
# How long memory may take to be given back, and what counts as settled: a second without change.
SETTLE_WITHIN, SETTLED_KB = 15, 16


def measure(run):
    for key in run.chosen():
        if key in ("direct", "mptcp"):
            continue
        run.say(f"memory: {key}")
        with run.attempt(SECTION, key):
            idle(run, key, FEW, "few", with_size=True)
        if SUBJECTS[key].is_light:
            with run.attempt(SECTION, key):
                most = tools.most_sessions(SUBJECTS[key].descriptors_each)
                idle(run, key, min(run.size(MANY, 2000), most), "many")
        with run.attempt(SECTION, key):
            burst(run, key)


def idle(run, key, count, name, with_size=False):
    """KB that each of `count` idle sessions adds to the proxies of each side."""
    with FastWorld(run.tools) as world:
        tunnels = 1
        while True:
            with SUBJECTS[key](world, **of_tunnels(tunnels)) as subject:
                # What is for the first session of all is not what a session costs.
                load.run(subject, "echo", 10, 0)
                pids = {side: [one.pid for one in getattr(subject, side)] for side in SIDES}
                before = {side: process.pss(pids[side]) for side in SIDES}
                if with_size:
                    run.results.add(SECTION, key, **{
                        f"size-{side}": process.rss(pids[side]) for side in SIDES})
                with sessions(subject, count) as opened:
                    if opened == count:
                        run.results.add(SECTION, key, **{
                            f"{name}-count": count, f"{name}-tunnels": tunnels}, **{
                            f"{name}-{side}": (process.pss(pids[side]) - before[side]) / count
                            for side in SIDES})
                        return
                    if key != "etcp" or opened == 0 or tunnels > 8:
                        raise load.Failed(f"{key}: {opened} of {count} sessions\n{subject.logs()}")
                    tunnels = -(-count // (opened // tunnels))


def of_tunnels(tunnels):
    return {"tunnels": tunnels} if tunnels > 1 else {}


@contextlib.contextmanager
def sessions(subject, count):
    """Idle sessions, spread over the subject's addresses; gives how many could be opened."""
    addresses = getattr(subject, "addresses", [subject.address])
    shares = [count // len(addresses) + (n < count % len(addresses))
              for n in range(len(addresses))]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(load.running(subject, "idle", share, address=address))
                   for address, share in zip(addresses, shares)]
        yield sum(client.line()["open"] for client in clients)


def burst(run, key):
    """What proxies hold before a burst, at its end, and when it has passed."""
    seconds = run.size(3, 1)
    with FastWorld(run.tools) as world, SUBJECTS[key](world) as subject:
        before = process.pss(subject.pids())
        for way in ("up", "down"):
            load.run(subject, "bulk", way, seconds, BURST_STREAMS, seconds=seconds)
        at_end = process.pss(subject.pids())
        after = settled(subject)
        run.results.add(SECTION, key, **{
            "burst-before": before, "burst-end": at_end, "burst-after": after})


def settled(subject):
    last = [process.pss(subject.pids())]

    def is_still():
        last.append(process.pss(subject.pids()))
        return len(last) > 3 and max(last[-3:]) - min(last[-3:]) <= SETTLED_KB

    stop.until(is_still, SETTLE_WITHIN, every=1)
    return last[-1]
