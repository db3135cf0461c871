"""A report built from synthetic tables; `synthetic` is importable whatever the import mode."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parent))


@dataclass
class Report:
    """A written report: its folder and its tables, read by pandas (independently of the report's own reader)."""

    folder: Path
    inputs: Path

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_csv(self.inputs / "tables" / f"{name}.tsv", sep="\t", quoting=3)

    def section(self, name: str) -> dict:
        return json.loads((self.folder / f"{name}_mqc.json").read_text())

    def has(self, name: str) -> bool:
        return (self.folder / f"{name}_mqc.json").exists()

    def text(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.*")))


@pytest.fixture(scope="session")
def make_report(tmp_path_factory) -> Callable[..., Report]:
    """Return a function Run -> Report."""

    def make(run, edit: Callable[[Path], None] | None = None) -> Report:
        from synthetic import command_line

        from vcbench.report import command

        folder = tmp_path_factory.mktemp("report")
        arguments = run.write(folder / "inputs")
        if edit:
            edit(folder / "inputs")
        command.main([*command_line(arguments), "--out-dir", str(folder / "report")])
        return Report(folder / "report", folder / "inputs")

    return make


@pytest.fixture(scope="session")
def report(make_report) -> Report:
    """The default run: two datasets, two splits, failures and a blocked encoder."""
    from synthetic import Run

    return make_report(Run())
