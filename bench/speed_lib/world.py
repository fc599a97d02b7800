"""A client and a server, each in a network namespace, and the link between them.

    fast    client 10.72.1.2 ── 10.72.1.1 server, a pair of veth

    slow    client 10.72.1.2 ── router ══ linkem ══ router ── server 10.72.3.2

On the slow path the bottleneck lies beyond the senders' own interfaces: otherwise the kernel would
see the queue there and hold back.
"""

import contextlib
import itertools
import os
import pathlib
import tempfile

from common import netns
from common.linkem import Link

# Ports for very many short connections, and room for those that have just ended.
SETTINGS = {"ipv4/ip_local_port_range": "9000 65000", "ipv4/tcp_max_tw_buckets": 4096,
            "ipv4/tcp_tw_reuse": 1, "ipv4/tcp_max_syn_backlog": 8192, "core/somaxconn": 8192}

_numbers = itertools.count()


class World:
    """The namespaces and the programs in them. They are always closed at the end."""

    client_host = "10.72.1.2"
    server_host = ""

    def __init__(self, tools):
        self.tools = tools
        self._stack = contextlib.ExitStack()
        self.folder = pathlib.Path(self._stack.enter_context(
            tempfile.TemporaryDirectory(prefix=netns.PREFIX)))
        self.folder.chmod(0o755)
        self._name = f"{netns.PREFIX}{os.getpid()}-{next(_numbers)}"
        try:
            self.client, self.server = self.namespace("client"), self.namespace("server")
            for namespace in (self.client, self.server):
                for path, value in SETTINGS.items():
                    namespace.sysctl(path, f"'{value}'")
            self.build()
        except BaseException:
            self.close()
            raise

    def build(self):
        raise NotImplementedError

    def namespace(self, role):
        return self._stack.enter_context(
            contextlib.closing(netns.Namespace(f"{self._name}-{role}")))

    def start(self, namespace, command, log):
        """Starts a program on the core of its side. It ends with the world at the latest."""
        core = self.tools.cores[namespace is self.server]
        pinned = ["taskset", "-c", str(core), *map(str, command)]
        process = namespace.start(pinned, self.folder / f"{log}.log")
        self._stack.callback(netns.end, process)
        return process

    def log(self, name):
        """The last lines of a program's log."""
        lines = (self.folder / f"{name}.log").read_text(errors="replace").splitlines()
        return "\n".join([f"--- {name}:", *lines[-12:]])

    def close(self):
        self._stack.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class FastWorld(World):
    server_host = "10.72.1.1"

    def build(self):
        self.client.ip(
            f"link add net0 type veth peer name wan netns {self.server.name}",
            "addr add 10.72.1.2/24 dev net0", "link set net0 up")
        self.server.ip(f"addr add {self.server_host}/24 dev wan", "link set wan up")


class SlowWorld(World):
    """Its link is set for each measurement. Its congestion control does not change."""

    server_host = "10.72.3.2"

    def __init__(self, tools, congestion):
        self._congestion = congestion
        super().__init__(tools)

    def build(self):
        near, far = self.namespace("near"), self.namespace("far")
        for namespace, router, net in ((self.client, near, 1), (self.server, far, 3)):
            router.ip(
                f"link add lan type veth peer name net0 netns {namespace.name}",
                f"addr add 10.72.{net}.1/24 dev lan", "link set lan up")
            namespace.ip(
                f"addr add 10.72.{net}.2/24 dev net0", "link set net0 up",
                f"route add default via 10.72.{net}.1 congctl {self._congestion}")
            router.sysctl("ipv4/ip_forward", 1)
        self.link = self._stack.enter_context(contextlib.closing(Link(
            self.tools.linkem, self.folder,
            f"{near.name}:slow=10.72.2.1/24", f"{far.name}:slow=10.72.2.2/24")))
        near.ip("route add 10.72.3.0/24 via 10.72.2.2")
        far.ip("route add 10.72.1.0/24 via 10.72.2.1")
