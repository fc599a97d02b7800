"""The project's link emulator, as one link between two namespaces."""

import socket
import subprocess

from . import netns, stop


class Link:
    """A running `linkem` between two namespaces."""

    def __init__(self, program, folder, left, right, *settings):
        control, self._log = folder / "link", folder / "linkem.log"
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [program, "--left", left, "--right", right, "--control", control,
                 "--exit-with-stdin", *settings],
                stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True)
        self._socket = None
        stop.until(self._is_ready, 20)
        if self._process.poll() is not None or not self._is_ready():
            self.close()
            raise RuntimeError(f"linkem does not get ready: {self._log.read_text()}")
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        self._socket.connect(str(control))

    def set(self, setting):
        """Changes the link, and returns once it is changed."""
        self._socket.sendall(f"set {setting}\n".encode())
        answer = self._socket.recv(4096).decode().strip()
        if answer != "ok":
            raise RuntimeError(f"linkem: {answer or 'it ended'}: {setting}")

    def close(self):
        if self._socket:
            self._socket.close()
        netns.end(self._process)

    def _is_ready(self):
        return "ready" in self._log.read_text() or self._process.poll() is not None
