"""The ceiling `cross_line`: the same perturbations measured in another dataset as the prediction (metrics.md 6.5)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vcbench.core import h5ad
from vcbench.core.errors import InputError
from vcbench.metrics import contract, registry, scoring
from vcbench.metrics.bundle import FoldTruth, TruthBundle
from vcbench.metrics.comparison import Predicted
from vcbench.metrics.extras import Extras
from vcbench.metrics.registry import Metric

log = logging.getLogger(__name__)

#: End of the name of a truth bundle.
SUFFIX = ".truth.h5ad"

#: Fields of a fold with genes on their last axis, and those that hold positions of genes.
_BY_GENE = (
    "profile", "variance", "control_a", "control_a_variance", "control_b", "control_b_variance", "control_all",
    "train_mean", "train_pc1", "expressed", "weights", "weight_profile", "first_half", "positive", "p_adj", "log2fc",
    "cell_mean", "eligible", "compat_label", "duplicate_alpha", "quarter",
)  # fmt: skip
_POSITIONS = ("targets", "significant", "significant_first", "listed")


@dataclass(frozen=True)
class Elsewhere:
    """Perturbations measured in another dataset: change (K, G) against all its controls, its variance, cells."""

    dataset: str
    ids: tuple[str, ...]
    genes: np.ndarray
    change: np.ndarray
    variance: np.ndarray
    n_cells: np.ndarray


def read(path: Path) -> Elsewhere:
    """Return the measured changes of a truth bundle, each perturbation once (profiles do not depend on the fold)."""
    data = h5ad.read(path)
    facts = h5ad.provenance(data)
    names, first = np.unique(data.obs["perturbation"].to_numpy().astype(str), return_index=True)
    return Elsewhere(
        facts["dataset"],
        tuple(names.tolist()),
        np.asarray(data.var_names, dtype=object),
        np.asarray(data.X)[first] - data.var["control_all"].to_numpy(),
        np.asarray(data.layers["variance"])[first],
        data.obs["n_cells"].to_numpy()[first],
    )


def on_genes(fold: FoldTruth, keep: np.ndarray) -> FoldTruth:
    """Return a fold on the genes at positions `keep` alone; lists keep their order without the genes that go."""
    place = np.full(len(fold.expressed), -1)
    place[keep] = np.arange(len(keep))

    def moved(index: np.ndarray) -> np.ndarray:
        found = place[index]
        return found[found >= 0]

    changed = {name: getattr(fold, name)[..., keep] for name in _BY_GENE if getattr(fold, name) is not None}
    lists = {
        name: tuple(moved(index) for index in getattr(fold, name))
        for name in _POSITIONS if getattr(fold, name) is not None
    }  # fmt: skip
    sets = {name: moved(index) for name, index in fold.sets.items()}
    return replace(fold, **changed, **lists, sets=sets, extras=Extras())


def add(bundle: TruthBundle, other: Elsewhere, metrics: Mapping[str, Metric], rows: scoring.Rows) -> None:
    """Add the scores of the changes measured elsewhere, added to the training controls of this dataset.

    Compared on the genes that both datasets measured and the perturbations that both have; no rows without either.
    Metrics of the default group without cross-fitted lists.
    """
    position = {name: i for i, name in enumerate(other.genes)}
    keep = np.array([i for i, name in enumerate(bundle.genes) if name in position], dtype=np.int64)
    known = {name: i for i, name in enumerate(other.ids)}
    common = sorted({name for fold in bundle.folds for name in fold.ids} & known.keys())
    if len(keep) < contract.MIN_GENES_CORRELATION or not common:
        log.warning("%s: %d perturbations and %d genes in common: no cross_line", other.dataset, len(common), len(keep))
        return
    log.info("cross_line %s: %d perturbations, %d of %d genes in common", other.dataset, len(common), len(keep),
             len(bundle.genes))  # fmt: skip
    column = np.array([position[bundle.genes[i]] for i in keep], dtype=np.int64)
    folds, predictions = [], {}
    for whole in bundle.folds:
        fold = on_genes(whole, keep)
        mean, variance = np.full(fold.profile.shape, np.nan), np.zeros(fold.profile.shape)
        n_cells = np.zeros(len(fold.ids), dtype=np.int64)
        for k, name in enumerate(fold.ids):
            if name in known and other.n_cells[known[name]] >= contract.MIN_CELLS_PROFILE:
                mean[k] = fold.control_b + other.change[known[name], column]
                variance[k] = np.nan_to_num(other.variance[known[name], column])
                n_cells[k] = other.n_cells[known[name]]
        folds.append(fold)
        predictions[fold.fold] = Predicted(mean, variance, n_cells)
    few = replace(
        bundle, genes=bundle.genes[keep], folds=tuple(folds), reliability=bundle.reliability[keep],
        eligible=bundle.eligible[keep],
    )  # fmt: skip
    wanted = {
        name: replace(metric, gene_sets=tuple(s for s in metric.gene_sets if not s.endswith(scoring.XFIT)))
        for name, metric in registry.chosen(dict(metrics), []).items()
    }
    scoring.score_combination(few, predictions, wanted, rows, 0, nulls=False)


def rows_of(bundle: TruthBundle, paths: Sequence[Path], metrics: Mapping[str, Metric]) -> list[tuple]:
    """Return the rows of all other datasets; raises :class:`InputError` when one is given twice or is this one."""
    found = [read(path) for path in sorted(paths)]
    names = [other.dataset for other in found]
    own = bundle.facts["dataset"]
    if len(set(names)) < len(names) or own in names:
        raise InputError("a truth is given twice", where="--predictions", found=", ".join(names), expected=f"not {own}")
    result = []
    for other in found:
        collector = scoring.Rows(own, bundle.facts["split"], f"{contract.CROSS_LINE}:{other.dataset}")
        add(bundle, other, metrics, collector)
        result += collector.rows
    return result
