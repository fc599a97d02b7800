"""Attach: how long a session pauses when the carrier is replaced, with few and many sessions.

It is measured from outside, by messages every millisecond on one session of each tunnel: the
longest that one takes is the pause. The carrier is replaced at the user's word, or after a reset.
"""

import contextlib
import signal
import time

from common import stop

from .. import crowd, load, tools
from ..thousand import Thousand
from ..world import FastWorld

SECTION = "g"
SECONDS, INTERVAL_US = 1.5, 1000
COUNTS = {"one": 1, "few": 1000, "many": crowd.MANY}
CUTS = {"usr1": "at SIGUSR1", "reset": "after a RST"}
TUNNELS = 1000
MOST_THOUSANDS = 3
BACK_WITHIN = 90


def measure(run):
    if "etcp" not in run.chosen():
        return
    for name, count in COUNTS.items():
        count = min(count, run.size(crowd.MANY, 2000), tools.most_sessions(1))
        run.say(f"attach: {count} sessions")
        with run.attempt(SECTION, "etcp"), FastWorld(run.tools) as world:
            with crowd.gather(world, "etcp", count) as (subject, clients):
                run.results.add(SECTION, "etcp", **{
                    f"{name}-count": count, f"{name}-tunnels": len(clients)})
                for _ in range(run.rounds()):
                    for cut in CUTS:
                        run.results.add(
                            SECTION, "etcp", **{f"{cut}-{name}": pause(subject, cut)})
                alive = sum(client.ask()["alive"] for client in clients)
                if alive != count:
                    raise load.Failed(f"only {alive} of {count} sessions have survived")
    with run.attempt(SECTION, "etcp"):
        thousand(run)


def pause(subject, cut):
    """Milliseconds beyond the usual that a message takes while the carrier is replaced."""
    with contextlib.ExitStack() as stack:
        pings = [stack.enter_context(load.running(
                     subject, "ping", SECONDS, INTERVAL_US, address=place))
                 for place in crowd.addresses(subject)]
        for ping in pings:
            ping.line()
        strike(subject, cut)
        found = [ping.result(SECONDS) for ping in pings]
    return max(one["max"] - one["p50"] for one in found) / 1000


def strike(subject, cut):
    if cut == "usr1":
        for cproxy in subject.near:
            cproxy.send_signal(signal.SIGUSR1)
    else:
        reset(subject)


def reset(subject):
    """The kernel ends every carrier with a RST to both sides."""
    subject.world.server.run(["ss", "--kill", "--tcp", "state", "established",
                              f"sport = :{subject.server_port}"])


def thousand(run):
    """Measures the time until very many tunnels are back whose carriers were reset at once."""
    count = run.size(TUNNELS, 50)
    run.say(f"attach: {count} tunnels")
    with FastWorld(run.tools) as world, Thousand(world, count) as subject:
        for number in range(run.rounds(most=MOST_THOUSANDS)):
            wanted = (number + 1) * count
            started = time.monotonic()
            reset(subject)
            if not stop.until(lambda: subject.attached_again() >= wanted, BACK_WITHIN):
                raise load.Failed(f"{subject.attached_again()} of {wanted} attaches in "
                                  f"{BACK_WITHIN} s")
            run.results.add(SECTION, "etcp", **{
                "tunnels-count": count, "tunnels": (time.monotonic() - started) * 1000})
