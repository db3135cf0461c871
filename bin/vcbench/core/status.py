"""`<unit>.<stage>.status.json`: what happened to a unit in one stage, and what it cost."""

from __future__ import annotations

import json
import platform
import resource
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from vcbench.core.errors import VcbError

#: States a unit can have in plan.tsv; `blocked` means an earlier stage of something it needs failed.
STATES = ("ok", "failed", "blocked", "missing")


def versions(*packages: str) -> dict[str, str]:
    """Return installed versions of Python and of the packages named."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}}


def peak_memory_mb() -> float:
    """Return the peak resident memory of this process in MB (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


class Status:
    """Collects the facts of one unit in one stage; :meth:`write` stores them as JSON."""

    def __init__(self, unit: str, stage: str, seed: int, code: str = "", device: str = "cpu") -> None:
        self.facts: dict[str, object] = {
            "unit": unit, "stage": stage, "state": "ok", "reason": "", "seed": seed, "code": code, "device": device,
        }  # fmt: skip

    def write(self, folder: Path | str, packages: tuple[str, ...] = ()) -> Path:
        """Write the file into ``folder`` and return its path."""
        facts = {**self.facts, "peak_memory_mb": round(peak_memory_mb(), 1), "versions": versions(*packages)}
        path = Path(folder) / f"{self.facts['unit']}.{self.facts['stage']}.status.json"
        path.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
        return path


@contextmanager
def recorded(status: Status) -> Iterator[Status]:
    """Time the block; an ordinary exception marks the unit failed and is swallowed, so that its neighbours go on.

    MemoryError and exceptions whose class sets ``stops_task = True`` (CUDA out of memory) pass through:
    they are retried by the engine with more memory.
    """
    start = time.perf_counter()
    try:
        yield status
    except Exception as error:
        if (
            isinstance(error, MemoryError)
            or getattr(error, "stops_task", False)
            or type(error).__name__ == "OutOfMemoryError"
        ):
            raise
        if not isinstance(error, VcbError):
            traceback.print_exc()
        message = " ".join(str(error).split()) or "no message"
        status.facts["state"] = "failed"
        status.facts["reason"] = message if isinstance(error, VcbError) else f"{type(error).__name__}: {message}"
    finally:
        status.facts["wall_seconds"] = round(time.perf_counter() - start, 3)
