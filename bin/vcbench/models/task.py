"""What the TRAIN and the PREDICT step share: command line, inputs by name, failures unit by unit."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcbench.core import cli, device
from vcbench.core.errors import InputError, ModelError
from vcbench.core.status import Status, recorded
from vcbench.core.units import NO_ENCODER, Unit

if TYPE_CHECKING:
    from vcbench.models.base import Vectors
    from vcbench.models.fold_data import FoldData

log = logging.getLogger(__name__)

#: Libraries whose versions a status records when the unit used them: {module: package}.
PACKAGES = {name: name for name in ("anndata", "numpy", "safetensors", "scipy", "torch")} | {"sklearn": "scikit-learn"}


def parser(description: str, epilog: str) -> argparse.ArgumentParser:
    """Return the parser of the options both steps take."""
    options = cli.parser(description, epilog)
    options.add_argument("--units", nargs="+", required=True, help="unit ids, all of one dataset and split")
    options.add_argument("--settings", required=True, help="JSON object {model: {setting: value}}, complete")
    options.add_argument("--dataset", type=Path, required=True, help="<dataset>.h5ad of PREPARE")
    options.add_argument("--perturbations", type=Path, required=True, help="<dataset>.perturbations.tsv")
    options.add_argument("--folds", type=Path, required=True, help="<dataset>.<split>.folds.tsv")
    options.add_argument("--encodings", type=Path, nargs="*", default=[], help="<dataset>.<encoder>.<strategy>.h5ad")
    options.add_argument("--code", default="", help="digest of the code, kept in the status files")
    options.add_argument("--device", default="cpu", help=f"one of {', '.join(device.DEVICES)}")
    options.add_argument("--threads", type=int, default=0, help="threads of torch (0: as OMP_NUM_THREADS says)")
    options.add_argument("--out-dir", type=Path, default=Path(), help="where the results are written")
    return options


@dataclass(frozen=True)
class Task:
    """Checked options of a step."""

    units: tuple[Unit, ...]
    settings: dict[str, dict[str, Any]]
    encodings: dict[str, Path]
    options: argparse.Namespace
    device: str

    def vectors(self, unit: Unit, ids: Sequence[str]) -> Vectors | None:
        """Return the unit's vectors of these perturbations; None for a unit without encoder."""
        from vcbench.models.fold_data import read_vectors

        if unit.encoder == NO_ENCODER:
            return None
        name = f"{unit.dataset}.{unit.encoder}.{unit.strategy}.h5ad"
        if name not in self.encodings:
            raise ModelError(f"no encoding {name} among --encodings")
        return read_vectors(self.encodings[name], ids)

    def read_data(self) -> FoldData:
        """Read dataset, perturbations and folds."""
        from vcbench.models.fold_data import FoldData

        return FoldData(self.options.dataset, self.options.perturbations, self.options.folds)


def prepare(options: argparse.Namespace) -> Task:
    """Check the options before any work; raises :class:`InputError`."""
    device.set_threads(options.threads)
    units = tuple(Unit.parse(unit) for unit in options.units)
    if repeated := sorted({unit.id for unit in units if units.count(unit) > 1}):
        raise InputError("unit given twice", where="--units", found=", ".join(repeated))
    for unit in units:
        for path, expected in (
            (options.dataset, f"{unit.dataset}.h5ad"),
            (options.perturbations, f"{unit.dataset}.perturbations.tsv"),
            (options.folds, f"{unit.dataset}.{unit.split}.folds.tsv"),
        ):
            if path.name != expected:
                raise InputError(f"file does not belong to {unit.id}", where=str(path), expected=expected)
            if not path.is_file():
                raise InputError("file not found", where=str(path))
    try:
        settings = json.loads(options.settings)
    except json.JSONDecodeError as error:
        raise InputError("not valid JSON", where="--settings", found=error) from error
    if not isinstance(settings, dict):
        raise InputError("not a JSON object", where="--settings", expected="{model: {setting: value}}")
    if missing := sorted({unit.model for unit in units} - settings.keys()):
        raise InputError(
            f"no settings of {', '.join(missing)}", where="--settings", expected="{model: {setting: value}}"
        )
    chosen = device.resolve(options.device)
    options.out_dir.mkdir(parents=True, exist_ok=True)
    return Task(units, settings, {path.name: path for path in options.encodings}, options, chosen)


def run(task: Task, stage: str, work: Callable[[Unit, Status], None]) -> None:
    """Do ``work`` for every unit and write each one's status.

    A unit that raises is recorded as failed and the others go on. Raises :class:`ModelError` when no unit is ok;
    running out of memory ends the task, because the engine repeats it with more.
    """
    failures = []
    for number, unit in enumerate(task.units, start=1):
        status = Status(unit.id, stage, unit.seed, task.options.code, task.device)
        with recorded(status), memory_errors():
            work(unit, status)
        status.write(
            task.options.out_dir, tuple(package for module, package in PACKAGES.items() if module in sys.modules)
        )
        facts = status.facts
        log.info("%d/%d %s %s, %.2f s", number, len(task.units), unit.id, facts["state"], facts["wall_seconds"])
        if facts["state"] != "ok":
            failures.append(f"{unit.id}: {facts['reason']}")
            log.warning("%s", failures[-1])
    if len(failures) == len(task.units):
        others = f" (and {len(failures) - 1} more units)" if len(failures) > 1 else ""
        raise ModelError(failures[0] + others)


@contextmanager
def memory_errors() -> Iterator[None]:
    """Give memory errors of torch the classes (and so the exit codes) the engine retries."""
    try:
        yield
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise device.CudaOutOfMemoryError(f"the GPU is out of memory: {error}") from error
        if isinstance(error, RuntimeError) and "allocate memory" in str(error):
            raise MemoryError(str(error)) from error
        raise
