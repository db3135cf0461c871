"""The benchmark's critical path against a trace worked out by hand."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "engine_overhead.py"


def test_critical_path_of_a_small_trace(tmp_path: Path) -> None:
    """A (4 s), then B (10 s) beside C (2 s), then D (1m 3s); a second of waiting before each, and a failed task."""
    rows = [
        ("FLOW:A", "COMPLETED", "2026-01-01 00:00:00.000", "2026-01-01 00:00:05.000", "4s"),
        ("FLOW:B", "COMPLETED", "2026-01-01 00:00:05.000", "2026-01-01 00:00:16.000", "10s"),
        ("FLOW:C", "COMPLETED", "2026-01-01 00:00:05.000", "2026-01-01 00:00:08.000", "2s"),
        ("FLOW:X", "FAILED", "2026-01-01 00:00:08.000", "2026-01-01 00:00:09.000", "500ms"),
        ("FLOW:D", "COMPLETED", "2026-01-01 00:00:16.000", "2026-01-01 00:01:20.000", "1m 3s"),
    ]
    trace = tmp_path / "trace.txt"
    lines = ["process\tstatus\tsubmit\tcomplete\trealtime", *("\t".join(row) for row in rows)]
    trace.write_text("\n".join(lines) + "\n")
    done = subprocess.run([sys.executable, SCRIPT, trace], capture_output=True, text=True, check=True)
    found = dict(line.split("\t", 1) for line in done.stdout.splitlines())
    assert found["critical_path"] == "A B D"
    assert (found["wall_s"], found["critical_path_s"]) == ("80.0", "77.0")
    assert found["overhead_percent"] == "3.8"  # 3 of 80 s
    assert found["task_seconds"] == "79.0"
