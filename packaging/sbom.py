"""The list of what a program is made of, in CycloneDX's JSON."""

import json
import subprocess
import tomllib
from pathlib import Path

TARGET = "x86_64-unknown-linux-musl"


def write(root: Path, version: str, path: Path):
    """Writes the crates that are compiled into etcp, with licences and checksums, and musl.

    They are the crates of x86-64, which include all of aarch64. The contents depend on Cargo.lock and
    the version of Rust alone, so that two builds of one commit are equal.
    """
    metadata = cargo_metadata(root)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: linked(node) for node in metadata["resolve"]["nodes"]}
    main = next(id for id, package in packages.items() if package["name"] == "etcp")
    ids = reachable(main, nodes)
    sums = checksums(root)
    others = sorted((packages[id] for id in ids - {main}), key=lambda it: (it["name"], it["version"]))
    listing = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(packages[main], sums) | {"type": "application"}},
        "components": [*(component(package, sums) for package in others), *runtime()],
        "dependencies": [
            {"ref": purl(packages[id]), "dependsOn": sorted(purl(packages[it]) for it in nodes[id])}
            for id in sorted(ids, key=lambda id: purl(packages[id]))
        ],
    }
    path.write_text(json.dumps(listing, indent=1) + "\n")
    print(f"{path.name}: {len(listing['components'])} components of etcp {version}")


def cargo_metadata(root: Path) -> dict:
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", TARGET]
    return json.loads(subprocess.run(command, cwd=root, check=True, capture_output=True).stdout)


def linked(node: dict) -> list[str]:
    """Returns the dependencies that are not only for builds and tests."""
    kinds = lambda it: [kind["kind"] for kind in it["dep_kinds"]]
    return [it["pkg"] for it in node["deps"] if None in kinds(it)]


def reachable(main: str, nodes: dict) -> set[str]:
    found, left = set(), [main]
    while left:
        id = left.pop()
        if id not in found:
            found.add(id)
            left += nodes[id]
    return found


def checksums(root: Path) -> dict:
    lock = tomllib.loads((root / "Cargo.lock").read_text())
    return {(it["name"], it["version"]): it.get("checksum") for it in lock["package"]}


def component(package: dict, sums: dict) -> dict:
    found = {
        "type": "library",
        "bom-ref": purl(package),
        "name": package["name"],
        "version": package["version"],
        "purl": purl(package),
        "licenses": [{"expression": (package["license"] or "").replace("/", " OR ")}],
    }
    if checksum := sums.get((package["name"], package["version"])):
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return found


def purl(package: dict) -> str:
    return f"pkg:cargo/{package['name']}@{package['version']}"


def runtime() -> list[dict]:
    """Returns what the toolchain adds to every program."""
    version = subprocess.run(["rustc", "-V"], check=True, capture_output=True, text=True).stdout.split()[1]
    std = {"type": "library", "name": "rust-std", "version": version}
    std["licenses"] = [{"expression": "MIT OR Apache-2.0"}]
    return [std, {"type": "library", "name": "musl", "licenses": [{"expression": "MIT"}]}]
