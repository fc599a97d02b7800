"""The subjects that carry the stream: plain TCP, MPTCP, etcp."""

import datetime
import subprocess
import time

from common import stop

from .world import PORT, SERVER

START_WITHIN = 20


class Subject:
    """One route from the application to the server program, in one world."""

    key = title = ""
    has_proxies = False
    # Whether the death of one network may leave the connection alive.
    has_spare_paths = False
    has_both_uplinks = False
    application_mptcp = False
    # The addresses on which the server program listens and to which the application connects.
    server_address = client_address = f"{SERVER}:{PORT}"

    def __init__(self, world):
        self.world = world
        self.start()

    def start(self):
        pass

    def attaches(self):
        """Returns the times at which it attached again, by CLOCK_MONOTONIC."""
        return []

    def log(self, _since):
        return []


class Tcp(Subject):
    key, title = "tcp", "TCP"


class Endpoints:
    """Tells the kernel of each address as it comes and goes, as NetworkManager does."""

    def __init__(self, world):
        self.namespace = world.client
        for namespace in (world.client, world.server):
            namespace.run(["ip", "mptcp", "limits", "set", "subflows", "2",
                           "add_addr_accepted", "2"])
        for n in sorted(world.uplinks):
            self.address_came(n)
        world.watchers.append(self)

    def address_came(self, n):
        self.namespace.run(["ip", "mptcp", "endpoint", "add", f"10.71.{n}.2", "dev", f"up{n}",
                            "id", str(n), "subflow"])

    def address_went(self, n):
        self.namespace.run(["ip", "mptcp", "endpoint", "delete", "id", str(n)])


class Mptcp1(Subject):
    key, title = "mptcp-1", "MPTCP, one address"
    application_mptcp = True

    def start(self):
        Endpoints(self.world)


class Mptcp2(Mptcp1):
    key, title = "mptcp-2", "MPTCP, two addresses"
    has_both_uplinks = True


class Etcp(Subject):
    key, title = "etcp", "etcp"
    has_proxies = True
    server_address, client_address = "127.0.0.1:7000", "127.0.0.1:5200"
    mptcp = "off"

    def start(self):
        world, keys = self.world, self.world.programs.keys
        etcp = world.programs.etcp
        flags = ["--mptcp", self.mptcp] if world.programs.knows_mptcp else []
        self._log, far = world.folder / "cproxy.log", world.folder / "sproxy.log"
        self._logs = {"cproxy": self._log, "sproxy": far}
        # At the home folder sproxy stops checking who may write to the folders of its files.
        home = f"HOME={keys.authorized_keys.parent}"
        self.sproxy = world.start(world.server, [
            "env", home, etcp, "sproxy", "--listen", f"[::]:{PORT}", "--target", self.server_address,
            "--identity", keys.server, "--authorized-keys", keys.authorized_keys, *flags], far)
        self._await(far, "listening on", self.sproxy)
        self.cproxy = world.start(world.client, [
            etcp, "cproxy", "--server", f"{SERVER}:{PORT}", "--listen", self.client_address,
            "--identity", keys.client, "--known-hosts", keys.known_hosts, *flags], self._log)
        self._await(self._log, "attached (", self.cproxy)

    def attaches(self):
        return [at for at, line in self._lines() if "attached again" in line]

    def upgrades(self, proxy):
        """Returns the number of times that its program was replaced."""
        return self._logs[proxy].read_text(errors="replace").count("has taken over")

    def log(self, since):
        return [f"{at - since:+.4f} {line}" for at, line in self._lines() if at >= since]

    def _lines(self):
        """The lines of cproxy's log, with when they were written."""
        offset = time.time() - time.monotonic()
        for line in self._log.read_text(errors="replace").splitlines():
            stamp, _, text = line.partition(" ")
            try:
                at = datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00"))
            except ValueError:
                continue  # the rest of a longer message
            yield at.timestamp() - offset, text.strip()

    def _await(self, log, text, process):
        stop.until(lambda: text in log.read_text() or process.poll() is not None, START_WITHIN)
        if text not in log.read_text():
            raise RuntimeError(f"not '{text}' within {START_WITHIN} s: {log.read_text()[-2000:]}")


class EtcpMptcp(Etcp):
    key, title = "etcp-mptcp", "etcp, `--mptcp on`, two addresses"
    has_spare_paths = True
    has_both_uplinks = True
    mptcp = "on"

    def start(self):
        Endpoints(self.world)
        super().start()


SUBJECTS = {subject.key: subject for subject in (Etcp, EtcpMptcp, Tcp, Mptcp1, Mptcp2)}


def knows_mptcp(etcp):
    """Whether this program has the flag."""
    outcome = subprocess.run([etcp, "cproxy", "--help"], capture_output=True, text=True)
    return "--mptcp" in outcome.stdout
