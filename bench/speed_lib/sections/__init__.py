"""The measurements: each module has a `measure` that takes the run and fills its results."""

from . import attach, beside, bulk, carriers, echo, holder, memory, paths, rate, start

SECTIONS = {"a": bulk, "b": echo, "c": rate, "d": memory, "e": paths, "f": beside, "g": attach,
            "h": start, "i": carriers, "j": holder}


def title(section):
    """Returns the subject of a section, in a few words."""
    return section.__doc__.splitlines()[0].partition(":")[0].rstrip(".").lower()
