"""The Debian package of the program and its services."""

import gzip
import os
import shutil
import subprocess
import tempfile
from email.utils import formatdate
from pathlib import Path

MAINTAINER = "The EternalTCP project <eternaltcp@localhost>"
CONTROL = """\
Package: etcp
Version: {version}-1
Architecture: {architecture}
Maintainer: {maintainer}
Installed-Size: {size}
Depends: adduser
Suggests: etcp-programs, jq, logrotate, openssh-client
Section: net
Priority: optional
Description: TCP connections that survive a change of network
 EternalTCP keeps TCP connections alive while the network below them changes.
 cproxy runs where the client program runs, and sproxy where the server
 program runs. Both are this one program. The package has services for them,
 and starts none.
"""
PROGRAMS_CONTROL = """\
Package: etcp-programs
Version: {version}-1
Architecture: {architecture}
Maintainer: {maintainer}
Installed-Size: {size}
Enhances: etcp
Section: net
Priority: optional
Description: EternalTCP's program for other architectures
 With these programs, `etcp ssh --copy` copies etcp to servers of another
 architecture than that of this machine.
"""
CONFIGURATION = "etc/eternaltcp/sproxy.toml"
ROTATION = "etc/logrotate.d/etcp"
SCRIPTS = ["postinst", "prerm", "postrm"]
# The completions that etcp writes, and the files that Debian's shells read.
COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/etcp",
    "zsh": "usr/share/zsh/vendor-completions/_etcp",
    "fish": "usr/share/fish/vendor_completions.d/etcp.fish",
}


def make(
    root: Path,
    program: Path,
    version: str,
    architecture: str,
    native: Path,
    to: Path,
    compression: str = "xz",
):
    """Makes the package of `program`. `native` is an etcp that this machine runs."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        install(root, program, native, tree, version)
        control(root, tree, filled(CONTROL, tree, version, architecture))
        build(tree, to / f"etcp_{version}-1_{architecture}.deb", compression)


def make_programs(root: Path, programs: dict, version: str, to: Path):
    """Makes the package of the programs by their architectures, for `etcp ssh --copy`."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for architecture, program in programs.items():
            put(program, tree / f"usr/lib/etcp/{architecture}/etcp", 0o755)
        documents(root, tree, "etcp-programs", version)
        write(tree / "DEBIAN/control", filled(PROGRAMS_CONTROL, tree, version, "all"))
        build(tree, to / f"etcp-programs_{version}-1_all.deb", "xz")


def commit_time() -> str:
    command = ["git", "log", "-1", "--format=%ct"]
    folder = Path(__file__).parent
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout.strip()
    # An unpacked archive has no commits.
    return found or "1000000000"


def filled(text: str, tree: Path, version: str, architecture: str) -> bytes:
    size = sum(it.stat().st_size for it in tree.rglob("*") if it.is_file()) // 1024
    return text.format(
        version=version, architecture=architecture, maintainer=MAINTAINER, size=size
    ).encode()


def build(tree: Path, package: Path, compression: str):
    """Makes a package of a folder. Its bytes depend on the contents alone."""
    tree.chmod(0o755)
    for made in tree.rglob("*"):
        if made.is_dir():
            made.chmod(0o755)
    command = ["dpkg-deb", "--root-owner-group", "--build", f"-Z{compression}", str(tree), str(package)]
    # Without this, the package has the time at which its files were written here.
    environment = {"SOURCE_DATE_EPOCH": commit_time()} | os.environ
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    print(f"{package.name}: {package.stat().st_size:,} bytes")


def install(root: Path, program: Path, native: Path, tree: Path, version: str):
    units = root / "packaging/systemd"
    put(program, tree / "usr/bin/etcp", 0o755)
    for unit in [*units.glob("*.service"), *units.glob("*.socket")]:
        put(unit, tree / "lib/systemd/system" / unit.name)
    for unit in (units / "user").glob("*.service"):
        put(unit, tree / "usr/lib/systemd/user" / unit.name)
    put(root / "packaging/debian/sproxy.toml", tree / CONFIGURATION)
    put(root / "packaging/debian/logrotate", tree / ROTATION)
    documents(root, tree, "etcp", version)
    man = tree / "usr/share/man/man1"
    man.mkdir(parents=True)
    subprocess.run([native, "man", man], check=True, stdout=subprocess.DEVNULL)
    for page in list(man.iterdir()):
        write(page.with_name(page.name + ".gz"), compressed(page.read_bytes()))
        page.unlink()
    for shell, path in COMPLETIONS.items():
        command = [native, "completions", shell]
        write(tree / path, subprocess.run(command, check=True, capture_output=True).stdout)


def documents(root: Path, tree: Path, package: str, version: str):
    to = tree / "usr/share/doc" / package
    put(root / "LICENSE", to / "copyright")
    write(to / "changelog.gz", compressed((root / "CHANGELOG.md").read_bytes()))
    date = formatdate(int(commit_time()))
    entry = f"{package} ({version}-1) unstable; urgency=medium\n\n  * See changelog.gz.\n\n"
    entry += f" -- {MAINTAINER}  {date}\n"
    write(to / "changelog.Debian.gz", compressed(entry.encode()))


def control(root: Path, tree: Path, text: bytes):
    """Writes what dpkg itself reads."""
    folder = tree / "DEBIAN"
    write(folder / "control", text)
    write(folder / "conffiles", f"/{CONFIGURATION}\n/{ROTATION}\n".encode())
    for script in SCRIPTS:
        put(root / "packaging/debian" / script, folder / script, 0o755)


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
