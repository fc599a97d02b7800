"""Start: how big the programs are, and how soon they are ready."""

import os
import shutil

from common import netns

from ..subjects import SUBJECTS
from ..world import FastWorld

SECTION = "h"


def measure(run):
    keys = [key for key in run.chosen() if SUBJECTS[key].programs]
    for key in keys:
        with run.attempt(SECTION, key):
            run.results.add(SECTION, key, **sizes(run.tools, SUBJECTS[key].programs))
    for key in run.turns(keys, run.rounds(), "start"):
        with run.attempt(SECTION, key), FastWorld(run.tools) as world:
            with SUBJECTS[key](world) as subject:
                run.results.add(SECTION, key, far=subject.far_ready_after * 1000,
                                near=subject.near_ready_after * 1000)


def sizes(tools, programs):
    """KB of the files, as they are and stripped; libraries that they share do not count."""
    paths = [getattr(tools, name, None) or shutil.which(name) for name in programs]
    stripped = tools.folder / "stripped"
    total = 0
    for path in paths:
        netns.run(["strip", "-o", stripped, path])
        total += os.path.getsize(stripped)
    return {"file": sum(map(os.path.getsize, paths)) / 1024, "stripped": total / 1024}
