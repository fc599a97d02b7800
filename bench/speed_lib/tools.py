"""The programs that take part: installed or built, and copied, so that later builds do not matter."""

import functools
import hashlib
import os
import pathlib
import resource
import shutil
import subprocess
import sys

from common import machine, netns
from common.keys import Keys

PACKAGES = {"socat": "socat", "haproxy": "haproxy", "ssh": "openssh-client",
            "sshd": "openssh-server", "stunnel4": "stunnel4", "ssh-keygen": "openssh-client",
            "ip": "iproute2", "ss": "iproute2", "nft": "nftables", "nsenter": "util-linux",
            "taskset": "util-linux", "openssl": "openssl", "strip": "binutils"}
# The TLS library of rathole.
BUILD_PACKAGES = {"pkg-config": "pkg-config", "openssl.pc": "libssl-dev"}
RATHOLE_VERSION = "0.5.0"
RATHOLE_FEATURES = "server,client,tls"
DESCRIPTORS = 100_000


class Tools:
    """The programs and the keys of a run, in a folder that goes with it."""

    def __init__(self, folder, options):
        self.folder = pathlib.Path(folder)
        self.cores = two_cores()
        raise_descriptor_limit()
        # sshd insists on this folder, which the system makes when it starts its own.
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        built = None
        for name in ("etcp", "linkem", "load"):
            original = getattr(options, name)
            if not original:
                built = built or machine.build("load")
                original = built / ("examples/load" if name == "load" else name)
            if not os.access(original, os.X_OK):
                sys.exit(f"{original} is missing: build it, or say where it is with --{name}")
            setattr(self, name, pathlib.Path(shutil.copy(original, self.folder / name)))
        self.digest = hashlib.sha256(self.etcp.read_bytes()).hexdigest()
        self.rathole = rathole() if "rathole" in options.subjects else None
        # ssh and etcp use the same files.
        self.keys = Keys(self.folder)

    @functools.cached_property
    def certificate(self):
        return Certificate(self.folder)

    @functools.cached_property
    def versions(self):
        """Describes the programs in a sentence."""
        said = [first_line([self.etcp, "--version"]), first_line(["haproxy", "-v"]).split(" -")[0],
                first_line(["socat", "-V"], 1).split(" on ")[0], first_line(["ssh", "-V"]),
                first_line(["stunnel4", "-version"], 1).split(" on ")[0]]
        return ", ".join([*said, f"rathole {RATHOLE_VERSION}"])

    @staticmethod
    def find(name):
        return shutil.which(name)


class Certificate:
    """A certificate for the server named `bench`, signed by itself."""

    def __init__(self, folder):
        self.pem, self.key, self.pkcs12 = (
            folder / f"tls.{end}" for end in ("pem", "key", "p12"))
        netns.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                   "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=bench", "-addext",
                   "subjectAltName=DNS:bench", "-days", "30", "-keyout", self.key,
                   "-out", self.pem])
        netns.run(["openssl", "pkcs12", "-export", "-in", self.pem, "-inkey", self.key,
                   "-out", self.pkcs12, "-passout", "pass:bench"])


def rathole():
    """Builds it once, into a folder of the build folder."""
    root = machine.target() / "bench-tools"
    program = root / "bin" / "rathole"
    if not program.exists():
        if lacking := [package for name, package in BUILD_PACKAGES.items()
                       if not has_build_tool(name)]:
            machine.install(lacking)
        # Not --locked: its lock file names a `time` that newer compilers refuse.
        command = ["cargo", "install", "rathole", "--version", RATHOLE_VERSION,
                   "--no-default-features", "--features", RATHOLE_FEATURES, "--root", root]
        if subprocess.run(command, stdout=sys.stderr).returncode != 0:
            sys.exit("rathole could not be built: leave it out with --subjects")
    return program


def has_build_tool(name):
    if not name.endswith(".pc"):
        return bool(shutil.which(name))
    return subprocess.run(["pkg-config", "--exists", name.removesuffix(".pc")],
                          capture_output=True).returncode == 0


def two_cores():
    """Returns the core of the client's side and that of the server's."""
    cores = sorted(os.sched_getaffinity(0))
    return (cores[0], cores[1 % len(cores)])


def raise_descriptor_limit():
    """Raises the limit of descriptors for twenty thousand sessions, or as far as this machine allows.
    Children inherit it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, DESCRIPTORS),) * 2)
    except ValueError:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_sessions(descriptors_each):
    """Returns how many sessions a process can have that needs this many descriptors for each. Some
    are left over, because every program keeps a few for itself."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] * 4 // 5 // descriptors_each


def first_line(command, number=0):
    outcome = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    lines = [line for line in (outcome.stdout + outcome.stderr).splitlines() if line.strip()]
    return lines[number].strip() if len(lines) > number else ""
