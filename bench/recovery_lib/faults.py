"""The faults of a path, and how soon the stream must be back."""

import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Callable

from common import process, stop

# Between the loss of one network and the next one's address.
NOWHERE = 0.2
# The time for which both uplinks are up in a soft move.
OVERLAP = 2.0
# The time for which the stream rests before a fault that it must not notice by itself, and up to a second
# more at random, so that the fault occurs at any phase of the heartbeats.
REST = 1.5
# The time for which an idle stream is left alone if nothing shows that it works again.
IDLE = 3.0
PATIENCE = 20


@dataclasses.dataclass
class Site:
    """The place of a fault."""

    world: object
    subject: object
    stream: object
    chance: object  # random numbers
    struck: int | None = None  # the uplink whose connections were hit, its addresses untouched

    def flows(self):
        """The connections on the uplink that the stream uses, which a fault must hit."""
        self.struck = self.world.busy_uplink()
        flows = self.world.flows(self.struck)
        if not flows:
            raise RuntimeError("there is no connection that the fault could hit")
        return flows


@dataclasses.dataclass
class Strike:
    """A fault that has happened; times by CLOCK_MONOTONIC."""

    begun: float
    done: float  # what is sent from now on must arrive
    works: float | None = None  # since when a path works again, if none did for a while
    counts_attach: bool = False  # the figure is when it was attached again, not a gap


@dataclasses.dataclass
class Fault:
    key: str
    title: str
    strike: Callable[[Site], Strike]
    counted: str  # from when to when
    wanted: tuple | None = None  # round trips and milliseconds
    most_attaches: int | None = None
    outage: float = 0
    is_quiet: bool = False  # mostly waiting: many worlds may do so side by side
    needs_proxies: bool = False
    is_long: bool = False  # only where it is asked for
    period: int = 10  # from one message to the next, in milliseconds
    world: dict = dataclasses.field(default_factory=dict)

    def limit(self, rtt_ms):
        return self.wanted and self.wanted[0] * rtt_ms + self.wanted[1]

    def patience(self):
        """Returns the time to wait for the stream once a path works."""
        return max(PATIENCE, self.outage + 5)

    def wanted_text(self):
        return "{} RTT + {} ms".format(*self.wanted) if self.wanted else ""


def now():
    return time.monotonic()


def reset(site):
    flows = site.flows()
    begun = now()
    site.world.strike_flows(f"resets_{site.stream.direction}", flows)
    return Strike(begun, now())


def drop(site):
    flows = site.flows()
    begun = now()
    site.world.strike_flows("drops", flows)
    return Strike(begun, now())


def end_in_order(site):
    begun = now()
    site.world.relay.stdin.write(b"\n")
    site.world.relay.stdin.flush()
    return Strike(begun, begun + 0.005)


def move_hard(site):
    """The uplink in use goes, then the other comes. A subject that has both keeps the other."""
    world, old = site.world, site.world.busy_uplink()
    begun = now()
    world.detach(old)
    if world.uplinks:
        return Strike(begun, now(), works=begun)
    stop.sleep(NOWHERE)
    works = now()
    world.attach(3 - old)
    return Strike(begun, now(), works)


def move_softly(site):
    world, old = site.world, site.world.busy_uplink()
    begun = now()
    if 3 - old in world.uplinks:
        world.prefer(3 - old)
    else:
        world.attach(3 - old)
    stop.sleep(OVERLAP)
    world.detach(old)
    return Strike(begun, now())


def drop_idle(site):
    flows = site.flows()
    site.stream.hold()
    stop.sleep(REST + site.chance.random())
    begun = now()
    site.world.strike_flows("drops", flows)
    if not site.subject.has_proxies or site.subject.has_spare_paths:
        # Perhaps no carrier has to be made: then only the stream shows that it works again.
        stop.sleep(IDLE)
        again = now()
        site.stream.go_on()
        return Strike(again, now(), works=again)
    stop.until(lambda: any(at >= begun for at in site.subject.attaches()), PATIENCE, every=0.05)
    site.stream.go_on()
    return Strike(begun, now(), counts_attach=True)


def forget(site):
    flows = site.flows()
    begun = now()
    for flow in flows:
        site.world.conntrack.forget(flow)
    return Strike(begun, now())


def silence(seconds):
    def strike(site):
        begun = now()
        site.world.link.set("silence=on")
        stop.sleep(seconds)
        works = now()
        site.world.link.set("silence=off")
        return Strike(begun, now(), works)
    return strike


