"""Very many tunnels to one sproxy, each of a cproxy of its own."""

from common import netns, stop

from . import load
from .encrypted import Etcp

# Users, each with a key: of one key 64 tunnels may be detached at once.
KEYS = 20
ATTACHED_WITHIN = 180


class Thousand(Etcp):
    def __init__(self, world, count):
        self._count = count
        # A bound on what the tunnels are granted, not memory that is used.
        super().__init__(world, sproxy_flags=("--memory", "1048576"))
        if not stop.until(lambda: self.cproxy_log().count("attached (") >= count, ATTACHED_WITHIN):
            raise load.Failed(f"not all of {count} tunnels were made\n{self.logs()}")

    def authorized_keys(self):
        """The file that lets all users in."""
        self._users = [self.file(f"user-{number}") for number in range(KEYS)]
        for user in self._users:
            netns.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", user])
        path = self.file("authorized_keys")
        path.write_text("".join(user.with_suffix(".pub").read_text() for user in self._users))
        path.chmod(0o600)
        return path

    def start_near(self):
        self.addresses = [self.address]
        self.addresses += [f"127.0.0.1:{self.port()}" for _ in range(1, self._count)]
        for number, address in enumerate(self.addresses):
            self.start_cproxy("cproxy", address, self._users[number % KEYS])

    def attached_again(self):
        """Returns the number of times that one of them was attached again."""
        return self.cproxy_log().count("attached again")
