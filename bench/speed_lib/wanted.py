"""The limits for etcp compared with the others, and whether it meets them."""

import dataclasses

from .sections import attach, beside, paths

TUNNELS = ("ssh", "stunnel", "rathole")


@dataclasses.dataclass
class Goal:
    """One figure and its limit; `is_least` says on which side of it the figure is to be."""

    what: str
    figure: float | None
    limit: float
    is_least: bool = False
    unit: str = ""

    @property
    def is_met(self):
        return self.figure >= self.limit if self.is_least else self.figure <= self.limit

    def limit_text(self):
        return f"{'≥' if self.is_least else '≤'} {self.limit:g}{self.unit}"

    def figure_text(self):
        return f"{self.figure:.2f}{self.unit}"


def goals(results):
    """All figures that could be checked. Figures that were not measured are left out."""
    found = [*_bulk(results), *_echo(results), *_rate(results), *_memory(results),
             *_beside(results), *_paths(results), *_attach(results)]
    return [goal for goal in found if goal.figure is not None]


def _bulk(results):
    for way in ("up", "down"):
        yield Goal(f"bulk {way}, of the socat pair",
                   results.ratio("a", "etcp", "socat", way), 0.9, is_least=True)
        yield Goal(f"bulk {way}, of the fastest of ssh, stunnel and rathole",
                   _beside_best(results, way, max), 1.5, is_least=True)
        yield Goal(f"CPU per GB {way}, of the cheapest of those three",
                   _beside_best(results, f"cpu-{way}", min), 0.7)


def _beside_best(results, name, best):
    mine = results.median("a", "etcp", name)
    others = [value for key in TUNNELS if (value := results.median("a", key, name)) is not None]
    return mine / best(others) if others and mine is not None else None


def _echo(results):
    for part, limit in (("p50", 1.1), ("p99", 1.3)):
        yield Goal(f"echo {part}, of the socat pair",
                   results.ratio("b", "etcp", "socat", f"alone-{part}"), limit)


def _rate(results):
    for name, title in (("one", "one after the other"), ("many", "64 at once")):
        yield Goal(f"connections a second, {title}, of the haproxy pair",
                   results.ratio("c", "etcp", "haproxy", name), 1, is_least=True)


def _memory(results):
    for name in ("few", "many"):
        count = results.median("d", "etcp", f"{name}-count")
        for side, proxy in (("near", "cproxy"), ("far", "sproxy")):
            yield Goal(f"an idle session, of {count}, in {proxy}",
                       results.median("d", "etcp", f"{name}-{side}"), 3, unit=" KB")
    for side, proxy in (("near", "cproxy"), ("far", "sproxy")):
        size = results.median("d", "etcp", f"size-{side}")
        yield Goal(f"an idle {proxy}", size and size / 1024, 8, unit=" MB")
    before, after = (results.median("d", "etcp", f"burst-{when}") for when in ("before", "after"))
    yield Goal("memory after a burst, of that before it", before and after / before, 1.25)


def _beside(results):
    for congestion in beside.CONGESTION:
        for way in beside.WAYS:
            name = f"{congestion}-{way}"
            for part, limit in (("p50", 1.1), ("p99", 1.5)):
                yield Goal(f"echo {part} beside bulk {way}, {congestion}, of direct TCP",
                           results.ratio("f", "etcp", "direct", f"{name}-{part}"), limit)
            yield Goal(f"bulk {way} beside the echo, {congestion}, of direct TCP",
                       results.ratio("f", "etcp", "direct", f"{name}-bulk"), 0.9, is_least=True)


def _paths(results):
    rtt, loss = paths.WANTED
    for congestion in paths.CONGESTION:
        yield Goal(f"bulk at RTT {rtt} ms, {congestion}, of direct TCP",
                   results.ratio("e", "etcp", "direct", f"{congestion}-{rtt}-{loss}"), 0.95,
                   is_least=True)


def _attach(results):
    count = results.median("g", "etcp", "many-count")
    for cut, title in attach.CUTS.items():
        took = results.median("g", "etcp", f"{cut}-many")
        yield Goal(f"attach of {count} sessions {title}", took and took / 1000, 1, unit=" s")
