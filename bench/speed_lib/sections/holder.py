"""The holder: what it costs that sessions outlive the process that serves.

Both pairs of proxies run the same program, one of them with `--no-holder`. They take turns in short
rounds, so that a machine that is slow for a while is slow for both.
"""

from common import process

from .. import load
from ..encrypted import Etcp, EtcpWithoutHolder
from ..world import FastWorld

SECTION = "j"
LEAST_ROUNDS = 40
KINDS = {"with": Etcp, "without": EtcpWithoutHolder}
# The figures, each with its title and unit.
FIGURES = {"cpu-bulk": ("processor time for bulk up", "s/GB"),
           "cpu-echo": ("processor time for an echo", "µs"),
           "cpu-rate": ("processor time for a connection", "µs"),
           "bulk": ("bulk up", "MB/s"),
           "echo": ("echo of 64 bytes, p50", "µs"),
           "rate": ("connections, 64 at once", "/s")}


def measure(run):
    with FastWorld(run.tools) as world:
        subjects = {name: kind(world) for name, kind in KINDS.items()}
        for key in run.turns(list(subjects), run.rounds(least=LEAST_ROUNDS), "holder"):
            with run.attempt(SECTION, "etcp"):
                figures = one(run, subjects[key])
                run.results.add(
                    SECTION, "etcp", **{f"{key}-{name}": it for name, it in figures.items()})


def one(run, subject):
    seconds, count = run.size(0.4, 0.15), run.size(3000, 300)
    bulk, spent_bulk = timed(subject, "bulk", "up", seconds, 1, seconds=seconds)
    echo, spent_echo = timed(subject, "echo", count, 0)
    rate, spent_rate = timed(subject, "rate", seconds, 64, seconds=seconds)
    return {"bulk": bulk["bytes"] / bulk["seconds"] / 1e6,
            "cpu-bulk": spent_bulk / (bulk["bytes"] / 1e9),
            "echo": echo["p50"], "cpu-echo": spent_echo / count * 1e6,
            "rate": rate["connections"] / rate["seconds"],
            "cpu-rate": spent_rate / rate["connections"] * 1e6}


def timed(subject, *words, seconds=0):
    """Runs a mode. Returns its figures, and the processor time of the proxies."""
    before = process.cpu_seconds(subject.pids())
    figures = load.run(subject, *words, seconds=seconds)
    return figures, process.cpu_seconds(subject.pids()) - before
