"""Measurements that need little of the machine, side by side."""

import concurrent.futures

from common import stop


def run(measure, lanes):
    """Calls `measure` with each of the lanes at the same time; the first error ends them all."""
    with concurrent.futures.ThreadPoolExecutor(len(lanes)) as pool:
        running = [pool.submit(measure, lane) for lane in lanes]
        try:
            for one in concurrent.futures.as_completed(running):
                one.result()
        except BaseException:
            stop.stop_all()
            raise
