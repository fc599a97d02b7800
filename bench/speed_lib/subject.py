"""One way from the load to the server, and how it comes up."""

import itertools

from common import netns

from . import load

# Every subject of a run has ports of its own, below those that the system chooses.
_ports = itertools.cycle(range(7100, 8900))


class Subject:
    """A path in a world: the proxies beside the client, and those beside the server."""

    key = title = ""
    is_encrypted = False
    load_flags = ()
    descriptors_each = 1
    # Whether a session is a process or a thread, so that twenty thousand would be unkind.
    is_light = True

    def __init__(self, world):
        self.world = world
        self.near, self.far = [], []
        self._logs = []
        self._server = world.start(
            world.server, [world.tools.load, *self.load_flags, "serve", f"0.0.0.0:{self.port()}"],
            self._log("server"))
        self.target = f"127.0.0.1:{self._port}"
        self.choose_address()
        self.start_far()
        self.start_near()
        self.wait_until_ready()

    def port(self):
        self._port = next(_ports)
        return self._port

    def choose_address(self):
        """Where the load connects."""
        self.address = f"127.0.0.1:{self.port()}"

    def start_far(self):
        """Starts what is beside the server."""

    def start_near(self):
        """Starts what is beside the client."""

    def wait_until_ready(self):
        load.run(self, "await")

    def launch(self, side, name, command):
        """Starts a proxy on a side, `near` or `far`, and counts it as one of it."""
        namespace = self.world.client if side == "near" else self.world.server
        process = self.world.start(namespace, command, self._log(name))
        getattr(self, side).append(process)
        return process

    def pids(self):
        return [process.pid for process in self.near + self.far]

    def logs(self):
        return "\n".join(self.world.log(name) for name in self._logs)

    def log_path(self, name):
        return self.world.folder / f"{self.key}-{name}-{id(self)}.log"

    def close(self):
        for process in self.near + self.far + [self._server]:
            netns.end(process)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _log(self, name):
        """A name for a log, kept for when something fails."""
        self._logs.append(f"{self.key}-{name}-{id(self)}")
        return self._logs[-1]
