"""How a command ends: one line for what a user can act on, a traceback for our own bugs."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vcbench.core import cli
from vcbench.core.errors import InputError


def ended(main, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Return exit code and stderr of a command."""
    with pytest.raises(SystemExit) as caught:
        cli.run(main, [])
    return caught.value.code, capsys.readouterr().err


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_file_where_a_folder_should_be(tmp_path: Path, capsys, below: str) -> None:
    (tmp_path / "out").write_text("")
    folder = tmp_path / "out" / below
    code, text = ended(lambda _: folder.mkdir(parents=True, exist_ok=True), capsys)
    assert code == 65
    assert text.startswith(f"vcb: error: {folder}: ") and "a file is in the way" in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    ("number", "hint"),
    [(errno.EACCES, "you may write to"), (errno.ENOSPC, "free some space"), (errno.EIO, "Input/output error")],
)
def test_errors_that_may_pass_are_no_wrong_input(capsys, number: int, hint: str) -> None:
    """As root every folder may be written to, so these are raised by hand."""

    def main(_) -> None:
        raise OSError(number, "words", "some/file")

    code, text = ended(main, capsys)
    assert code == 1
    assert text.startswith("vcb: error: some/file: ") and hint in text and "Traceback" not in text


@pytest.fixture
def small_files() -> Iterator[None]:
    """A limit on the size of files: what a full disk looks like to a program that writes."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("kind", ["h5ad", "npz", "safetensors"])
def test_a_disk_that_is_full(tmp_path: Path, capsys, kind: str) -> None:
    """Some libraries raise other types for it; the words of the operating system are in them."""
    values = np.random.default_rng(0).normal(size=(100, 200)).astype(np.float32)

    def main(_) -> None:
        if kind == "h5ad":
            import anndata as ad

            ad.AnnData(values).write_h5ad(tmp_path / "x.h5ad")
        elif kind == "npz":
            np.savez(tmp_path / "x.npz", values=values)
        else:
            from safetensors.numpy import save_file

            save_file({"values": values}, tmp_path / "x.safetensors")

    code, text = ended(main, capsys)
    assert (code, text) == (1, "vcb: error: File too large\n")


def test_our_bugs_keep_their_traceback() -> None:
    def main(_) -> None:
        raise KeyError("errno")

    with pytest.raises(KeyError):
        cli.run(main, [])


def test_wrong_input_is_what_it_was(capsys) -> None:
    def main(_) -> None:
        raise InputError("wrong", where="here", hint="do this")

    assert ended(main, capsys) == (65, "vcb: error: here: wrong | do this\n")


@pytest.mark.parametrize(("asked", "expected"), [(None, 1), ("2", 2)])
def test_numpy_uses_one_thread_unless_told_otherwise(asked: str | None, expected: int) -> None:
    """Twice the processor time and no gain otherwise: products of small matrices wait for each other."""
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    code = (
        "from vcbench.core import cli; import numpy, threadpoolctl;"
        "print(max(library['num_threads'] for library in threadpoolctl.threadpool_info()))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | ({"OPENBLAS_NUM_THREADS": asked} if asked else {}),
        cwd=Path(cli.__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(found.stdout) == expected
