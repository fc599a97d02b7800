"""Not yet."""


def measure(run):
    pass
