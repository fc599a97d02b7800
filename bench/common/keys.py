"""Keys of both sides of etcp."""

import pathlib

from . import netns


class Keys:
    """An ssh key for each side, and the files by which they trust each other."""

    def __init__(self, folder, *servers):
        folder = pathlib.Path(folder)
        self.server, self.client = folder / "server_key", folder / "client_key"
        for key in (self.server, self.client):
            netns.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])
        self.authorized_keys = self._file("authorized_keys", self.client, "")
        hosts = ",".join(f"[{host}]:{port}" for host, port in servers)
        self.known_hosts = self._file("known_hosts", self.server, f"{hosts} ")

    @staticmethod
    def _file(name, key, before):
        path = key.with_name(name)
        path.write_text(before + key.with_suffix(".pub").read_text())
        path.chmod(0o600)
        return path
