"""The requirements of a bench on the machine and the build."""

import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PACKAGES = {"ip": "iproute2", "nft": "nftables", "nsenter": "util-linux",
            "ssh-keygen": "openssh-client"}


def build(example):
    """Builds the programs and an example. Returns their folder."""
    command = ["cargo", "build", "--release", "--locked", "--workspace", "--bins",
               "--example", example]
    if not shutil.which("cargo"):
        sys.exit("missing: cargo (https://rustup.rs)")
    if subprocess.run(command, cwd=ROOT).returncode != 0:
        sys.exit("the programs could not be built")
    return target() / "release"


def target():
    """The build folder."""
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def check(packages=PACKAGES, installs=False):
    """Reports or installs what is missing before anything is built or made."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if os.geteuid() != 0:
        sys.exit("missing: root: namespaces are made")
    if not os.path.exists("/dev/net/tun"):
        sys.exit("missing: /dev/net/tun")
    lacking = {name: package for name, package in packages.items() if not shutil.which(name)}
    if lacking and installs:
        install(lacking.values())
    elif lacking:
        sys.exit("missing: " + "; ".join(
            f"{name} (package {package})" for name, package in lacking.items()))


def install(packages):
    """Installs Debian packages."""
    names = sorted(set(packages))
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *names]):
        if subprocess.run(["apt-get", *command], env=environment, stdout=sys.stderr).returncode:
            sys.exit(f"install these packages: {' '.join(names)}")


def has_mptcp():
    try:
        return pathlib.Path("/proc/sys/net/mptcp/enabled").read_text().strip() == "1"
    except OSError:
        return False
