"""The programs that take part: found or built, and copied so that later builds do not matter."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

from common.keys import Keys
from common.machine import build

from .subjects import knows_mptcp
from .world import PORT, SERVER


class Programs:
    """etcp, linkem, pulse, and the keys of both sides of etcp."""

    def __init__(self, folder, given):
        built = None
        for name in ("etcp", "linkem", "pulse"):
            original = given.get(name)
            if not original:
                built = built or build("pulse")
                original = built / ("examples/pulse" if name == "pulse" else name)
            if not os.access(original, os.X_OK):
                sys.exit(f"{original} is missing: build it, or say where it is with --{name}")
            setattr(self, name, shutil.copy(original, pathlib.Path(folder) / name))
        self.keys = Keys(folder, (SERVER, PORT))
        self.knows_mptcp = knows_mptcp(self.etcp)
        self.digest = hashlib.sha256(pathlib.Path(self.etcp).read_bytes()).hexdigest()
        self.version = subprocess.run(
            [self.etcp, "--version"], capture_output=True, text=True).stdout.strip()
