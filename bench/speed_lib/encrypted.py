"""Subjects with encryption and authentication: ssh, stunnel, rathole, etcp."""

from common import stop

from . import load
from .subject import Subject

# Seconds until all carriers of a tunnel are there.
CARRIERS_WITHIN = 20


class Ssh(Subject):
    key, title = "ssh", "ssh -L"
    programs = ("ssh", "sshd")
    # Each of its sessions looks at every other one.
    is_light = False

    def start_far(self):
        keys = self.world.tools.keys
        self._sshd_port = self.port()
        config = self.file("sshd.conf")
        config.write_text(SSHD.format(
            host=self.world.server_host, port=self._sshd_port, host_key=keys.server,
            authorized_keys=keys.authorized_keys))
        # sshd starts itself again, and so insists on its own full path.
        self.launch("far", "sshd", [self.world.tools.find("sshd"), "-D", "-e", "-f", config])
        self.await_listener(self.world.server, self._sshd_port)

    def start_near(self):
        keys = self.world.tools.keys
        known = self.file("known.hosts")
        known.write_text(f"bench {keys.server.with_suffix('.pub').read_text()}")
        port = self.address.rpartition(":")[2]
        self.launch("near", "ssh", [
            "ssh", "-N", "-F", "none", "-p", self._sshd_port, "-l", "root", "-i", keys.client,
            "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "HostKeyAlias=bench",
            "-o", f"UserKnownHostsFile={known}", "-o", "ExitOnForwardFailure=yes",
            "-L", f"127.0.0.1:{port}:{self.target}", self.world.server_host])


SSHD = """
ListenAddress {host}
Port {port}
HostKey {host_key}
AuthorizedKeysFile {authorized_keys}
PidFile none
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
AllowTcpForwarding yes
"""


class Stunnel(Subject):
    key, title = "stunnel", "stunnel pair"
    programs = ("stunnel4",)
    is_light = False

    def start_far(self):
        certificate = self.world.tools.certificate
        self._middle = f"{self.world.server_host}:{self.port()}"
        self.launch("far", "far", self._command(
            "far", client="no", listen=self._middle, target=self.target,
            trust=f"cert = {certificate.pem}\nkey = {certificate.key}"))
        self.await_listener(self.world.server, self._port)

    def start_near(self):
        self.launch("near", "near", self._command(
            "near", client="yes", listen=self.address, target=self._middle,
            trust=f"CAfile = {self.world.tools.certificate.pem}\nverifyPeer = yes"))

    def _command(self, side, **fields):
        config = self.file(f"{side}.conf")
        config.write_text(STUNNEL.format(**fields))
        return ["stunnel4", config]


STUNNEL = """
foreground = quiet
pid =
debug = err
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[relay]
client = {client}
accept = {listen}
connect = {target}
sslVersionMin = TLSv1.3
{trust}
"""


class Rathole(Subject):
    """rathole. Its server runs on the client's side here, where the other end dials it."""

    key, title = "rathole", "rathole TLS"
    programs = ("rathole",)
    is_light = False

    def start_far(self):
        """Starts the end that is dialled first: the one on the client's side."""
        self._control_port = self.port()
        self.launch("near", "near", self._command("near", RATHOLE_NEAR))
        self.await_listener(self.world.client, self._control_port)

    def start_near(self):
        self.launch("far", "far", self._command("far", RATHOLE_FAR))

    def _command(self, side, template):
        control = f"{self.world.client_host}:{self._control_port}"
        config = self.file(f"{side}.toml")
        config.write_text(template.format(
            control=control, listen=self.address, target=self.target,
            certificate=self.world.tools.certificate))
        return [self.world.tools.rathole, config]


RATHOLE_NEAR = """
[server]
bind_addr = "{control}"
default_token = "bench"
[server.transport]
type = "tls"
[server.transport.tls]
pkcs12 = "{certificate.pkcs12}"
pkcs12_password = "bench"
[server.services.relay]
bind_addr = "{listen}"
nodelay = true
"""
RATHOLE_FAR = """
[client]
remote_addr = "{control}"
default_token = "bench"
retry_interval = 1
[client.transport]
type = "tls"
[client.transport.tls]
trusted_root = "{certificate.pem}"
hostname = "bench"
[client.services.relay]
local_addr = "{target}"
nodelay = true
"""


class Etcp(Subject):
    """One sproxy, and one cproxy for each tunnel."""

    key, title = "etcp", "etcp"
    programs = ("etcp",)
    flags = ()

    def __init__(self, world, tunnels=1, sproxy_flags=(), carriers=1):
        self._tunnels, self._sproxy_flags, self._carriers = tunnels, sproxy_flags, carriers
        super().__init__(world)

    def start_far(self):
        tools, keys = self.world.tools, self.world.tools.keys
        self.server_port = self.port()
        self._known = self.file("known.hosts")
        self._known.write_text(f"[{self.world.server_host}]:{self.server_port} "
                               f"{keys.server.with_suffix('.pub').read_text()}")
        authorized_keys = self.authorized_keys()
        # At the home folder sproxy stops checking who may write to the folders of its files.
        self.launch("far", "sproxy", [
            "env", f"HOME={authorized_keys.parent}", tools.etcp, "sproxy", "--listen", f"{self.world.server_host}:{self.server_port}",
            "--target", self.target, "--identity", keys.server,
            "--authorized-keys", authorized_keys, *self._sproxy_flags, *self.flags])
        self.await_listener(self.world.server, self.server_port)

    def authorized_keys(self):
        return self.world.tools.keys.authorized_keys

    def start_near(self):
        self.addresses = [self.address]
        self.addresses += [f"127.0.0.1:{self.port()}" for _ in range(1, self._tunnels)]
        for number, address in enumerate(self.addresses):
            self.start_cproxy(f"cproxy-{number}", address, self.world.tools.keys.client)

    def start_cproxy(self, log, listen, identity):
        return self.launch("near", log, [
            self.world.tools.etcp, "cproxy", "--server",
            f"{self.world.server_host}:{self.server_port}", "--listen", listen,
            "--identity", identity, "--known-hosts", self._known,
            "--carriers", self._carriers, *self.flags])

    def await_carriers(self):
        """Waits until the log of every cproxy reports its last carrier."""
        last = f"carrier {self._carriers} of {self._carriers} "
        if self._carriers > 1 and not stop.until(
                lambda: self.cproxy_log().count(last) == self._tunnels, CARRIERS_WITHIN):
            raise load.Failed(f"{self.title}: not all carriers are there\n{self.logs()}")

    def cproxy_log(self):
        """Returns the logs of all cproxies."""
        return "".join((self.world.folder / f"{name}.log").read_text(errors="replace")
                       for name in self._logs if "cproxy" in name)


class EtcpWithoutHolder(Etcp):
    """One process each, with which its sessions end."""

    title = "etcp --no-holder"
    flags = ("--no-holder",)
