"""The measured stream: 64 bytes every few ms, one way, checked byte by byte by `pulse`."""

import signal
import struct

from common import netns, stop

RECORD = struct.Struct("<QQQ")  # number, sent, arrived: nanoseconds of CLOCK_MONOTONIC
START_WITHIN = 30
END_WITHIN = 30


class Stream:
    """One stream through what a subject has set up, `up` to the server or `down` from it, with a
    message every `period` milliseconds."""

    def __init__(self, world, subject, direction, period):
        self.direction = direction
        self._file = world.folder / "arrivals"
        self._logs = {role: world.folder / f"{role}.log" for role in ("client", "server")}
        for path in (self._file, *self._logs.values()):
            path.write_bytes(b"")
        self.arrivals = []  # (sent, arrived) in seconds, the number is the index
        self._read = 0
        sends, receives = ("client", "server") if direction == "up" else ("server", "client")
        words = {sends: ["send"], receives: ["receive"]}
        pulse = [world.programs.pulse, *(["--mptcp"] if subject.application_mptcp else [])]
        ends = {}
        for role, namespace, how, address in (
                ("server", world.server, "listen", subject.server_address),
                ("client", world.client, "connect", subject.client_address)):
            last = self._file if role == receives else str(period)
            command = [*pulse, *words[role], how, address, last]
            ends[role] = world.start(namespace, command, self._logs[role])
            if role == "server":
                self._await(lambda: "listening" in self._said("server"), "listens")
        self._sender, self._receiver = ends[sends], ends[receives]
        self._sends, self._receives = sends, receives
        self._await(lambda: len(self.read()) > 20, "flows")

    def read(self):
        """All arrivals so far."""
        with open(self._file, "rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = len(data) - len(data) % RECORD.size
        self._read += whole
        self.arrivals.extend(
            (sent / 1e9, arrived / 1e9) for _, sent, arrived in RECORD.iter_unpack(data[:whole]))
        return self.arrivals

    def hold(self):
        """Stops sending. Everything that was sent arrives."""
        self._sender.send_signal(signal.SIGSTOP)

    def go_on(self):
        self._sender.send_signal(signal.SIGCONT)

    def is_over(self):
        """Whether one of its ends was told that the connection has ended."""
        return any(end.poll() is not None for end in (self._sender, self._receiver))

    def is_wrong(self):
        return self._receiver.poll() == 1

    def last_words(self):
        said = [self._said(role).strip().splitlines()[-1:] for role in ("client", "server")]
        return ", ".join(f"{role}: {line}" for role, lines in zip(("client", "server"), said)
                         for line in lines)

    def finish(self):
        """Ends the stream in order: `back`, or how that failed."""
        self._sender.stdin.close()
        ended = stop.until(
            lambda: all(end.poll() is not None for end in (self._sender, self._receiver)),
            END_WITHIN, every=0.05)
        sent, received = self._said(self._sends).split(), self._said(self._receives).split()
        if not ended:
            return "hangs"
        if sent[-2:-1] != ["sent"] or received[-2:-1] != ["received"]:
            return "wrong" if self.is_wrong() else "dies"
        return "back" if sent[-1] == received[-1] else "wrong"

    def close(self):
        for end in (self._sender, self._receiver):
            netns.end(end)

    def _said(self, role):
        return self._logs[role].read_text()

    def _await(self, condition, what):
        if not stop.until(condition, START_WITHIN):
            raise RuntimeError(f"no stream {what} within {START_WITHIN} s: {self.last_words()}")
