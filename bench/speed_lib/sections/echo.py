"""Echo on a cable: how long a small message takes, alone and among others."""

from .. import load
from ..world import FastWorld

SECTION = "b"
LEAST_ROUNDS = 15
OTHERS = {"alone": 0, "others": 100}


def measure(run):
    counts = {"alone": run.size(3000, 1000), "others": run.size(1500, 500)}
    with FastWorld(run.tools) as world:
        subjects = run.start_all(SECTION, world, run.chosen())
        for key in run.turns(list(subjects), run.rounds(least=LEAST_ROUNDS), "echo"):
            with run.attempt(SECTION, key):
                for name, others in OTHERS.items():
                    times = load.run(subjects[key], "echo", counts[name], others)
                    run.results.add(SECTION, key, **{
                        f"{name}-{part}": times[part] for part in ("p50", "p99", "p999")})
