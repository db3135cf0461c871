#!/usr/bin/env python3
"""Seconds each step needs before it can work: start Python, import, print --help.

Prints TSV: script, median and smallest of the wall times, whether torch was imported. The light steps should stay under
1 s on an idle machine and never import torch.

    .venv/bin/python benchmarks/import_time.py [--repeats 3] [NAME ...]
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

BIN = Path(__file__).resolve().parent.parent / "bin"


def seconds(script: Path) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, script, "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def imports_torch(script: Path) -> bool:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", script, "--help"], check=True, capture_output=True, text=True
    )
    return any(line.rsplit("|", 1)[-1].strip() == "torch" for line in done.stderr.splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="steps such as prepare or score; default all")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    scripts = [BIN / f"vcb_{name}.py" for name in arguments.names] or sorted(BIN.glob("vcb_*.py"))
    seconds(scripts[0])  # warms the disk cache and writes the bytecode
    print("script\tmedian_s\tmin_s\ttorch")
    for script in scripts:
        times = [seconds(script) for _ in range(arguments.repeats)]
        torch = "yes" if imports_torch(script) else "no"
        print(f"{script.name}\t{statistics.median(times):.2f}\t{min(times):.2f}\t{torch}", flush=True)


if __name__ == "__main__":
    main()
