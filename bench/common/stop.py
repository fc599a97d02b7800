"""Waiting that ends at once when the run is to end."""

import threading
import time


class Stopped(Exception):
    """The run ends: whoever waits cleans up and returns."""


_stop = threading.Event()


def stop_all():
    _stop.set()


def sleep(seconds):
    if _stop.wait(max(0, seconds)):
        raise Stopped


def until(condition, seconds, every=0.01):
    """Waits for a true value and returns it; after `seconds` returns what it is then."""
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        sleep(every)
    return value
