"""Peak memory of conversion and loading, measured in a process of its own (issue: shard + 10 %, weights + 15 %)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import make_xtrimopglm
import pytest

#: Blocks of the allocator and small things (MB), which do not grow with the checkpoint.
FIXED = 40


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from Linux's /proc")
def test_peak_memory(tmp_path):
    """On 106 MB of torch archives in 3 shards, the layout that keeps most in memory when read naively."""
    layout = "pytorch_model.bin.index.json"
    small = make_xtrimopglm.write(tmp_path / "small", layout=layout)
    big = make_xtrimopglm.write(tmp_path / "big", make_xtrimopglm.config(640, 6, 10, 1600), layout=layout)
    script = Path(make_xtrimopglm.__file__).with_name("measure_memory.py")
    command = [sys.executable, str(script), str(small), str(big), str(tmp_path / "out")]
    peaks = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    shard = max(path.stat().st_size for path in big.glob("*.bin")) / 2**20
    for dtype in ("float32", "bfloat16"):
        weights = (tmp_path / "out" / "big" / dtype / "encoder.safetensors").stat().st_size / 2**20
        assert weights > (100 if dtype == "float32" else 50)
        assert peaks[f"convert {dtype}"] <= 1.1 * shard, peaks
        for kind in ("official", "converted"):
            assert peaks[f"load {kind} {dtype}"] <= 1.15 * weights + FIXED, peaks
    assert peaks["load official float32"] > 90, "nothing was read: the measurement does not work"
