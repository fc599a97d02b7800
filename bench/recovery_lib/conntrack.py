"""The router's table of tracked connections: reading it, and taking an entry out.

The second needs a few bytes of netlink: the program `conntrack` is rarely installed.
"""

import collections
import ctypes
import os
import socket
import struct
import threading

Flow = collections.namedtuple("Flow", "client port server server_port")

CLONE_NEWNET = 0x40000000
NETLINK_NETFILTER = 12
DELETE = 1 << 8 | 2  # of the subsystem ctnetlink
REQUEST, ACK = 1, 4
NESTED = 0x8000


def flows(table, port):
    """Returns the established connections to `port`, with the addresses that the client uses."""
    found = []
    with open(table) as file:
        for line in file:
            if " ESTABLISHED " in line and f" dport={port} " in line:
                # The client's direction comes first, then the translated answer.
                fields = {}
                for word in line.split():
                    key, is_field, value = word.partition("=")
                    if is_field:
                        fields.setdefault(key, value)
                found.append(Flow(
                    fields["src"], int(fields["sport"]), fields["dst"], int(fields["dport"])))
    return found


class Table:
    """A way to change the table of one namespace."""

    def __init__(self, namespace):
        self._socket = _inside(namespace, lambda: socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER))
        self._socket.settimeout(10)

    def forget(self, flow):
        """Takes the entry out, as a NAT does that was restarted."""
        addresses = _attribute(1, socket.inet_aton(flow.client)) \
            + _attribute(2, socket.inet_aton(flow.server))
        ports = _attribute(1, bytes([socket.IPPROTO_TCP])) \
            + _attribute(2, struct.pack(">H", flow.port)) \
            + _attribute(3, struct.pack(">H", flow.server_port))
        original = _attribute(
            1 | NESTED, _attribute(1 | NESTED, addresses) + _attribute(2 | NESTED, ports))
        body = struct.pack("BBH", socket.AF_INET, 0, 0) + original
        self._socket.send(struct.pack("IHHII", 16 + len(body), DELETE, REQUEST | ACK, 1, 0) + body)
        error, = struct.unpack_from("i", self._socket.recv(4096), 16)
        if error:
            raise RuntimeError(f"the router keeps {flow}: {os.strerror(-error)}")

    def close(self):
        self._socket.close()


def _attribute(kind, value):
    padding = b"\0" * (-len(value) % 4)
    return struct.pack("HH", 4 + len(value), kind) + value + padding


def _inside(namespace, work):
    """Runs `work` on a thread inside the namespace; a socket that it makes stays there."""
    result = []

    def enter():
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{namespace}") as file:
            if libc.setns(file.fileno(), CLONE_NEWNET) == 0:
                result.append(work())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if not result:
        raise RuntimeError(f"cannot enter {namespace}")
    return result[0]
