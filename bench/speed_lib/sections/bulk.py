"""Bulk on a cable: how much passes, and what it costs the proxies."""

from common import process

from .. import load
from ..world import FastWorld

SECTION = "a"
STREAMS = {"up": 1, "down": 1, "both": 1, "up16": 16, "down16": 16}


def measure(run):
    seconds = run.size(0.8, 0.15)
    with FastWorld(run.tools) as world:
        subjects = run.start_all(SECTION, world, run.chosen())
        for key in run.turns(list(subjects), run.rounds(), "bulk"):
            with run.attempt(SECTION, key):
                for name, streams in STREAMS.items():
                    way = name.removesuffix("16")
                    run.results.add(SECTION, key, **one(subjects[key], name, way, seconds, streams))


def one(subject, name, way, seconds, streams):
    before = process.cpu_seconds(subject.pids())
    bulk = load.run(subject, "bulk", way, seconds, streams, seconds=seconds)
    spent = process.cpu_seconds(subject.pids()) - before
    figures = {name: bulk["bytes"] / bulk["seconds"] / 1e6}
    if subject.pids():
        figures[f"cpu-{name}"] = spent / (bulk["bytes"] / 1e9)
    return figures
