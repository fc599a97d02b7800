"""All subjects, in the order of the tables."""

from . import encrypted, plain

SUBJECTS = {subject.key: subject for subject in (
    plain.Direct, plain.Mptcp, plain.Socat, plain.Haproxy,
    encrypted.Ssh, encrypted.Stunnel, encrypted.Rathole, encrypted.Etcp)}
