"""One fault in one world, and the pause that it causes."""

import statistics
import time

from common import stop

# The time before each fault: long enough for the effects of the last one to end.
CALM = 3.0
# A random time in addition, so that faults occur at any phase of the heartbeats.
SCATTER = 1.0
# The time for which the stream is watched once it flows again.
AFTER = 0.5
HEALTHY_WINDOW = 1.0


class Stalled(Exception):
    """The stream does not flow although nothing has happened to its path for a while."""


def take(site, fault):
    """Causes the fault once, and measures. There is no pause if the stream did not come back."""
    stop.sleep(CALM + SCATTER * site.chance.random())
    healthy = [after - before for before, after in gaps(site.stream.read(), since=now()
                                                        - HEALTHY_WINDOW)]
    if len(healthy) < 0.7 * HEALTHY_WINDOW / (fault.period / 1000):
        raise Stalled(f"the stream does not flow before the fault: {site.stream.last_words()}")
    strike = fault.strike(site)
    is_back = await_flow(site.stream, strike.done, fault.patience())
    stop.sleep(AFTER + site.world.rtt)
    site.stream.read()
    result = {
        "outcome": outcome(site.stream, is_back),
        "pause": None,
        "healthy": milliseconds(statistics.median(healthy)),
        "healthy_worst": milliseconds(max(healthy)),
    }
    if site.subject.has_proxies:
        attaches = [at for at in site.subject.attaches() if at >= strike.begun]
        result["attaches"] = len(attaches)
        result["log"] = site.subject.log(strike.begun)
    if result["outcome"] != "back":
        result["words"] = site.stream.last_words()
        return result
    if strike.counts_attach:
        if not attaches:
            result["outcome"] = "hangs"
            return result
        pause = attaches[0] - strike.begun
    else:
        pause = longest(site.stream.arrivals, strike) - statistics.median(healthy)
    result["pause"] = max(0, milliseconds(pause))
    if strike.works:
        result["written"] = milliseconds(written_after(site.stream.arrivals, strike.works))
        result["outage"] = milliseconds(strike.works - strike.begun)
    return result


def await_flow(stream, done, patience):
    """Whether something that was sent after `done` arrives in time."""
    def is_settled():
        arrivals = stream.read()
        return arrivals and arrivals[-1][0] >= done or stream.is_over()
    stop.until(is_settled, done + patience - now(), every=0.02)
    return bool(stream.arrivals) and stream.arrivals[-1][0] >= done


def outcome(stream, is_back):
    if stream.is_wrong():
        return "wrong"
    if stream.is_over():
        return "dies"
    return "back" if is_back else "hangs"


def longest(arrivals, strike):
    """The longest gap since the fault, or the part of it since a path works again."""
    start = strike.works or 0
    return max((after - max(before, start) for before, after in gaps(arrivals, since=max(
        start, strike.begun))), default=0)


def written_after(arrivals, works):
    """Returns the time from when a path works again until the arrival of the first byte written after that."""
    return next(arrived for sent, arrived in arrivals if sent >= works) - works


def gaps(arrivals, since):
    """Pairs of consecutive arrivals, the later one after `since`; only the last ones."""
    pairs = []
    for index in range(len(arrivals) - 1, 0, -1):
        if arrivals[index][1] <= since:
            break
        pairs.append((arrivals[index - 1][1], arrivals[index][1]))
    return pairs


def restore(site):
    """Restores the world to its state before the fault."""
    world = site.world
    if world.has_both_uplinks:
        for n in {1, 2} - world.uplinks:
            world.attach(n)
        if site.struck:
            world.refresh(site.struck)
    site.struck = None


def seconds_of(fault):
    """Returns the approximate duration of one sample, if the stream comes back."""
    return CALM + SCATTER / 2 + fault.outage + AFTER + 1


def now():
    return time.monotonic()


def milliseconds(seconds):
    return round(seconds * 1000, 3)
