"""Values of level ``gene`` (metrics.md 2.1, 2.8): per configuration, metric and gene, behind the gene-wise means."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vcbench.metrics import contract, genewise, scoring
from vcbench.metrics.bundle import TruthBundle
from vcbench.metrics.comparison import Predicted

if TYPE_CHECKING:
    import pyarrow as pa

#: Text columns, then whole numbers, of the table; a row is a configuration, a metric and a gene.
TEXTS = ("dataset", "split", "model", "encoder", "strategy", "metric", "gene", "status")
COLUMNS = (
    "dataset", "split", "model", "encoder", "strategy", "seed", "metric", "gene", "value", "n_perturbations", "status",
)  # fmt: skip
KEYS = COLUMNS[:8]


@dataclass(frozen=True)
class GeneValues:
    """One metric of one configuration, gene by gene: `genes` (F,) names, `values` (F,) NaN where undefined, `status`.

    `n_perturbations` is the number of perturbations behind each value.
    """

    model: str
    encoder: str
    strategy: str
    seed: int
    metric: str
    genes: np.ndarray
    values: np.ndarray
    status: np.ndarray
    n_perturbations: int


def _squared_errors(true: np.ndarray, predicted: np.ndarray, folds: np.ndarray) -> np.ndarray:
    return ((predicted - true) ** 2).mean(axis=0)


def _normalised_errors(true: np.ndarray, predicted: np.ndarray, folds: np.ndarray) -> np.ndarray:
    return genewise.gene_errors(true, predicted)


def _varies(true: np.ndarray, folds: np.ndarray) -> np.ndarray:
    return ~contract.constant(true.T - true.mean(axis=0)[:, None], true.T)


def _varies_within_folds(true: np.ndarray, folds: np.ndarray) -> np.ndarray:
    return ~contract.constant(genewise.centred(true, folds).T, true.T)


@dataclass(frozen=True)
class _Formula:
    """(G,) values of (K, G) truth and prediction, fewest perturbations, which genes the truth allows (None: all)."""

    values: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    minimum: int
    allowed: Callable[[np.ndarray, np.ndarray], np.ndarray] | None


_FORMULAS = {
    "gw_mse": _Formula(_squared_errors, 1, None),
    "gw_nmse": _Formula(_normalised_errors, contract.MIN_PERTURBATIONS_GENEWISE, _varies),
    "gw_pearson_wf": _Formula(
        genewise.gene_correlations, contract.MIN_PERTURBATIONS_GENEWISE, _varies_within_folds
    ),
}  # fmt: skip
#: Metrics whose value is a mean over genes, on the genes of the set ``eligible``.
METRICS = tuple(_FORMULAS)


def of_model(
    bundle: TruthBundle, predictions: Mapping[int, Predicted], model: str, encoder: str, strategy: str, seed: int
) -> list[GeneValues]:
    """Return the values of all `METRICS` on eligible genes, from the predictions by fold.

    The perturbations are those of the metrics themselves, so that the mean over genes is their value. With missing
    predictions a value stands and is flagged ``missing_pred``.
    """
    at = _by_name(bundle, np.flatnonzero(bundle.eligible))
    folds = [bundle.fold(number) for number in sorted(predictions)]
    true, predicted, number = [], [], []
    for fold in folds:
        p = predictions[fold.fold]
        use = scoring.allowed_by(fold, fold.profile[:, at]) & (p.n_cells > 0) & ~np.isnan(p.mean[:, at]).any(axis=1)
        true.append(fold.profile[use][:, at])
        predicted.append(p.mean[use][:, at])
        number.append(np.full(int(use.sum()), fold.fold))
    whole = [fold.profile[scoring.allowed_by(fold, fold.profile[:, at])][:, at] for fold in bundle.folds]
    numbers = np.concatenate([np.full(len(part), f.fold) for part, f in zip(whole, bundle.folds, strict=True)])
    every = np.concatenate(whole)
    t, p, of = np.concatenate(true), np.concatenate(predicted), np.concatenate(number)
    absent = len(t) < len(every)
    found = []
    for metric, formula in _FORMULAS.items():
        status = np.full(len(at), "missing_pred" if absent else contract.OK, dtype=object)
        values = np.full(len(at), np.nan)
        if len(t) >= formula.minimum:
            values = formula.values(t, p, of)
            status[np.isnan(values)] = "const_pred"
            if formula.allowed is not None:
                status[~formula.allowed(t, of)] = "missing_pred" if absent else "const_true"
                status[~formula.allowed(every, numbers)] = "const_true"
        if len(every) < formula.minimum:
            status[:] = "single_pert" if len(every) else "few_cells"
        found.append(GeneValues(model, encoder, strategy, seed, metric, bundle.genes[at], values, status, len(t)))
    return found


def of_truth(bundle: TruthBundle) -> list[GeneValues]:
    """Return what can be measured of each gene of the axis, folds kept apart (metrics.md 10.5).

    - ``gene_reliability``: split-half correlation over perturbations; above 0 the gene is eligible;
    - ``gene_variance``: variance between perturbations, the noise of their means included (squared log units);
    - ``gene_noise``: mean sampling variance of these means, the part that the sampling of cells explains;
    - ``gene_ceiling``: 1 - noise / variance, the share that a prediction can explain; not cut at 0. Its mean over
      eligible genes, cut at 0, is `full_vs_full` of the gene-wise Pearson.
    """
    at = _by_name(bundle, np.arange(len(bundle.genes)))
    total, noise = np.zeros((2, len(at)))
    n, freedom, varies = 0, 0, np.zeros(len(at), dtype=bool)
    for fold in bundle.folds:
        use = scoring.allowed_by(fold, fold.profile[:, at])
        k = int(use.sum())
        if not k:
            continue
        t = fold.profile[use][:, at]
        total += ((t - t.mean(axis=0)) ** 2).sum(axis=0)
        noise += fold.variance[use][:, at].sum(axis=0)
        varies |= ~contract.constant((t - t.mean(axis=0)).T, t.T)
        n, freedom = n + k, freedom + k - 1
    reliability = bundle.reliability[at]
    with np.errstate(invalid="ignore", divide="ignore"):
        variance, noise = total / freedom, noise / n
        ceiling = np.where(varies, 1 - noise / variance, np.nan)
    found = {
        "gene_reliability": (reliability, np.where(np.isnan(reliability) & ~varies, "const_true", "single_pert")),
        "gene_variance": (variance, np.full(len(at), "single_pert")),
        "gene_noise": (noise, np.full(len(at), "single_pert")),
        "gene_ceiling": (ceiling, np.where(varies | (freedom < 1), "single_pert", "const_true")),
    }
    return [
        GeneValues(contract.TRUTH, "none", "none", 0, metric, bundle.genes[at], values,
                   np.where(np.isnan(values), reason, contract.OK), n)
        for metric, (values, reason) in sorted(found.items())
    ]  # fmt: skip


def _by_name(bundle: TruthBundle, index: np.ndarray) -> np.ndarray:
    """Return positions of genes in the order of their names."""
    return index[np.argsort(bundle.genes[index].astype(str), kind="stable")]


def schema() -> pa.Schema:
    """Return the layout of the table: text as dictionaries, values in single precision."""
    import pyarrow as pa

    text = pa.dictionary(pa.int32(), pa.string())
    types = {"value": pa.float32(), "seed": pa.int32(), "n_perturbations": pa.int32()}
    return pa.schema([(name, types.get(name, text)) for name in COLUMNS])


def to_table(dataset: str, split: str, found: Iterable[GeneValues]) -> pa.Table:
    """Return the values as one table, sorted by its keys; genes of an item must be in order of name."""
    import pyarrow as pa

    ordered = sorted(found, key=lambda one: (one.model, one.encoder, one.strategy, one.seed, one.metric))
    sizes = [len(one.genes) for one in ordered]

    def text(values: Sequence[str]) -> pa.Array:
        names = sorted(set(values))
        code = {name: i for i, name in enumerate(names)}
        return pa.DictionaryArray.from_arrays(
            pa.array(np.repeat([code[value] for value in values], sizes).astype(np.int32)), pa.array(names, pa.string())
        )

    def per_gene(name: str) -> pa.Array:
        parts = [getattr(one, name).tolist() for one in ordered]
        names = sorted(set().union(*parts))
        code = {value: i for i, value in enumerate(names)}
        found = np.fromiter((code[value] for part in parts for value in part), np.int32, sum(sizes))
        return pa.DictionaryArray.from_arrays(pa.array(found), pa.array(names, pa.string()))

    numbers = np.concatenate([np.array([]), *(one.values for one in ordered)])
    columns = {
        "dataset": text([dataset] * len(ordered)), "split": text([split] * len(ordered)),
        **{name: text([getattr(one, name) for one in ordered]) for name in ("model", "encoder", "strategy", "metric")},
        "seed": pa.array(np.repeat([one.seed for one in ordered], sizes).astype(np.int32)),
        "gene": per_gene("genes"), "status": per_gene("status"), "value": pa.array(numbers.astype(np.float32)),
        "n_perturbations": pa.array(np.repeat([one.n_perturbations for one in ordered], sizes).astype(np.int32)),
    }  # fmt: skip
    return pa.table(columns).select(list(COLUMNS)).cast(schema())


def write(table: pa.Table, path: Path) -> None:
    """Write a table of :func:`to_table`."""
    import pyarrow.parquet as pq

    pq.write_table(table, path, compression="zstd")
