"""The simple baselines of `vcb_evaluate.py`: the pipeline's models that need no features, fitted on the user's file."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from vcbench.core import catalogue, settings
from vcbench.core.errors import ModelError
from vcbench.core.h5ad import CONTROL
from vcbench.metrics import bundle, contract, profiles, scoring
from vcbench.metrics.comparison import Predicted
from vcbench.metrics.evaluate_inputs import Source
from vcbench.metrics.stored_cells import StoredCells, in_order_of_names
from vcbench.models import registry
from vcbench.models.base import Model, Perturbation, Prediction, PredictionRequest, TrainingData
from vcbench.models.combination import Combination

log = logging.getLogger(__name__)

#: The baselines that are always there: what every table has a column of.
ALWAYS = ("train_mean", "no_change")
BATCH = "batch"
#: More batches than this have too many means to hold: (batches, genes) float64.
MOST_BATCHES = 500
#: Columns of the table of perturbations that every user gives; all others are annotations.
NO_ANNOTATIONS = ("perturbation", "gene", "pos")


class TrainingCells:
    """The cells of the training file as models see them, (cells, genes) in the order of their names, left on disk.

    `groups` (cells,) codes; the sums of each group are made in one pass, so that the mean of whole groups needs no
    cell. Other rows are read when asked for.
    """

    def __init__(self, cells: StoredCells, groups: np.ndarray) -> None:
        self._cells, self._groups = cells, groups
        (self._sums,) = profiles.collect(cells, [profiles.Wanted(groups, int(groups.max()) + 1, squares=False)])

    @property
    def shape(self) -> tuple[int, int]:
        """(cells, genes)."""
        return self._cells.shape

    def __getitem__(self, rows: np.ndarray) -> sp.csr_matrix:
        """Return these rows, (len(rows), genes) CSR."""
        return self._cells.take(rows)

    def mean_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the (genes,) float64 mean of these rows, which must be whole groups."""
        counts = np.bincount(self._groups[rows], minlength=len(self._sums.n))
        whole = np.flatnonzero(counts)
        if (counts[whole] != self._sums.n[whole]).any():
            raise ValueError("mean over part of a group of cells")
        return self._sums.total[whole].sum(axis=0) / len(rows)


def sites(name: str, listed: Mapping[str, Mapping[str, str]]) -> tuple[int, ...]:
    """Return the mutated residues of a perturbation, from column `pos` of a table or an id like ``TP53~R175H``."""
    text = listed.get(name, {}).get("pos", "")
    if text:
        return tuple(int(part) for part in text.split(";") if part.strip().isdigit())
    found = [re.fullmatch(r"[A-Za-z]+(\d+)[^~+;\d]+", part) for part in name.partition("~")[2].split(";")]
    return tuple(int(part[1]) for part in found if part) if all(found) else ()


def perturbations(
    ids: Sequence[str], targets: Mapping[str, Sequence[str]], table: Iterable[Mapping[str, str]]
) -> tuple[Perturbation, ...]:
    """Return what is known of these perturbations before any cell is measured."""
    listed = {row["perturbation"]: row for row in table}
    known = {name: {key: row[key] for key in row if key not in NO_ANNOTATIONS} for name, row in listed.items()}
    return tuple(
        Perturbation(name, tuple(targets.get(name, ())), sites(name, listed), known.get(name, {})) for name in ids
    )


def wanted(models: Mapping[str, Mapping[str, Any]], known: Sequence[Perturbation]) -> list[str]:
    """Return the names of the baselines that need no encoder, of variants or of genes, in the catalogue's order.

    Those that need annotations are there when the user gave a table of perturbations.
    """
    kind = "variant" if any(item.positions for item in known) else "gene"
    annotated = any(item.annotations for item in known)
    return [
        name for name, entry in models.items()
        if entry["class"] == "baseline" and not entry["encoder"] and kind in entry["modalities"]
        and (annotated or not entry.get("needs"))
    ]  # fmt: skip


