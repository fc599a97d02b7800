"""What a bench needs of the machine and of the build."""

import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PACKAGES = {"ip": "iproute2", "nft": "nftables", "nsenter": "util-linux",
            "ssh-keygen": "openssh-client"}


def build(example):
    """Builds the programs and an example; returns the folder that they are in."""
    command = ["cargo", "build", "--release", "--locked", "--workspace", "--bins",
               "--example", example]
    if subprocess.run(command, cwd=ROOT).returncode != 0:
        sys.exit("the programs could not be built")
    return target() / "release"


def target():
    """The build folder."""
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def check():
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
