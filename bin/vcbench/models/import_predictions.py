"""The PREDICTIONS_IMPORT step: predictions made elsewhere as a unit's predictions, matched by name and checked.

Nothing here can know whether the predictor saw test cells: that is the user's word, and the provenance says so.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vcbench.core import catalogue, cli, h5ad
from vcbench.core.blocks import BlockReader
from vcbench.core.errors import InputError, ModelError
from vcbench.core.h5ad import CONTROL
from vcbench.core.hashing import sha256_file
from vcbench.core.status import Status, recorded
from vcbench.core.tables import read_tsv
from vcbench.core.units import NO_ENCODER, Unit

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

LABEL = "perturbation"
#: log1p of more than this would be half a billion scaled counts in one gene.
MAX_LOG1P = 20
#: Cells of the dataset whose totals say on which scale predictions should be.
SCALE_CELLS = 1000
#: Outside these ratios of total linear expression (predicted to measured) a wrong normalisation is likely. The mean of
#: logs of a profile loses mass (metrics.md 1.2), so that profiles are held against the mean profile.
SCALE_RATIOS = (0.4, 1.6)
STATED = "that no test cell was used is stated by whoever made the predictions, not checked"

EPILOG = """
example:
  vcb_import_predictions.py --predictions my_model.h5ad --units tp53.variant.f1.my_model.none.none.s0 \\
    --dataset tp53.h5ad --perturbations tp53.perturbations.tsv --folds tp53.variant.folds.tsv --out-dir predictions

