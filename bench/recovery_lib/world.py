"""A client with two uplinks, a router with NAT, a slow link, and a server.

    client                     router                              server
    up1 10.71.1.2 - c1 10.71.1.1  NAT to 10.71.9.1 \\
                                                    s1 - linkem - wan 10.71.9.10
    up2 10.71.2.2 - c2 10.71.2.1  NAT to 10.71.9.2 /

To the server, each uplink is another address, as two access networks are. Packets leave by the
uplink whose address they carry, as phones and NetworkManager set it up.
"""

import itertools
import os
import pathlib
import re
import shutil
import sys
import tempfile

from common import netns, stop
from common.linkem import Link

from . import conntrack

PORT = 6200
SERVER = "10.71.9.10"
RELAY_PORT = 6201

_numbers = itertools.count()


class World:
    """The namespaces and the programs in them. They are always closed at the end."""

    def __init__(self, programs, rtt_ms, has_both_uplinks, has_relay=False, nat_is_strict=False):
        self.programs, self.rtt = programs, rtt_ms / 1000
        self.has_both_uplinks = has_both_uplinks
        self.uplinks, self.default = set(), 1
        self.watchers = []  # told when an address comes and goes, as a network manager's are
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=netns.PREFIX))
        self._open = []
        self._processes = []
        try:
            self._build(has_relay, nat_is_strict)
        except BaseException:
            self.close()
            raise

    def _build(self, has_relay, nat_is_strict):
        name = f"{netns.PREFIX}{os.getpid()}-{next(_numbers)}"
        self.client, self.router, self.server = (
            self._keep(netns.Namespace(f"{name}-{role}"))
            for role in ("client", "router", "server"))
        for n in (1, 2):
            self.router.ip(
                f"link add c{n} type veth peer name up{n} netns {self.client.name}",
                f"addr add 10.71.{n}.1/24 dev c{n}", f"link set c{n} up")
            self.client.ip(f"link set up{n} up", f"rule add from 10.71.{n}.0/24 lookup 10{n}")
        self.link = self._keep(Link(
            self.programs.linkem, self.folder,
            f"{self.router.name}:s1=10.71.9.1/24,10.71.9.2/24",
            f"{self.server.name}:wan={SERVER}/24", f"delay={self.rtt * 500:g}ms"))
        self.router.sysctl("ipv4/ip_forward", 1)
        self.router.nft(RULES)
        self.conntrack = self._keep(conntrack.Table(self.router.name))
        if nat_is_strict:
            self.router.sysctl("netfilter/nf_conntrack_tcp_loose", 0)
            self.router.nft(STRICT_NAT)
        if has_relay:
            self._start_relay()
        for n in (2, 1) if self.has_both_uplinks else (1,):
            self.attach(n)

    def _start_relay(self):
        output = self.folder / "relay.log"
        program = pathlib.Path(__file__).with_name("relay.py")
        self.relay = self.start(
            self.router, [sys.executable, "-E", "-s", program, RELAY_PORT, SERVER, PORT], output)
        if not stop.until(lambda: "listening" in output.read_text(), 20):
            raise RuntimeError(f"the relay does not start: {output.read_text()}")
        self.router.nft(RELAYED)

    def attach(self, n):
        """Uplink `n` gets its address and the default route."""
        self.client.ip(
            f"addr replace 10.71.{n}.2/24 dev up{n}",
            f"route replace default via 10.71.{n}.1 dev up{n} table 10{n}",
            f"route replace default via 10.71.{n}.1 dev up{n}")
        self.uplinks.add(n)
        self.default = n
        for watcher in self.watchers:
            watcher.address_came(n)

    def detach(self, n):
        """Uplink `n` loses its address and its routes. Another one gets the default route."""
        self.client.ip(f"route flush table all proto boot dev up{n}",
                       f"addr flush dev up{n} scope global")
        self.uplinks.discard(n)
        if n == self.default:
            for other in self.uplinks:
                self.prefer(other)
        for watcher in self.watchers:
            watcher.address_went(n)

    def prefer(self, n):
        self.client.ip(f"route replace default via 10.71.{n}.1 dev up{n}")
        self.default = n

    def refresh(self, n):
        """Makes the paths over uplink `n` again if there are several. It keeps its address."""
        for watcher in self.watchers:
            watcher.address_went(n)
            watcher.address_came(n)

    def bytes_of(self, n):
        """Returns how much has passed uplink `n`, both ways together."""
        with open(self.client.proc("dev")) as file:
            text = file.read()
        fields = re.search(rf"up{n}:(.*)", text)[1].split()
        return int(fields[0]) + int(fields[8])

    def busy_uplink(self):
        """The uplink that the stream uses."""
        if len(self.uplinks) == 1:
            return next(iter(self.uplinks))
        before = {n: self.bytes_of(n) for n in self.uplinks}
        stop.sleep(0.25)
        return max(self.uplinks, key=lambda n: self.bytes_of(n) - before[n])

    def flows(self, n):
        """The connections that the router sees from uplink `n`."""
        table = conntrack.flows(self.router.proc("nf_conntrack"), PORT)
        return [flow for flow in table if flow.client == f"10.71.{n}.2"]

    def strike_flows(self, set_, flows):
        """Applies the router's rule about that set to the packets of these flows from now on."""
        self.router.nft("".join(
            f"add element ip world {set_} {{ {flow.client} . {flow.port} }}\n" for flow in flows))

    def start(self, namespace, command, output):
        process = namespace.start([str(word) for word in command], output)
        self._processes.append(process)
        return process

    def close(self):
        for process in reversed(self._processes):
            netns.end(process)
        for part in reversed(self._open):
            part.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _keep(self, part):
        self._open.append(part)
        return part


# Answers to the client are matched after their addresses were translated back, so a flow has the
# same name both ways. Packets are dropped where they are forwarded: a drop in a sender's own output
# hook would tell the sender so. Of a flow that is reset, the next packet that goes the stream's way
# becomes a RST for its receiver, and each later packet is answered with a RST.
RULES = """
table ip world {
  set drops       { type ipv4_addr . inet_service; }
  set resets_up   { type ipv4_addr . inet_service; }
  set resets_down { type ipv4_addr . inet_service; }

  chain nat {
    type nat hook postrouting priority srcnat;
    ip saddr 10.71.1.0/24 oifname "s1" snat to 10.71.9.1
    ip saddr 10.71.2.0/24 oifname "s1" snat to 10.71.9.2
  }

  chain forwarded {
    type filter hook forward priority filter; policy accept;
    iifname "c1" ip saddr != 10.71.1.0/24 drop
    iifname "c2" ip saddr != 10.71.2.0/24 drop
    ip saddr . tcp sport @drops drop
    ip daddr . tcp dport @drops drop
    ct mark 1 reject with tcp reset
    ip saddr . tcp sport @resets_up   ct mark set 1 tcp flags set rst accept
    ip daddr . tcp dport @resets_down ct mark set 1 tcp flags set rst accept
  }
}
"""

# Packets of unknown flows pass neither way, and nobody is notified.
STRICT_NAT = """
table ip strict {
  chain forwarded {
    type filter hook forward priority filter + 1; policy accept;
    ct state invalid drop
  }
  chain local {
    type filter hook input priority filter; policy accept;
    iifname "s1" drop
  }
}
"""

RELAYED = f"""
table ip relayed {{
  chain arriving {{
    type nat hook prerouting priority dstnat;
    iifname {{ "c1", "c2" }} tcp dport {PORT} redirect to :{RELAY_PORT}
  }}
}}
"""
