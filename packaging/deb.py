"""The Debian package of the program and its services."""

import gzip
import shutil
import subprocess
import tempfile
from pathlib import Path

CONTROL = """\
Package: etcp
Version: {version}-1
Architecture: {architecture}
Maintainer: The EternalTCP project <eternaltcp@localhost>
Installed-Size: {size}
Depends: adduser
Suggests: openssh-client
Section: net
Priority: optional
Description: TCP connections that survive a change of network
 EternalTCP keeps TCP connections alive while the network below them changes.
 cproxy runs where the client program runs, and sproxy where the server
 program runs. Both are this one program. The package has services for them,
 and starts none.
"""
CONFIGURATION = "etc/eternaltcp/sproxy.toml"
SCRIPTS = ["postinst", "prerm", "postrm"]
# The completions that etcp writes, and the files that Debian's shells read.
COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/etcp",
    "zsh": "usr/share/zsh/vendor-completions/_etcp",
    "fish": "usr/share/fish/vendor_completions.d/etcp.fish",
}


def make(root: Path, program: Path, version: str, architecture: str, native: Path, to: Path):
    """Makes the package of `program`. `native` is an etcp that this machine runs."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        tree.chmod(0o755)
        install(root, program, native, tree)
        size = sum(it.stat().st_size for it in tree.rglob("*") if it.is_file()) // 1024
        control(root, tree, CONTROL.format(version=version, architecture=architecture, size=size))
        package = to / f"etcp_{version}-1_{architecture}.deb"
        command = ["dpkg-deb", "--root-owner-group", "--build", "-Zxz", str(tree), str(package)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(f"{package.name}: {package.stat().st_size:,} bytes")


def install(root: Path, program: Path, native: Path, tree: Path):
    units = root / "packaging/systemd"
    put(program, tree / "usr/bin/etcp", 0o755)
    for unit in units.glob("*.service"):
        put(unit, tree / "lib/systemd/system" / unit.name)
    for unit in (units / "user").glob("*.service"):
        put(unit, tree / "usr/lib/systemd/user" / unit.name)
    put(root / "packaging/debian/sproxy.toml", tree / CONFIGURATION)
    put(root / "LICENSE", tree / "usr/share/doc/etcp/copyright")
    write(tree / "usr/share/doc/etcp/changelog.gz", compressed((root / "CHANGELOG.md").read_bytes()))
    man = tree / "usr/share/man/man1"
    man.mkdir(parents=True)
    subprocess.run([native, "man", man], check=True, stdout=subprocess.DEVNULL)
    for page in list(man.iterdir()):
        write(page.with_name(page.name + ".gz"), compressed(page.read_bytes()))
        page.unlink()
    for shell, path in COMPLETIONS.items():
        command = [native, "completions", shell]
        write(tree / path, subprocess.run(command, check=True, capture_output=True).stdout)


def control(root: Path, tree: Path, text: str):
    """Writes what dpkg itself reads."""
    folder = tree / "DEBIAN"
    write(folder / "control", text.encode())
    write(folder / "conffiles", f"/{CONFIGURATION}\n".encode())
    for script in SCRIPTS:
        put(root / "packaging/debian" / script, folder / script, 0o755)
    for made in tree.rglob("*"):
        if made.is_dir():
            made.chmod(0o755)


def put(source: Path, to: Path, mode: int = 0o644):
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, to)
    to.chmod(mode)


def write(path: Path, contents: bytes):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contents)
    path.chmod(0o644)


def compressed(contents: bytes) -> bytes:
    return gzip.compress(contents, mtime=0)