def offline(seconds):
    """Link and address of every uplink go, and come back: the link first, as cable and DHCP do."""
    def strike(site):
        world, uplinks = site.world, sorted(site.world.uplinks)
        begun = now()
        for n in uplinks:
            world.client.ip(f"link set up{n} down")
            world.detach(n)
        stop.sleep(seconds)
        for n in uplinks:
            world.client.ip(f"link set up{n} up")
        stop.sleep(0.1)
        works = now()
        for n in reversed(uplinks):
            world.attach(n)
        return Strike(begun, now(), works)
    return strike


def halt(proxy, seconds):
    def strike(site):
        pids = process.family(getattr(site.subject, proxy).pid)
        begun = now()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            stop.sleep(seconds)
        finally:
            works = now()
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        return Strike(begun, now(), works)
    return strike


def kill(proxy):
    """Kills the process that serves, as its own fault or lack of memory would."""
    def strike(site):
        worker = process.worker(getattr(site.subject, proxy).pid)
        begun = now()
        os.kill(worker, signal.SIGKILL)
        return Strike(begun, now())
    return strike


def upgrade(proxy):
    """Replaces the program by itself. The old one serves until the new one could."""
    def strike(site):
        upgrades = site.subject.upgrades(proxy)
        begun = now()
        os.kill(getattr(site.subject, proxy).pid, signal.SIGUSR2)
        if not stop.until(lambda: site.subject.upgrades(proxy) > upgrades, PATIENCE):
            raise RuntimeError(f"the program of {proxy} is not replaced")
        return Strike(begun, now())
    return strike


GAP = "the longest gap"
BACK = "from when a path works again"

FAULTS = {fault.key: fault for fault in (
    Fault("reset", "both sides get a RST", reset, GAP, (3, 30)),
    Fault("fin", "both sides get a FIN", end_in_order, GAP, (3, 30), world={"has_relay": True}),
    Fault("move-hard", "moved: the old address goes, then another comes", move_hard,
          "from when the new path works", (3, 30), outage=NOWHERE),
    Fault("move-soft", "moved: another comes, then the old address goes", move_softly, GAP, (1, 20),
          outage=OVERLAP),
    Fault("drop-active", "the connection's packets vanish", drop, GAP, (5, 400)),
    Fault("drop-idle", "the same while nothing is sent", drop_idle,
          "from the fault to \"attached again\" in the log", (5, 1300), outage=REST + IDLE),
    Fault("nat", "a NAT forgot the connection", forget, GAP, (5, 400),
          world={"nat_is_strict": True}),
    Fault("silence-2", "nothing passes for 2 s", silence(2), BACK, (3, 350), outage=2,
          is_quiet=True),
    Fault("silence-30", "nothing passes for 30 s", silence(30), BACK, (3, 1750), outage=30,
          is_quiet=True),
    Fault("offline-3", "no network for 3 s", offline(3), BACK, (3, 250), outage=3, is_quiet=True),
    Fault("offline-60", "no network for 60 s", offline(60), BACK, (3, 250), outage=60,
          is_quiet=True),
    Fault("writes-90", "no network for 90 s, 64 bytes every 4 ms", offline(90), BACK, (3, 250),
          outage=90, is_quiet=True, period=4),
    Fault("writes-600", "no network for 600 s, 64 bytes every 4 ms", offline(600), BACK, (3, 250),
          outage=600, is_quiet=True, is_long=True, period=4),
    Fault("stop-own", "cproxy is stopped for 10 s", halt("cproxy", 10), "from when it goes on",
          most_attaches=0, outage=10, is_quiet=True, needs_proxies=True),
    Fault("stop-peer", "sproxy is stopped for 10 s", halt("sproxy", 10), "from when it goes on",
          (2, 100), most_attaches=1, outage=10, is_quiet=True, needs_proxies=True),
    Fault("kill-own", "cproxy's worker is killed", kill("cproxy"), GAP, (3, 100),
          needs_proxies=True),
    Fault("kill-peer", "sproxy's worker is killed", kill("sproxy"), GAP, (3, 100),
          needs_proxies=True),
    Fault("upgrade-own", "cproxy is upgraded", upgrade("cproxy"), GAP, (1, 100),
          needs_proxies=True),
    Fault("upgrade-peer", "sproxy is upgraded", upgrade("sproxy"), GAP, (3, 100),
          needs_proxies=True),
)}
