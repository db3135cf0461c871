"""Fixtures of the pipeline tests: each test folder is its own launch folder; one line of progress per test."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import harness


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything below this folder."""
    for item in items:
        if Path(__file__).parent in Path(item.path).parents:
            item.add_marker(pytest.mark.pipeline)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> harness.Run:
    """One finished small run from an editable copy of the project; tests resume it after edits."""
    folder = tmp_path_factory.mktemp("small")
    project = harness.copy_project(folder)
    run = harness.run(folder / "launch", *harness.SMALL, project=project)
    assert run.code == 0, run.output
    return run


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the project; the test says so when it is not there."""
    folder = harness.PROJECT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("real data not found beside the project (../shared/data): the run on real counts is skipped")
    return folder
