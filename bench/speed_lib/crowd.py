"""Very many idle sessions at once, over as few tunnels as possible."""

import contextlib

from . import load
from .subjects import SUBJECTS

MANY = 20_000
MOST_TUNNELS = 16


@contextlib.contextmanager
def gather(world, key, count, once_started=lambda _subject: None):
    """A subject with this many idle sessions, and the clients that hold them.

    If one tunnel of etcp's does not take them all, the subject starts again with more of them.
    """
    tunnels = 1
    while True:
        arguments = {"tunnels": tunnels} if tunnels > 1 else {}
        with SUBJECTS[key](world, **arguments) as subject:
            once_started(subject)
            with clients_of(subject, count) as clients:
                opened = sum(client.line()["open"] for client in clients)
                if opened == count:
                    yield subject, clients
                    return
            in_each = opened // tunnels
            if key != "etcp" or not in_each or count > in_each * MOST_TUNNELS:
                raise load.Failed(f"{subject.title}: only {opened} of {count} sessions could be "
                                  f"opened\n{subject.logs()}")
        tunnels = max(tunnels + 1, -(-count // in_each))


def addresses(subject):
    """Returns the addresses to connect to, one for each tunnel."""
    return getattr(subject, "addresses", [subject.address])


@contextlib.contextmanager
def clients_of(subject, count):
    """Starts clients that open this many sessions, evenly over the subject's addresses."""
    places = addresses(subject)
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(load.running(
                   subject, "idle", count // len(places) + (number < count % len(places)),
                   address=place))
               for number, place in enumerate(places)]
