"""Connections on a cable: how many can be made in a second."""

from .. import load
from ..world import FastWorld

SECTION = "c"
AT_ONCE = {"one": 1, "many": 64}


def measure(run):
    seconds = run.size(0.7, 0.3)
    with FastWorld(run.tools) as world:
        subjects = run.start_all(SECTION, world, run.chosen())
        for key in run.turns(list(subjects), run.rounds(), "connections"):
            with run.attempt(SECTION, key):
                for name, at_once in AT_ONCE.items():
                    made = load.run(subjects[key], "rate", seconds, at_once, seconds=seconds)
                    run.results.add(
                        SECTION, key, **{name: made["connections"] / made["seconds"]})
