#!/usr/bin/env python3
"""Hold the container images in step with uv.lock.

A module's `environment.yml` names the packages its image needs. This script sets their versions to those of `uv.lock`
and writes `requirements.txt` beside it, which the Dockerfile installs: the same packages with all they depend on,
pinned by version and SHA-256. Images whose Dockerfile installs `shared.txt` first (the protein language models, with
torch) have in it what all of them need, so that they share this layer, and the rest in `requirements.txt`.

    scripts/image_pins.py            rewrite the files
    scripts/image_pins.py --check    change nothing, exit 1 when a file is out of step
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.markers import Marker
from packaging.utils import parse_wheel_filename

ROOT = Path(__file__).resolve().parent.parent
# conda-forge's name of a package, where it differs from PyPI's
CONDA_NAMES = {"pytorch": "torch"}
LINUX = {
    "sys_platform": "linux",
    "platform_system": "Linux",
    "os_name": "posix",
    "python_version": "3.11",
    "python_full_version": "3.11.0",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "platform_machine": "x86_64",
}
PIN = re.compile(
    r"^(?P<head>\s*- )(?P<channel>[a-z-]+::)?(?P<name>[A-Za-z0-9_.-]+)(?P<sep>==?)(?P<version>[^\s#]+)\s*$"
)


def locked(lock: Path) -> dict[str, dict]:
    """The packages of a uv.lock by name."""
    return {package["name"]: package for package in tomllib.loads(lock.read_text())["package"]}


def closure(roots: Iterable[str], packages: dict[str, dict]) -> list[str]:
    """Names of `roots` and of everything they need on Linux under Python 3.11, sorted."""
    todo: list[tuple[str, str | None]] = [(root, None) for root in roots]
    seen: set[tuple[str, str | None]] = set()
    while todo:
        item = todo.pop()
        if item in seen:
            continue
        seen.add(item)
        name, extra = item
        package = packages[name]
        needs = package.get("dependencies", []) if extra is None else package["optional-dependencies"][extra]
        for need in needs:
            if "marker" in need and not Marker(need["marker"]).evaluate(LINUX):
                continue
            todo.append((need["name"], None))
            todo.extend((need["name"], each) for each in need.get("extra", []))
    return sorted({name for name, _ in seen})


def usable(url: str) -> bool:
    """Whether the wheel at `url` installs under CPython 3.11 on glibc Linux (x86_64 or aarch64)."""
    _, _, _, tags = parse_wheel_filename(url.rsplit("/", 1)[1])
    for tag in tags:
        stable = re.fullmatch(r"cp3(\d+)", tag.interpreter)
        python = (
            tag.interpreter in {"py3", "py2.py3", "cp311"} or bool(re.fullmatch(r"py3(\d|1[01])", tag.interpreter))
        ) or (tag.abi == "abi3" and stable is not None and int(stable[1]) <= 11)
        platform = tag.platform == "any" or bool(re.fullmatch(r"(many)?linux.*_(x86_64|aarch64)", tag.platform))
        if python and platform:
            return True
    return False


def requirements(names: Iterable[str], packages: dict[str, dict]) -> str:
    """pip requirements with hashes for exactly these packages."""
    lines = ["# Written by scripts/image_pins.py from environment.yml and uv.lock; do not edit."]
    for name in sorted(names):
        package = packages[name]
        files = [wheel for wheel in package.get("wheels", []) if usable(wheel["url"])] or [package["sdist"]]
        hashes = sorted({file["hash"] for file in files})
        lines.append(f"{name}=={package['version']} \\")
        lines.extend(f"    --hash={digest} \\" for digest in hashes[:-1])
        lines.append(f"    --hash={hashes[-1]}")
    return "\n".join(lines) + "\n"


def environment(text: str, packages: dict[str, dict]) -> tuple[str, list[str]]:
    """`text` of an environment.yml with the locked versions, and the PyPI names of the packages it lists."""
    lines, names = [], []
    for line in text.splitlines():
        match = PIN.match(line)
        if match and match["name"] not in {"python", "pip"}:
            name = CONDA_NAMES.get(match["name"], match["name"])
            if name not in packages:
                raise SystemExit(f"{name} is not in uv.lock")
            names.append(name)
            line = f"{match['head']}{match['channel'] or ''}{match['name']}{match['sep']}{packages[name]['version']}"
        lines.append(line)
    return "\n".join(lines) + "\n", names


def wanted(root: Path) -> dict[Path, str]:
    """Every file this script writes, with its content."""
    packages = locked(root / "uv.lock")
    files: dict[Path, str] = {}
    direct: dict[Path, list[str]] = {}
    for path in sorted(root.glob("modules/*/*/environment.yml")):
        files[path], direct[path.parent] = environment(path.read_text(), packages)
    layered = [folder for folder in direct if "shared.txt" in (folder / "Dockerfile").read_text()]
    shared = closure(set.intersection(*(set(direct[folder]) for folder in layered)), packages) if layered else []
    for folder, names in direct.items():
        own = set(closure(names, packages))
        if folder in layered:
            files[folder / "shared.txt"] = requirements(shared, packages)
            own -= set(shared)
        files[folder / "requirements.txt"] = requirements(own, packages)
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 when a file is out of step")
    arguments = parser.parse_args()
    stale = [(path, text) for path, text in wanted(ROOT).items() if not path.is_file() or path.read_text() != text]
    for path, text in stale:
        if arguments.check:
            print(f"{path.relative_to(ROOT)} is out of step with uv.lock: run scripts/image_pins.py", file=sys.stderr)
        else:
            path.write_text(text)
            print(path.relative_to(ROOT))
    return int(arguments.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