def training_data(train: Source, genes: np.ndarray, known: tuple[Perturbation, ...]) -> TrainingData:
    """Return what models may see of the training file; its cells stay there."""
    (place,) = in_order_of_names((train.reader,), ("",))
    labels, batches = np.empty((2, len(place)), dtype=object)
    labels[place] = train.labels
    batches[place] = train.reader.obs[BATCH].astype(str) if BATCH in train.reader.obs else ""
    with_control = np.unique(batches[labels == CONTROL].astype(str))
    if len(with_control) > MOST_BATCHES:
        log.warning("%s: %d batches with control cells, more than %d: batches are ignored", train.path,
                    len(with_control), MOST_BATCHES)  # fmt: skip
        batches[:], with_control = "", np.array([""])
    # What the models average: controls of a batch, and cells of a perturbation in batches with and without controls.
    comparable = np.isin(batches.astype(str), with_control).astype(int).astype(str)
    parts = np.where(labels == CONTROL, batches, comparable).astype(str)
    of_label, of_part = (np.unique(column.astype(str), return_inverse=True)[1] for column in (labels, parts))
    groups = np.unique(of_label * (int(of_part.max()) + 1) + of_part, return_inverse=True)[1]
    cells = TrainingCells(StoredCells((train.reader,), genes, (place,)), groups)
    # No model that needs no encoder looks at raw counts; the user's files have none.
    return TrainingData(cells, labels, batches, tuple(genes), known, (), None, None)  # type: ignore[arg-type]


def predictions(
    built: bundle.TruthBundle, fold: bundle.FoldTruth, train: Source, known: Mapping[str, Perturbation], seed: int,
    assets: Path,
) -> tuple[dict[str, Predicted], dict[str, str]]:  # fmt: skip
    """Return the baselines' predictions of a fold, and why others are left out ({name: reason}).

    A baseline is left out when it cannot be fitted or when it says the same as the train mean for every perturbation:
    a column twice, and one more reference to be better than by luck.
    """
    entries = catalogue.load("models", assets)["entries"]
    # Draws of genes must not depend on their order in a file.
    order = np.argsort(built.genes.astype(str), kind="stable")
    data = training_data(train, built.genes[order], tuple(known[name] for name in train.ids))
    request = PredictionRequest(
        tuple(known[name] for name in fold.ids),
        tuple(fold.n_cells.tolist()),
        None,
        data.genes,
        None,  # type: ignore[arg-type]
    )
    found: dict[str, Predicted] = {}
    left_out: dict[str, str] = {}
    for name in sorted(wanted(entries, list(known.values())), key=lambda name: (name not in ALWAYS, name)):
        try:
            prediction = _predict(name, entries[name], data, request, seed)
        except ModelError as error:
            left_out[name] = str(error).removeprefix(f"{name}: ")
            continue
        if len(prediction.absent) == len(fold.ids):
            left_out[name] = min(prediction.absent.values())
            continue
        aligned = align(fold, prediction, order)
        if name not in ALWAYS and _equal(aligned, found["train_mean"]):
            left_out[name] = "says the same as train_mean here"
            continue
        found[name] = aligned
    for reason in dict.fromkeys(left_out.values()):
        log.info("left out: %s: %s", ", ".join(name for name in left_out if left_out[name] == reason), reason)
    return found, left_out


def _unfit(model: type[Model], request: PredictionRequest) -> str:
    """Return why a model cannot be asked about these perturbations, or an empty string."""
    unknown = [item.id for item in request.perturbations if not item.genes]
    if unknown and issubclass(model, Combination):
        return f"the genes of {len(unknown)} perturbations are not known (first {unknown[0]}): give --perturbations"
    return ""


def _predict(
    name: str, entry: Mapping[str, Any], data: TrainingData, request: PredictionRequest, seed: int
) -> Prediction:
    """Return the prediction of one model with the settings of the catalogue."""
    kind = registry.load(name)
    if reason := _unfit(kind, request):
        raise ModelError(reason)
    model = kind(settings.complete(name, settings.of_model(entry), {}, "models.yml"))
    model.fit(data, seed, "cpu")
    return model.predict(request, seed, "cpu")


def align(fold: bundle.FoldTruth, prediction: Prediction, order: np.ndarray) -> Predicted:
    """Return profiles in the order of the truth; `order` (G,) are the positions there of the predicted genes."""
    values = np.empty_like(prediction.values)
    values[:, order] = prediction.values
    ones = np.ones(len(prediction.labels), dtype=np.int64)
    return scoring.align(fold, [str(name) for name in prediction.labels], values, None, ones)


def _equal(one: Predicted, other: Predicted) -> bool:
    """Return whether two predictions are the same but for rounding."""
    return bool((np.abs(one.mean - other.mean) <= contract.TOLERANCE * np.maximum(1.0, np.abs(other.mean))).all())
