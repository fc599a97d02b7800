"""One route from the load to the server, and how it is started."""

import itertools
import time

from common import netns, stop

from . import load

# Every subject of a run has its own ports, below those that the system chooses.
_ports = itertools.cycle(range(7000, 9000))
# Each of its logs has a number, too.
_numbers = itertools.count()

LISTENS_WITHIN = 20


class Subject:
    """A path in a world: the proxies beside the client, and those beside the server."""

    key = title = ""
    load_flags = ()
    # The files that a user of it needs.
    programs = ()
    descriptors_each = 1
    # Whether a session is a process or a thread, so that twenty thousand would be too many.
    is_light = True

    def __init__(self, world):
        self.world = world
        self.near, self.far = [], []
        self._logs, self._number = [], next(_numbers)
        self._server = world.start(
            world.server, [world.tools.load, *self.load_flags, "serve", f"0.0.0.0:{self.port()}"],
            self._log("server"))
        self.target = f"127.0.0.1:{self._port}"
        self.await_listener(world.server, self._port)
        self.choose_address()
        started = time.monotonic()
        self.start_far()
        self.far_ready_after = time.monotonic() - started
        with load.running(self, "await") as waiting:
            waiting.line()
            started = time.monotonic()
            self.start_near()
            waiting.line()
            self.near_ready_after = time.monotonic() - started

    def port(self):
        self._port = next(_ports)
        return self._port

    def choose_address(self):
        """Returns the address to which the load connects."""
        self.address = f"127.0.0.1:{self.port()}"

    def start_far(self):
        """Starts what is beside the server, and returns when it listens."""

    def start_near(self):
        """Starts what is beside the client; the first echo shows that it works."""

    def await_listener(self, namespace, port):
        if not stop.until(lambda: namespace.listens(int(port)), LISTENS_WITHIN, every=0.001):
            raise load.Failed(f"{self.title}: nothing listens on port {port}\n{self.logs()}")

    def launch(self, side, name, command):
        """Starts a proxy on a side, `near` or `far`, and records it as a process of the subject."""
        namespace = self.world.client if side == "near" else self.world.server
        process = self.world.start(namespace, command, self._log(name))
        getattr(self, side).append(process)
        return process

    def pids(self):
        return [process.pid for process in self.near + self.far]

    def logs(self):
        return "\n".join(self.world.log(name) for name in self._logs if "server" not in name)

    def file(self, name):
        """A path for a file of this subject's own."""
        return self.world.folder / f"{self.key}-{id(self)}-{name}"

    def close(self):
        for process in self.near + self.far + [self._server]:
            netns.end(process)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _log(self, name):
        """Returns a name for a log, which is kept in case something fails."""
        log = f"{self.key}-{name}-{self._number}"
        if log not in self._logs:
            self._logs.append(log)
        return log
