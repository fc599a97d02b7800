#!/usr/bin/env python3
"""A TCP proxy in the path, as some networks have one: `relay.py LISTEN-PORT HOST PORT`.

It connects each connection it accepts to HOST:PORT. A line on its stdin makes it end both halves of
every connection that there is: either side gets a FIN, and nothing more. It ends with its stdin.
"""

import os
import socket
import sys
import threading


class Pair:
    """One connection through the relay."""

    def __init__(self, near):
        self.near, self.far = near, None
        self.is_ended = False

    def run(self):
        try:
            self.far = socket.create_connection(UPSTREAM, timeout=30)
        except OSError:
            self.near.close()
            return
        for side in (self.near, self.far):
            side.settimeout(None)
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=self.carry, args=(self.far, self.near), daemon=True).start()
        self.carry(self.near, self.far)

    def carry(self, source, sink):
        try:
            while data := source.recv(65536):
                # After the end the sides stay open, so that late packets do not cause an RST.
                if not self.is_ended:
                    sink.sendall(data)
        except OSError:
            pass
        shut(sink)

    def end(self):
        self.is_ended = True
        for side in filter(None, (self.near, self.far)):
            shut(side)


def shut(side):
    try:
        side.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # it is broken already


def follow_stdin(pairs):
    while sys.stdin.readline():
        for pair in list(pairs):
            pair.end()
    os._exit(0)


def main():
    listener = socket.create_server(("", int(sys.argv[1])), backlog=128)
    pairs = []
    threading.Thread(target=follow_stdin, args=(pairs,), daemon=True).start()
    print("listening", flush=True)
    while True:
        pairs.append(Pair(listener.accept()[0]))
        threading.Thread(target=pairs[-1].run, daemon=True).start()


UPSTREAM = (sys.argv[2], int(sys.argv[3])) if __name__ == "__main__" else None

if __name__ == "__main__":
    main()
