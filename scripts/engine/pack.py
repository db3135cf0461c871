"""Check the jars that Maven brought against their pinned SHA-256 and bind them behind one manifest jar.

Usage: pack.py JARS.sha256 LIB_DIR OUT.jar    (standard library only: it runs before the environment exists)
"""

import hashlib
import sys
import zipfile
from pathlib import Path


def check(pins: Path, lib: Path) -> list[str]:
    """Names of the pinned jars, sorted; exits with one line when a jar is missing, unknown or altered."""
    expected = {name: digest for digest, name in (line.split() for line in pins.read_text().splitlines())}
    found = {path.name for path in lib.glob("*.jar")}
    if missing := sorted(expected.keys() - found):
        raise SystemExit(f"Maven did not bring {', '.join(missing)}")
    if unknown := sorted(found - expected.keys()):
        raise SystemExit(f"Maven brought jars that {pins.name} does not pin: {', '.join(unknown)}")
    for name, digest in expected.items():
        actual = hashlib.sha256((lib / name).read_bytes()).hexdigest()
        if actual != digest:
            raise SystemExit(f"{name}: SHA-256 is {actual}, {pins.name} pins {digest}; nothing was installed")
    return sorted(expected)


def manifest(jars: list[str], lib: str) -> bytes:
    """Manifest whose Class-Path names the jars; a line holds at most 72 bytes (JAR specification)."""
    lines = ["Manifest-Version: 1.0", "Main-Class: nextflow.cli.Launcher"]
    rest = "Class-Path: " + " ".join(f"{lib}/{jar}" for jar in jars)
    lines.append(rest[:70])
    rest = rest[70:]
    while rest:
        lines.append(" " + rest[:69])
        rest = rest[69:]
    return "".join(line + "\r\n" for line in lines).encode()


def main() -> None:
    pins, lib, out = (Path(argument) for argument in sys.argv[1:4])
    jars = check(pins, lib)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("META-INF/MANIFEST.MF", (1980, 1, 1, 0, 0, 0)), manifest(jars, lib.name))


if __name__ == "__main__":
    main()
