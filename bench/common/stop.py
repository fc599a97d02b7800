"""Waits that end at once when the run has to end."""

import threading
import time


class Stopped(Exception):
    """The run ends: every waiting thread cleans up and returns."""


_stop = threading.Event()


def stop_all():
    _stop.set()


def sleep(seconds):
    if _stop.wait(max(0, seconds)):
        raise Stopped


def until(condition, seconds, every=0.01):
    """Waits for a true value and returns it. After `seconds` it returns the current value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        sleep(every)
    return value