my_model.h5ad: obs `perturbation` (TP53~R175H, or a label as in the data), X = natural log1p of counts scaled like the
dataset's, one row per perturbation (profiles) or several (cells), every gene of the dataset in any order. Predictions
that differ by fold say so in the obs columns `fold`, `split`, `dataset`; without them all folds take the same rows.
Writes <unit>.predictions.h5ad and <unit>.predict.status.json for each unit.
"""


@dataclass(frozen=True)
class Expected:
    """What a unit needs: its test perturbations and the dataset's genes, and how labels of the data are resolved.

    `known` maps canonical ids and labels of the data to canonical ids; `scale` is the median total of linear expression
    of the dataset's cells, `scale_of_mean` the total of their mean profile: much less where cells are shallow.
    """

    test: tuple[str, ...]
    genes: np.ndarray
    known: Mapping[str, tuple[str, ...]]
    scale: float
    scale_of_mean: float


@dataclass(frozen=True)
class Selected:
    """Rows of the file that belong to a unit (sorted positions), their canonical ids, and what did not fit."""

    rows: np.ndarray
    labels: np.ndarray
    absent: tuple[str, ...]
    unknown: tuple[str, ...]
    not_test: tuple[str, ...]


def names_of(rows: Iterable[Mapping[str, str]]) -> dict[str, tuple[str, ...]]:
    """Return canonical ids by the names a prediction may use: the id itself, and every label in the data."""
    found: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for name in (row["perturbation"], *row.get("labels", "").split(" | ")):
            if name and name != CONTROL:
                found[name].add(row["perturbation"])
    return {name: tuple(sorted(ids)) for name, ids in found.items()}


def of_unit(obs: pd.DataFrame, unit: Unit, where: str) -> np.ndarray:
    """Return which rows belong to the unit by the optional columns `dataset`, `split` and `fold`.

    Raises :class:`ModelError` when a column is there and none of its rows is the unit's.
    """
    mask = np.ones(len(obs), dtype=bool)
    for column in ("dataset", "split", "fold"):
        if column not in obs:
            continue
        wanted = str(getattr(unit, column))
        values = obs[column].astype(str).str.removesuffix(".0").to_numpy()
        mask &= values == wanted
        if not mask.any():
            raise ModelError(
                f"{where}: no rows with {column} {wanted} of {unit.id}; obs['{column}'] has "
                f"{', '.join(sorted(set(values.tolist()))[:5])}"
            )
    return mask


def select(obs: pd.DataFrame, unit: Unit, expected: Expected, where: str) -> Selected:
    """Return the rows of a file that predict the test perturbations of a unit.

    Raises :class:`ModelError` for a name that fits two perturbations, two names for one, and when nothing is left.
    """
    if LABEL not in obs:
        raise ModelError(f"{where}: no column obs['{LABEL}']; columns: {', '.join(obs.columns) or 'none'}")
    given = obs[LABEL].astype(str).to_numpy()
    rows = np.flatnonzero(of_unit(obs, unit, where))
    names = sorted(set(given[rows].tolist()) - {CONTROL})
    for name in names:
        if len(expected.known.get(name, ())) > 1:
            raise ModelError(f"{where}: '{name}' is {' and '.join(expected.known[name][:2])}; use canonical ids")
    ids = {name: expected.known[name][0] for name in names if name in expected.known}
    by_id: dict[str, list[str]] = defaultdict(list)
    for name, found in ids.items():
        by_id[found].append(name)
    for found, same in by_id.items():
        if len(same) > 1:
            raise ModelError(f"{where}: two names for {found}: {', '.join(same)}")
    test = set(expected.test)
    labels = np.array([ids.get(name, "") for name in given[rows]], dtype=object)
    use = np.array([name in test for name in labels], dtype=bool)
    if not use.any():
        raise ModelError(
            f"{where}: none of the {len(test)} test perturbations of {unit.id} is predicted; the file has "
            f"{', '.join(names[:3]) or 'no perturbation'}, expected {', '.join(expected.test[:3])}"
        )
    return Selected(
        rows[use],
        labels[use],
        tuple(sorted(test - set(labels[use]))),
        tuple(name for name in names if name not in ids),
        tuple(sorted(set(ids.values()) - test)) if "fold" in obs else (),
    )


def gene_positions(names: Sequence[str], expected: np.ndarray, where: str) -> np.ndarray:
    """Return the position in `names` of each expected gene; raises :class:`ModelError` for missing or doubled ones."""
    position = {name: i for i, name in enumerate(names)}
    if len(position) < len(names):
        raise ModelError(f"{where}: duplicate gene names")
    missing = [name for name in expected if name not in position]
    if missing:
        more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
        raise ModelError(
            f"{where}: {len(missing)} of {len(expected)} genes of the dataset are missing: "
            f"{', '.join(missing[:10])}{more}; nothing is filled in, all models are scored on the same genes"
        )
    return np.array([position[name] for name in expected], dtype=np.int64)


def linear_total(blocks: Iterable[np.ndarray]) -> float:
    """Return the median over rows of the sum of expm1 of log1p values."""
    return float(np.median(np.concatenate([np.expm1(block.astype(np.float64)).sum(axis=1) for block in blocks])))


def take(file: BlockReader, unit: Unit, expected: Expected, code: str, sha256: str, out_dir: Path) -> str:
    """Write `<unit>.predictions.h5ad` from a file; return what a reader of the plan should know, or an empty string."""
    import anndata as ad
    import pandas as pd

    where = file.path.name
    chosen = select(file.obs, unit, expected, where)
    columns = gene_positions(file.var_names, expected.genes, where)
    values = file.take(chosen.rows, columns)
    bad = ~np.isfinite(values.data)
    if bad.any():
        at = np.searchsorted(values.indptr, np.flatnonzero(bad)[0], side="right") - 1
        raise ModelError(
            f"{where}: {int(bad.sum())} values are not finite (NaN or infinite), first {chosen.labels[at]}"
        )
    if values.nnz and values.data.max() > MAX_LOG1P:
        raise ModelError(f"{where}: {values.data.max():.6g} is too large for log1p expression; are these counts?")
    total = linear_total(values[at].toarray() for at in range(min(values.shape[0], SCALE_CELLS)))
    counts = pd.Series(chosen.labels).value_counts()
    kind = "profile" if (counts == 1).all() else "cells"
    scale = expected.scale_of_mean if kind == "profile" else expected.scale
    ratio = total / scale if scale else np.nan
    if not SCALE_RATIOS[0] <= ratio <= SCALE_RATIOS[1]:
        log.warning(
            "%s, %s: predicted totals are %.3g times %s (%.6g): is X natural log1p of counts scaled as in the dataset?",
            where, unit.id, ratio,
            "that of the mean profile of the measured cells" if kind == "profile" else "those of the measured cells",
            scale,
        )  # fmt: skip
    for what, names in (("unknown perturbations", chosen.unknown), ("others' test perturbations", chosen.not_test)):
        if names:
            log.warning("%s, %s: %d %s are ignored: %s", where, unit.id, len(names), what, ", ".join(names[:5]))
    # cells stay as sparse as they came; a profile has hardly any zeros
    order = np.lexsort((np.arange(len(chosen.rows)), chosen.labels.astype(str)))
    labels = chosen.labels[order]
    number = pd.Series(labels).groupby(labels).cumcount()
    obs = pd.DataFrame(
        {LABEL: labels}, index=pd.Index([f"{a}:{b}" for a, b in zip(labels, number, strict=True)], dtype=object)
    )
    x = values[order].astype(np.float32)
    data = ad.AnnData(
        x.toarray() if kind == "profile" else x, obs=obs,
        var=pd.DataFrame(index=pd.Index(expected.genes, dtype=object, name="gene")),
    )  # fmt: skip
    facts = {
        "unit": unit.id, **asdict(unit), "kind": kind, "code": code, "file": where, "file_sha256": sha256,
        "class": catalogue.EXTERNAL, "test_cells": STATED, "same_rows_in_all_folds": "fold" not in file.obs,
        "unknown": list(chosen.unknown), "not_test": list(chosen.not_test), "total_ratio": round(ratio, 6),
    }  # fmt: skip
    if chosen.absent:
        facts["absent"] = dict.fromkeys(chosen.absent, f"not in {where}")
    h5ad.write(data, out_dir / f"{unit.id}.predictions.h5ad", facts)
    if chosen.absent:
        return f"{len(chosen.absent)} of {len(expected.test)} test perturbations are not in {where}"
    return ""


def read_expected(dataset: Path, perturbations: Path, folds: Path) -> dict[int, Expected]:
    """Return what units of each fold need; raises :class:`InputError` for unreadable files."""
    known = names_of(read_tsv(perturbations, ("perturbation",)))
    rows = [row for row in read_tsv(folds, ("perturbation", "fold", "role")) if row["role"] == "test"]
    with BlockReader(dataset) as data:
        genes = np.asarray(data.var_names, dtype=object)
        cells = data.take(np.arange(min(data.n_rows, SCALE_CELLS))).toarray()
        scale, of_mean = (
            linear_total([values]) for values in (cells, cells.mean(axis=0, keepdims=True, dtype=np.float64))
        )
    return {
        fold: Expected(
            tuple(sorted(row["perturbation"] for row in rows if int(row["fold"]) == fold)), genes, known, scale, of_mean
        )
        for fold in sorted({int(row["fold"]) for row in rows})
    }


def main(argv: Sequence[str]) -> None:
    """Command line of vcb_import_predictions.py; raises :class:`ModelError` when no unit could be taken over."""
    parser = cli.parser("Take over predictions made elsewhere as a model of the benchmark.", EPILOG)
    parser.add_argument("--predictions", required=True, type=Path, metavar="FILE", help="NAME.h5ad, the model is NAME")
    parser.add_argument("--units", nargs="+", required=True, help="unit ids, all of one dataset and split")
    parser.add_argument("--dataset", required=True, type=Path, metavar="H5AD", help="<dataset>.h5ad of PREPARE")
    parser.add_argument("--perturbations", required=True, type=Path, metavar="TSV", help="<dataset>.perturbations.tsv")
    parser.add_argument("--folds", required=True, type=Path, metavar="TSV", help="<dataset>.<split>.folds.tsv")
    parser.add_argument("--code", default="", help="digest of the code, kept in the status files")
    parser.add_argument("--out-dir", type=Path, default=Path(), help="where the results are written")
    options = parser.parse_args(argv)

    name = catalogue.external_name(options.predictions.name, "--predictions")
    units = [Unit.parse(unit) for unit in options.units]
    for unit in units:
        if (unit.model, unit.encoder, unit.strategy) != (name, NO_ENCODER, NO_ENCODER):
            raise InputError("unit of another model", where="--units", found=unit.id,
                             expected=f"{name}.{NO_ENCODER}.{NO_ENCODER}")  # fmt: skip
        for path, wanted in ((options.perturbations, f"{unit.dataset}.perturbations.tsv"),
                             (options.folds, f"{unit.dataset}.{unit.split}.folds.tsv")):  # fmt: skip
            if path.name != wanted:
                raise InputError(f"file does not belong to {unit.id}", where=str(path), expected=wanted)
    expected = read_expected(options.dataset, options.perturbations, options.folds)
    options.out_dir.mkdir(parents=True, exist_ok=True)
    failures = []
    sha256 = sha256_file(options.predictions) if options.predictions.is_file() else ""
    with BlockReader(options.predictions) as file:
        for unit in units:
            status = Status(unit.id, "predict", unit.seed, options.code)
            with recorded(status):
                if unit.fold not in expected:
                    raise ModelError(f"fold {unit.fold} has no test perturbation")
                status.facts["note"] = take(file, unit, expected[unit.fold], options.code, sha256, options.out_dir)
            status.write(options.out_dir, ("anndata", "numpy"))
            if status.facts["state"] != "ok":
                failures.append(f"{unit.id}: {status.facts['reason']}")
                log.warning("%s", failures[-1])
    if len(failures) == len(units):
        raise ModelError(failures[0])
