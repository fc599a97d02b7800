"""The paths that are compared, each a listening address in front of the same server."""

import json
import os
import pathlib
import pwd
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
READY_WITHIN = 20


class Workbench:
    """The built programs, a folder, the server, and every process, all gone at the end."""

    def __enter__(self):
        raise_descriptor_limit()
        subprocess.run(
            ["cargo", "build", "--release", "--locked", "-p", "etcp", "--bins", "--examples"],
            cwd=ROOT, check=True)
        self.processes = []
        self.temporary = tempfile.TemporaryDirectory(prefix="etcp-bench-", dir="/tmp")
        self.folder = pathlib.Path(self.temporary.name)
        self.folder.chmod(0o755)
        # Copies: the build folder may be closed to the ordinary user.
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
        self.load = self.program("load", target / "examples" / "load")
        self.etcp = self.program("etcp", os.environ.get("ETCP_BIN", target / "etcp"))
        self.account = ordinary_account()
        self.give(self.folder)
        server = self.start("server", [self.load, "serve", f"{HOST}:0"], stdout=subprocess.PIPE)
        self.server = json.loads(server.stdout.readline())["listening"]
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.temporary.cleanup()

    def program(self, name, original):
        copy = self.folder / name
        shutil.copy(original, copy)
        copy.chmod(0o755)
        return str(copy)

    def give(self, path):
        if os.geteuid() == 0:
            os.chown(path, self.account.pw_uid, self.account.pw_gid)

    def file(self, name, contents):
        path = self.folder / name
        path.write_text(contents)
        path.chmod(0o600)
        self.give(path)
        return str(path)

    def key(self, name):
        path = self.folder / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
        self.give(path)
        return str(path), path.with_suffix(".pub").read_text()

    def start(self, name, command, stdout=None):
        """Starts a program as an ordinary user, its log in the folder."""
        identity = {}
        if os.geteuid() == 0:
            identity = {"user": self.account.pw_uid, "group": self.account.pw_gid,
                        "extra_groups": []}
        with open(self.folder / f"{name}.log", "wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stdout or log, stderr=log,
                cwd=self.folder, start_new_session=True, **identity,
                env={**os.environ, "HOME": str(self.folder)})
        self.processes.append(process)
        return process

    def log(self, name):
        lines = (self.folder / f"{name}.log").read_text(errors="replace").splitlines()
        return "\n".join([f"--- {name}:", *lines[-20:]])


class Path:
    """A way to the server: an address, and the proxies nearer to client and server, if any."""

    name = ""
    near = None
    far = None
    log_names = ()

    def __init__(self, bench):
        self.bench = bench
        self.port = free_port()
        self.address = f"{HOST}:{self.port}"
        self.start()
        self.wait_until_ready()

    def start(self):
        raise NotImplementedError

    def pids(self):
        return [process.pid for process in (self.near, self.far) if process]

    def logs(self):
        return "\n".join(self.bench.log(name) for name in self.log_names)

    def wait_until_ready(self):
        """A whole echo comes back: every hop is up."""
        deadline = time.monotonic() + READY_WITHIN
        while time.monotonic() < deadline:
            try:
                with socket.create_connection((HOST, self.port), timeout=2) as probe:
                    probe.sendall(b"e?")
                    if probe.recv(1) == b"?":
                        return
            except OSError:
                pass
            if any(process.poll() is not None for process in (self.near, self.far) if process):
                break
            time.sleep(0.02)
        raise SystemExit(f"{self.name} did not come up\n{self.logs()}")


class Direct(Path):
    name = "direct"

    def start(self):
        self.address = self.bench.server
        self.port = int(self.address.rpartition(":")[2])


class SocatPair(Path):
    name = "socat pair"
    log_names = ("socat-near", "socat-far")

    def start(self):
        middle = free_port()
        self.far = self.socat("socat-far", middle, self.bench.server)
        self.near = self.socat("socat-near", self.port, f"{HOST}:{middle}")

    def socat(self, name, port, target):
        listen = f"TCP-LISTEN:{port},bind={HOST},reuseaddr,fork,nodelay,backlog=128"
        return self.bench.start(name, ["socat", "-b", "65536", listen, f"TCP:{target},nodelay"])


class SshForward(Path):
    name = "ssh -L"
    log_names = ("ssh", "sshd")

    def start(self):
        bench, port = self.bench, free_port()
        host_key, host_public = bench.key("ssh-host-key")
        user_key, user_public = bench.key("ssh-user-key")
        keys = bench.file("ssh-authorized-keys", user_public)
        known = bench.file("ssh-known-hosts", f"bench {host_public}")
        config = bench.file("sshd_config", f"""
ListenAddress {HOST}
Port {port}
HostKey {host_key}
AuthorizedKeysFile {keys}
PidFile none
StrictModes no
UsePAM yes
PasswordAuthentication no
AllowTcpForwarding yes
""")
        sshd = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        self.far = bench.start("sshd", [sshd, "-D", "-e", "-f", config])
        wait_for_port(port)
        self.near = bench.start("ssh", [
            "ssh", "-N", "-F", "none", "-p", str(port), "-l", bench.account.pw_name, "-i", user_key,
            "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "HostKeyAlias=bench",
            "-o", f"UserKnownHostsFile={known}", "-o", "ExitOnForwardFailure=yes",
            "-L", f"{HOST}:{self.port}:{bench.server}", HOST])


class Etcp(Path):
    name = "etcp"
    log_names = ("cproxy", "sproxy")

    def start(self):
        bench, port = self.bench, free_port()
        server_key, server_public = bench.key("etcp-server-key")
        client_key, client_public = bench.key("etcp-client-key")
        authorized = bench.file("authorized_keys", client_public)
        known = bench.file("known_hosts", f"[{HOST}]:{port} {server_public}")
        self.far = bench.start("sproxy", [
            bench.etcp, "sproxy", "--listen", f"{HOST}:{port}", "--target", bench.server,
            "--identity", server_key, "--authorized-keys", authorized])
        wait_for_port(port)
        self.near = bench.start("cproxy", [
            bench.etcp, "cproxy", "--server", f"{HOST}:{port}", "--listen", self.address,
            "--identity", client_key, "--known-hosts", known])


def ordinary_account():
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())


def raise_descriptor_limit():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def free_port():
    with socket.create_server((HOST, 0)) as probe:
        return probe.getsockname()[1]


def wait_for_port(port):
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise SystemExit(f"nothing listens on port {port}")
