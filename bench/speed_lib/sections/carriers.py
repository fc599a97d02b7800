"""Several carriers: what they could give on a lossy link, shown by as many tunnels with one each.

Each measurement has its own programs: what one has left in their queues does not meet the next.
"""

import contextlib
import functools

from common import stop

from .. import lanes, load
from ..encrypted import Etcp
from ..world import SlowWorld

SECTION = "i"
CONGESTION = ("cubic", "bbr")
LINK = "delay=40ms rate=100mbit queue=100ms"
LOSSES = ("0", "0.1", "1")
# What is in how many carriers.
SHARES = {"both": "one, for bulk and echo", "each": "two, one for each",
          "four": "four, with bulk in all", "eight": "eight, with bulk in all"}
BULK_ONLY = {"four": 4, "eight": 8}
MOST_ROUNDS = 3
# As the generator does it that has both in one process.
HEAD_START = 2


def measure(run):
    """Both kinds of congestion control at the same time, each on a link of its own."""
    if run.chosen(Etcp.key):
        lanes.run(functools.partial(measure_one, run), CONGESTION)


def measure_one(run, congestion):
    seconds = run.size(5, 1.5)
    shares = list(SHARES)
    with SlowWorld(run.tools, congestion) as world:
        for loss in LOSSES[:1] if run.options.quick else LOSSES:
            world.link.set(f"{LINK} loss={loss}%")
            what = f"several carriers, {congestion}, loss {loss} %"
            for share in run.turns(shares, run.rounds(MOST_ROUNDS), what):
                with run.attempt(SECTION, Etcp.key):
                    figures = measure_share(world, share, seconds)
                    run.results.add(SECTION, Etcp.key, **{
                        f"{congestion}-{loss}-{share}-{name}": value
                        for name, value in figures.items()})


def measure_share(world, share, seconds):
    if share == "both":
        with Etcp(world) as subject:
            found = load.run(subject, "beside", "down", seconds, seconds=seconds)
            return {"bulk": found["bytes_per_second"] / 1e6, **echo(found)}
    with Etcp(world, tunnels=BULK_ONLY.get(share, 2)) as subject, contextlib.ExitStack() as stack:
        whole = HEAD_START + seconds
        bulk = [stack.enter_context(load.running(
                    subject, "bulk", "down", whole, 1, address=address))
                for address in subject.addresses[share == "each":]]
        figures = {}
        if share == "each":
            stop.sleep(HEAD_START)
            figures = echo(load.run(subject, "ping", seconds, 20_000, seconds=seconds))
        done = [one.result(whole) for one in bulk]
        return {"bulk": sum(one["bytes"] / one["seconds"] for one in done) / 1e6, **figures}


def echo(found):
    return {part: found[part] / 1000 for part in ("p50", "p99")}
