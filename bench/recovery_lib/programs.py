"""The programs that take part: found or built, and copied: later builds disturb nothing."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

from .subjects import Keys, knows_mptcp

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PACKAGES = {"ip": "iproute2", "nft": "nftables", "nsenter": "util-linux",
            "ssh-keygen": "openssh-client"}


class Programs:
    """etcp, linkem, pulse, and the keys of both sides of etcp."""

    def __init__(self, folder, given):
        built = None
        for name in ("etcp", "linkem", "pulse"):
            original = given.get(name)
            if not original:
                built = built or build()
                original = built / ("examples/pulse" if name == "pulse" else name)
            if not os.access(original, os.X_OK):
                sys.exit(f"{original} is missing: build it, or say where it is with --{name}")
            setattr(self, name, shutil.copy(original, pathlib.Path(folder) / name))
        self.keys = Keys(folder)
        self.knows_mptcp = knows_mptcp(self.etcp)
        self.digest = hashlib.sha256(pathlib.Path(self.etcp).read_bytes()).hexdigest()
        self.version = subprocess.run(
            [self.etcp, "--version"], capture_output=True, text=True).stdout.strip()


def build():
    command = ["cargo", "build", "--release", "--locked", "--workspace", "--bins",
               "--example", "pulse"]
    if subprocess.run(command, cwd=ROOT).returncode != 0:
        sys.exit("the programs could not be built")
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"


def check_machine():
    """Says what is missing before anything is built or made."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    missing = [f"{name} (package {package})" for name, package in PACKAGES.items()
               if not shutil.which(name)]
    if os.geteuid() != 0:
        missing.append("root: namespaces are made")
    if not os.path.exists("/dev/net/tun"):
        missing.append("/dev/net/tun")
    if missing:
        sys.exit("missing: " + "; ".join(missing))


def has_mptcp():
    try:
        return pathlib.Path("/proc/sys/net/mptcp/enabled").read_text().strip() == "1"
    except OSError:
        return False
