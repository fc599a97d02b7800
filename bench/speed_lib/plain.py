"""Subjects without encryption: direct TCP, MPTCP, a pair of socat, a pair of haproxy."""

from . import tools
from .subject import Subject


class Direct(Subject):
    key, title = "direct", "direct TCP"

    def choose_address(self):
        self.address = f"{self.world.server_host}:{self.target.rpartition(':')[2]}"


class Mptcp(Direct):
    key, title = "mptcp", "MPTCP"
    load_flags = ("--mptcp",)


class Socat(Subject):
    key, title = "socat", "socat pair"
    programs = ("socat",)
    is_light = False

    def start_far(self):
        self._middle = f"{self.world.server_host}:{self.port()}"
        self.launch("far", "far", command_of_socat(self._middle, self.target))
        self.await_listener(self.world.server, self._port)

    def start_near(self):
        self.launch("near", "near", command_of_socat(self.address, self._middle))


def command_of_socat(listen, target):
    host, _, port = listen.rpartition(":")
    return ["socat", "-b", "65536",
            f"TCP-LISTEN:{port},bind={host},reuseaddr,fork,nodelay,backlog=4096",
            f"TCP:{target},nodelay"]


class Haproxy(Subject):
    key, title = "haproxy", "haproxy pair"
    programs = ("haproxy",)
    descriptors_each = 2

    def start_far(self):
        self._middle = f"{self.world.server_host}:{self.port()}"
        self.launch("far", "far", self._command("far", self._middle, self.target))
        self.await_listener(self.world.server, self._port)

    def start_near(self):
        self.launch("near", "near", self._command("near", self.address, self._middle))

    def _command(self, side, listen, target):
        config = self.file(f"{side}.cfg")
        most = tools.most_sessions(self.descriptors_each)
        config.write_text(HAPROXY.format(listen=listen, target=target, most=most))
        return ["haproxy", "-db", "-f", config]


HAPROXY = """
global
  nbthread 1
  maxconn {most}
defaults
  mode tcp
  timeout connect 10s
  timeout client 1h
  timeout server 1h
  maxconn {most}
listen relay
  bind {listen} backlog 4096
  server target {target}
"""
