"""Print the peak memory of converting and loading a checkpoint, MB per step as JSON (a script, run on its own).

python measure_memory.py SMALL BIG OUT: the small folder warms up (imports, code), so that the peaks of the big one are
above interpreter and torch. Pages of mapped files count, as in the peak that Nextflow reports. The checkpoints are of
xTrimoPGLM, the largest of the benchmark, whose network needs no library beside torch: importing one would take longer
than the measurement. What is measured, `plm.weights` and `plm.convert`, is the same for all.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "bin"))

from vcbench.core.catalogue import load
from vcbench.encoders.plm import convert, weights
from vcbench.encoders.xtrimopglm import network

ENTRY = load("encoders")["entries"]["xtrimopglm_10b"]


def status(field: str) -> float:
    """Return a field of /proc/self/status in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def peak(work: Callable[[], object]) -> float:
    """Return by how many MB the resident memory grew at its highest during ``work``."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = status("VmRSS")
    result = work()
    highest = status("VmHWM") - before
    del result
    return round(highest, 1)


def steps(folder: Path, out: Path) -> dict[str, float]:
    """Run every step on a folder; return its peaks."""
    peaks = {}
    for dtype in weights.DTYPES:
        converted = out / dtype
        peaks[f"convert {dtype}"] = peak(lambda: convert.convert(folder, ENTRY, dtype, converted) and None)  # noqa: B023
        for kind, source in (("official", folder), ("converted", converted)):
            peaks[f"load {kind} {dtype}"] = peak(
                lambda: network.build(weights.open_weights(source, ENTRY, dtype), {}, "cpu")  # noqa: B023
            )
    return peaks


if __name__ == "__main__":
    small, big, target = map(Path, sys.argv[1:])
    steps(small, target / "small")
    print(json.dumps(steps(big, target / "big")))
    assert "sympy" not in sys.modules, "making a network without values imported torch's compiler (plm.shapes)"
