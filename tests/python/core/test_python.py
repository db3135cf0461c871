"""The executables by hand: a Python without the packages is told so in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(__file__).resolve().parents[3] / "bin"


@pytest.mark.parametrize("name", sorted(path.name for path in BIN.glob("vcb_*.py")))
def test_bare_python_gets_one_clear_line(name: str) -> None:
    # -S leaves out site-packages: a Python that has nothing installed
    done = subprocess.run([sys.executable, "-S", BIN / name, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "make setup" in done.stderr
