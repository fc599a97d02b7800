"""Streams of bytes that do not repeat, both ways, each compared where it arrives."""

import random
import select
import socket
import time

# Bytes made at a time. Both ends make the same ones, in the same pieces.
PIECE = 4096
# A stream that is this many bytes ahead of its receiver waits.
AHEAD = 64 * 1024
# A session without progress for this many seconds is lost.
PATIENCE = 60.0


class Difference(Exception):
    """Something arrived that was not sent, or did not arrive, or ended early."""


class Pattern:
    """The bytes of one direction, which are taken in order."""

    def __init__(self, seed):
        self._random = random.Random(seed)
        self._rest = b""

    def take(self, count):
        while len(self._rest) < count:
            self._rest += self._random.randbytes(PIECE)
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken


class Direction:
    """One direction of a session."""

    def __init__(self, name, seed, sender, receiver):
        self.name, self.sender, self.receiver = name, sender, receiver
        self._sends, self._expects = Pattern(seed), Pattern(seed)
        self._waiting = b""
        self.sent = self.received = 0
        self.flips = False
        self.is_shut = self.is_over = False
        self.last_arrival = time.monotonic()
        self.longest_pause = 0.0

    def wants_to_send(self):
        return not self.is_shut and (self._waiting or self.sent - self.received < AHEAD)

    def send(self, length):
        if not self._waiting:
            self._waiting = self._sends.take(length)
            if self.flips:
                self._waiting = bytes([self._waiting[0] ^ 1]) + self._waiting[1:]
                self.flips = False
        try:
            count = self.sender.send(self._waiting)
        except BlockingIOError:
            return
        except OSError as error:
            raise Difference(f"{self.name}: the sender is told after {self.sent} bytes: {error}")
        self.sent += count
        self._waiting = self._waiting[count:]

    def finish(self):
        """Ends the stream once the piece that was begun is sent. Returns whether it has ended."""
        if self._waiting:
            self.send(0)
        if not self._waiting and not self.is_shut:
            self.sender.shutdown(socket.SHUT_WR)
            self.is_shut = True
        return self.is_shut

    def receive(self):
        """Returns how many bytes arrived, and were right."""
        try:
            data = self.receiver.recv(256 * 1024)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise Difference(
                f"{self.name}: the receiver is told after {self.received} bytes: {error}")
        now = time.monotonic()
        self.longest_pause = max(self.longest_pause, now - self.last_arrival)
        self.last_arrival = now
        if not data:
            if not self.is_shut or self.received != self.sent:
                raise Difference(f"{self.name} ends after {self.received} of {self.sent} bytes")
            self.is_over = True
            return 0
        expected = self._expects.take(len(data))
        if data != expected:
            at = next(at for at, (one, other) in enumerate(zip(data, expected)) if one != other)
            raise Difference(f"{self.name}: byte {self.received + at} is wrong")
        self.received += len(data)
        return len(data)


class Session:
    def __init__(self, name, seed, application, target):
        self.ends = (application, target)
        self.directions = (Direction(f"{name} up", f"{seed} up", application, target),
                           Direction(f"{name} down", f"{seed} down", target, application))
        for end in self.ends:
            end.setblocking(False)

    def received(self):
        return sum(direction.received for direction in self.directions)

    def close(self):
        for end in self.ends:
            end.close()


class Streams:
    """All sessions, served by one thread."""

    def __init__(self, seed):
        self.all = []
        self.compared = 0
        self._pauses = []
        self._random = random.Random(seed)
        self._seed = seed
        self._poll = select.epoll()
        self._receiving = {}

    def add(self, name, application, target):
        session = Session(name, f"{self._seed} {name}", application, target)
        self.all.append(session)
        for direction in session.directions:
            number = direction.receiver.fileno()
            self._receiving[number] = direction
            self._poll.register(number, select.EPOLLIN)
        return session

    def flip(self):
        """Lets one sender change a byte."""
        self._random.choice(self.all).directions[0].flips = True

    def work(self, seconds):
        """Moves what can be moved, and waits for more."""
        for session in self.all:
            for direction in session.directions:
                if direction.wants_to_send():
                    direction.send(self._random.randrange(1, 16 * 1024))
        self._receive(seconds)

    def _receive(self, seconds):
        for number, _ in self._poll.poll(seconds):
            direction = self._receiving[number]
            self.compared += direction.receive()
            if direction.is_over:
                self._poll.unregister(number)
        now = time.monotonic()
        for direction in self._receiving.values():
            if not direction.is_over and now - direction.last_arrival > PATIENCE:
                raise Difference(f"{direction.name}: nothing arrives for {PATIENCE:.0f} s, after "
                                 f"{direction.received} of {direction.sent} bytes")

    def finish(self):
        """Ends every stream in order, and waits until all have arrived."""
        directions = list(self._receiving.values())
        for direction in directions:
            direction.last_arrival = time.monotonic()
        while not all(direction.is_over for direction in directions):
            for direction in directions:
                direction.finish()
            self._receive(0.01)

    def pauses(self):
        """The longest pause of each direction: the median of them and the worst."""
        longest = sorted(direction.longest_pause for direction in self._receiving.values())
        if not longest:
            return "is unknown"
        return f"{longest[len(longest) // 2]:.2f} s in the median, {longest[-1]:.2f} s at most"

    def close(self):
        for session in self.all:
            session.close()
        self._poll.close()
