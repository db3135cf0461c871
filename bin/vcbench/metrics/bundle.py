"""The truth bundle: everything scoring needs to know about the truth, so that it never reads the dataset."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from vcbench.core import h5ad
from vcbench.core.errors import InputError
from vcbench.metrics import contract, de, extras

#: Which perturbations of a fold a truth is about: those models are judged by, or those that choose between them.
TEST, VALIDATION = "test", "validation"


@dataclass(frozen=True)
class GeneSet:
    """One gene set for each test perturbation: positions on the axis, and where it is shorter than asked for."""

    index: tuple[np.ndarray, ...]
    short: np.ndarray

    @cached_property
    def size(self) -> np.ndarray:
        """(perturbations,) number of genes."""
        return np.array([len(index) for index in self.index], dtype=np.int64)

    @cached_property
    def groups(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """``(positions on the axis, perturbations that share them)``, so that equal sets are computed together."""
        shared: dict[bytes, list[int]] = {}
        for row, index in enumerate(self.index):
            shared.setdefault(index.tobytes(), []).append(row)
        return [(self.index[rows[0]], np.array(rows)) for rows in shared.values()]


@dataclass(frozen=True)
class FoldTruth:
    """The truth of one fold: K test perturbations (sorted by id) on G genes; all profiles float64 log1p.

    Attributes
    ----------
    profile, variance
        (K, G) mean over cells and its sampling variance.
    control_a, control_b, control_all
        (G,) mean of the held-out half, of the training half and of all control cells.
    train_mean
        (G,) mean over training perturbations of their mean profiles, control and validation excluded.
    train_pc1
        (G,) unit vector: first principal component of the training deltas over expressed genes, 0 on others and when
        there are fewer than two training perturbations.
    expressed
        (G,) tested genes of the fold.
    targets
        Positions of the measured target genes of each perturbation.
    weights, weight_profile, weights_shared
        (K, G) weights of the weighted R2, the profile they are applied to, and whether both come from the same cells.
    first_half, n_first
        (seeds, K, G) mean of a random half of the cells and (K,) its size; NaN below 20 cells.
    significant
        Per perturbation, positions of the significant genes in rank order.
    positive
        (K, G) significant and beyond the fold-change cut.
    p_adj, log2fc
        (K, G) of the DE table; NaN where a gene was not tested or a perturbation has too few cells.
    significant_first
        As `significant`, from the first random half of the cells alone (`*_xfit`); None when it was not built.
    eligible
        (G,) genes whose split-half reliability over perturbations is positive; None before it is known.
    sets
        Positions of the genes of each set of ``--gene-sets`` (pathways), by the name in that file.
    duplicate_alpha
        (2, K, G) weights of the first and second half of the first split in the interpolated duplicate; None in a
        truth read from a file.
    quarter
        (K, G) mean of a random half of the cells of the first half of split 0; NaN below 20 cells, None when not built.
    cell_mean
        (G,) mean over all test cells (only `bench_compat`).
    listed, compat_label
        Per perturbation the first <= 20 genes of the compat list, and (K, G) compat DE labels; None when not asked for.
    extras
        What metrics outside the default group need.
    """

    fold: int
    ids: tuple[str, ...]
    n_cells: np.ndarray
    profile: np.ndarray
    variance: np.ndarray
    control_a: np.ndarray
    control_a_variance: np.ndarray
    control_b: np.ndarray
    control_b_variance: np.ndarray
    control_all: np.ndarray
    train_mean: np.ndarray
    train_pc1: np.ndarray
    expressed: np.ndarray
    targets: tuple[np.ndarray, ...]
    weights: np.ndarray
    weight_profile: np.ndarray
    weights_shared: np.ndarray
    first_half: np.ndarray
    n_first: np.ndarray
    significant: tuple[np.ndarray, ...]
    positive: np.ndarray
    p_adj: np.ndarray
    log2fc: np.ndarray
    cell_mean: np.ndarray
    significant_first: tuple[np.ndarray, ...] | None = None
    duplicate_alpha: np.ndarray | None = None
    quarter: np.ndarray | None = None
    eligible: np.ndarray | None = None
    sets: Mapping[str, np.ndarray] = field(default_factory=dict)
    listed: tuple[np.ndarray, ...] | None = None
    compat_label: np.ndarray | None = None
    extras: extras.Extras = field(default_factory=extras.Extras)

    @cached_property
    def panel_targets(self) -> np.ndarray:
        """Positions of the target genes of all test perturbations of the fold."""
        return np.unique(np.concatenate([np.array([], dtype=np.int64), *self.targets]))

    @cached_property
    def cross_fit(self) -> FoldTruth:
        """The fold with lists of changed genes from one half of the cells and profiles from the other (metrics.md 2.2).

        `n_cells` is that of the scoring half, or of the smaller one where it is too small for a list. Raises
        :class:`InputError` when the bundle holds no such lists.
        """
        if self.significant_first is None:
            raise InputError(
                "no cross-fitted gene lists", where="truth bundle", hint="write it again with vcb_truth.py"
            )
        n, first = self.n_cells[:, None].astype(np.float64), self.n_first[:, None].astype(np.float64)
        listed = self.n_first >= contract.MIN_CELLS_DE
        with np.errstate(invalid="ignore", divide="ignore"):
            second = (n * self.profile - first * self.first_half[0]) / (n - first)
            variance = self.variance * n / (n - first)
        return replace(
            self,
            n_cells=np.where(listed, self.n_cells - self.n_first, self.n_first),
            profile=second,
            variance=variance,
            significant=self.significant_first,
            significant_first=None,
            first_half=self.first_half[:0],
        )

    def with_profiles(self, **changes: Any) -> FoldTruth:
        """Return the fold with other profiles (or variances, cells): its gene sets stay and are not built again."""
        other = replace(self, **changes)
        other.__dict__["_cache"] = self._cache
        return other

    @cached_property
    def _cache(self) -> dict[str, GeneSet]:
        return {}

    def gene_set(self, name: str) -> GeneSet:
        """Return a gene set by name: all, expr, sig, deK, fixed_<name>, each with or without ``_nt``; or listed,
        eligible, top1000ctrl (the genes of highest mean control expression).

        ``_nt`` removes the perturbation's target genes before a list is cut to K, so lists stay full where possible.
        """
        if name not in self._cache:
            self._cache[name] = self._build(name)
        return self._cache[name]

    @cached_property
    def _fixed(self) -> dict[str, np.ndarray]:
        return {fixed_name(name): index for name, index in self.sets.items()}

    def _build(self, name: str) -> GeneSet:
        base, no_targets = (name[:-3], True) if name.endswith("_nt") else (name, False)
        rows = range(len(self.ids))
        if base == "all":
            found = [np.arange(len(self.expressed)) for _ in rows]
        elif base == "eligible" and self.eligible is not None:
            found = [np.flatnonzero(self.eligible) for _ in rows]
        elif base == "expr":
            found = [np.flatnonzero(self.expressed) for _ in rows]
        elif base == "sig" or base.startswith("de"):
            found = list(self.significant)
        elif base == "listed" and self.listed is not None:
            found = list(self.listed)
        elif base == "top1000ctrl":
            # Genes that no control cell has would make half of the pairs of genes say nothing about a double.
            order = np.argsort(-self.control_all, kind="stable")
            highest = np.sort(order[self.control_all[order] > 0][:CONTROL_GENES])
            found = [highest for _ in rows]
        elif base in self._fixed:
            found = [self._fixed[base] for _ in rows]
        else:
            raise InputError(f"unknown gene set '{name}'", where="metrics.yml")
        if no_targets:
            found = [index[~np.isin(index, self.targets[row])] for row, index in enumerate(found)]
        wanted = int(base[2:]) if base.startswith("de") else 20 if base == "listed" else 0
        short = np.array([0 < len(index) < wanted for index in found], dtype=bool)
        return GeneSet(tuple(index[:wanted] if wanted else index for index in found), short)


@dataclass(frozen=True)
class TruthBundle:
    """The truth of one dataset and split: its folds, the gene axis, and the genes eligible for gene-wise metrics.

    `reliability` is (G,) the split-half correlation of the gene over test perturbations; `facts` holds dataset, split,
    hashes and settings.
    """

    genes: np.ndarray
    folds: tuple[FoldTruth, ...]
    reliability: np.ndarray
    eligible: np.ndarray
    facts: dict[str, Any]

    def fold(self, number: int) -> FoldTruth:
        """Return one fold; raises :class:`InputError` when the truth has no such fold."""
        for fold in self.folds:
            if fold.fold == number:
                return fold
        raise InputError(f"no fold {number} in the truth", where=f"{self.facts['dataset']}.{self.facts['split']}")


def fixed_name(name: str) -> str:
    """Return the gene set under which a set of ``--gene-sets`` is scored: ``HALLMARK_P53_PATHWAY`` ->
    ``fixed_hallmark_p53``.
    """
    return "fixed_" + re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_").removesuffix("_pathway")


def axis_hash(genes: np.ndarray) -> str:
    """Return the SHA-256 of the gene axis: names in order, one per line."""
    return hashlib.sha256("\n".join(genes.tolist()).encode()).hexdigest()


#: Size of the gene set of genetic interactions.
CONTROL_GENES = 1000

_ROW_LAYERS = ("variance", "weights", "weight_profile")
_VAR_FOLD = ("train_mean", "train_pc1", "expressed", "cell_mean")
_VAR_SHARED = ("control_a", "control_a_variance", "control_b", "control_b_variance", "control_all")


def write(bundle: TruthBundle, path: Path | str) -> None:
    """Write the bundle as h5ad: one row per (fold, test perturbation); DE-derived sets live in the DE table."""
    import anndata as ad
    import pandas as pd

    folds = bundle.folds
    first = folds[0]
    obs = pd.DataFrame({
        "fold": np.concatenate([[fold.fold] * len(fold.ids) for fold in folds]).astype(np.int32),
        "perturbation": [name for fold in folds for name in fold.ids],
        "n_cells": np.concatenate([fold.n_cells for fold in folds]).astype(np.int64),
        "n_first_half": np.concatenate([fold.n_first for fold in folds]).astype(np.int64),
        "weights_shared": np.concatenate([fold.weights_shared for fold in folds]),
        "targets": [";".join(bundle.genes[index]) for fold in folds for index in fold.targets],
    })  # fmt: skip
    obs.index = [f"f{fold}|{name}" for fold, name in zip(obs["fold"], obs["perturbation"], strict=True)]
    var = pd.DataFrame({name: getattr(first, name) for name in _VAR_SHARED}, index=bundle.genes.astype(object))
    for fold in folds:
        for name in _VAR_FOLD:
            var[f"{name}_f{fold.fold}"] = getattr(fold, name)
    var["reliability"] = bundle.reliability
    var["eligible"] = bundle.eligible
    layers = {name: np.concatenate([getattr(fold, name) for fold in folds]) for name in _ROW_LAYERS}
    for seed in range(first.first_half.shape[0]):
        layers[f"first_half_{seed}"] = np.concatenate([fold.first_half[seed] for fold in folds])
    facts = dict(bundle.facts)
    if first.quarter is not None:
        layers["quarter"] = np.concatenate([fold.quarter for fold in folds])
    if first.significant_first is not None:
        layers["first_half_rank"] = np.concatenate([_ranks(fold.significant_first, len(var)) for fold in folds])
    if first.sets:
        facts["gene_sets"] = {name: [str(g) for g in bundle.genes[index]] for name, index in first.sets.items()}
    if first.listed is not None:
        layers["compat_label"] = np.concatenate([fold.compat_label for fold in folds])
        facts["compat_listed"] = [[str(g) for g in bundle.genes[index]] for fold in folds for index in fold.listed]
    data = ad.AnnData(X=np.concatenate([fold.profile for fold in folds]), obs=obs, var=var, layers=layers)
    if stored := extras.to_uns((fold.fold, fold.extras) for fold in folds):
        data.uns["extras"] = stored
    h5ad.write(data, path, facts)


def _ranks(lists: tuple[np.ndarray, ...] | None, n_genes: int) -> np.ndarray:
    """Return (K, G) 1, 2, ... for the genes of each list in its order, 0 for others."""
    ranks = np.zeros((len(lists or ()), n_genes), dtype=np.int32)
    for row, index in enumerate(lists or ()):
        ranks[row, index] = np.arange(1, len(index) + 1)
    return ranks


def read(path: Path | str, de_path: Path | str) -> TruthBundle:
    """Return the bundle of a truth file and its DE table; raises :class:`InputError` unless they belong together."""
    data = h5ad.read(path)
    try:
        facts = h5ad.provenance(data)
        genes = np.asarray(data.var_names, dtype=object)
        axis = facts["axis_sha256"]
    except (KeyError, json.JSONDecodeError) as error:
        raise InputError(
            "not a truth bundle", where=str(path), found=error, hint="write it with vcb_truth.py"
        ) from error
    rows, header = de.read_table(de_path)
    if header["axis_sha256"] != axis or header["truth_sha256"] != facts["truth_sha256"]:
        raise InputError("the DE table was made from another truth", where=str(de_path), expected=f"the one of {path}")
    position = {name: i for i, name in enumerate(genes)}
    table = {(fold, name): (np.array([position[g] for g in gene], dtype=np.int64), columns)
             for fold, name, gene, columns in rows}  # fmt: skip
    listed = facts.pop("compat_listed", None)
    sets = {
        name: np.array([position[g] for g in members], dtype=np.int64)
        for name, members in facts.pop("gene_sets", {}).items()
    }
    every_gene = np.arange(len(genes))
    n_seeds = sum(name.startswith("first_half_") and name != "first_half_rank" for name in data.layers)
    halves = np.stack([np.asarray(data.layers[f"first_half_{seed}"]) for seed in range(n_seeds)])
    folds = []
    for number in sorted(set(data.obs["fold"].tolist())):
        at = np.flatnonzero(data.obs["fold"].to_numpy() == number)
        ids = tuple(data.obs["perturbation"].to_numpy()[at].tolist())
        targets = [str(text) for text in data.obs["targets"].to_numpy()[at]]
        significant, positive = [], np.zeros((len(at), len(genes)), dtype=bool)
        p_adj, log2fc = np.full((2, len(at), len(genes)), np.nan)
        for row, name in enumerate(ids):
            index, columns = table.get((int(number), name), (np.array([], dtype=np.int64), None))
            significant.append(index if columns is None else select_significant(index, columns["rank"]))
            if columns is not None:
                positive[row, index[select_positive(columns["p_adj"], columns["log2fc"])]] = True
                p_adj[row, index], log2fc[row, index] = columns["p_adj"], columns["log2fc"]
        first_ranks = data.layers.get("first_half_rank")
        var = data.var
        folds.append(FoldTruth(
            fold=int(number),
            ids=ids,
            n_cells=data.obs["n_cells"].to_numpy()[at],
            profile=np.asarray(data.X)[at],
            **{name: np.asarray(data.layers[name])[at] for name in _ROW_LAYERS},
            **{name: var[name].to_numpy() for name in _VAR_SHARED},
            **{name: var[f"{name}_f{number}"].to_numpy() for name in _VAR_FOLD},
            targets=tuple(np.array([position[g] for g in text.split(";") if g], dtype=np.int64) for text in targets),
            weights_shared=data.obs["weights_shared"].to_numpy()[at],
            first_half=halves[:, at],
            n_first=data.obs["n_first_half"].to_numpy()[at],
            significant=tuple(significant),
            positive=positive,
            p_adj=p_adj,
            log2fc=log2fc,
            significant_first=None if first_ranks is None else
            tuple(select_significant(every_gene, rank) for rank in np.asarray(first_ranks)[at]),
            quarter=np.asarray(data.layers["quarter"])[at] if "quarter" in data.layers else None,
            eligible=var["eligible"].to_numpy(),
            sets=sets,
            listed=None if listed is None else
            tuple(np.array([position[g] for g in listed[i]], dtype=np.int64) for i in at),
            compat_label=None if listed is None else np.asarray(data.layers["compat_label"])[at],
            extras=extras.from_uns(data.uns.get("extras"), int(number)),
        ))  # fmt: skip
    return TruthBundle(genes, tuple(folds), var["reliability"].to_numpy(), var["eligible"].to_numpy(), facts)


@dataclass(frozen=True)
class Labels:
    """What is changed in each of K perturbations: rows of the DE table, and these as sets and (K, G) arrays.

    `significant` are positions in rank order; `positive` genes are also beyond the fold-change cut; `p_adj` and
    `log2fc` are NaN where nothing was tested.
    """

    rows: list[de.DeRow]
    significant: tuple[np.ndarray, ...]
    positive: np.ndarray
    p_adj: np.ndarray
    log2fc: np.ndarray


def labels(
    fold: int, ids: Sequence[str], enough: np.ndarray, tested: np.ndarray, z: np.ndarray, p: np.ndarray,
    log2fc: np.ndarray, genes: np.ndarray,
) -> Labels:  # fmt: skip
    """Return the labels from (K, G) z, p and log2 fold change, of perturbations with `enough` (K,) cells.

    `tested` are positions of the tested genes on the axis `genes`.
    """
    shape = (len(ids), len(genes))
    found = Labels([], (), np.zeros(shape, dtype=bool), np.full(shape, np.nan), np.full(shape, np.nan))
    significant = [np.array([], dtype=np.int64)] * len(ids)
    for k in np.flatnonzero(enough):
        row = de.test_row(fold, ids[k], tested, z[k], p[k], log2fc[k], genes)
        found.rows.append(row)
        significant[k] = select_significant(tested, row.rank)
        found.positive[k, tested[select_positive(row.p_adj, row.log2fc)]] = True
        found.p_adj[k, tested], found.log2fc[k, tested] = row.p_adj, row.log2fc
    return replace(found, significant=tuple(significant))


def select_significant(index: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Return the positions with a rank, in rank order."""
    ranked = np.flatnonzero(rank > 0)
    return index[ranked[np.argsort(rank[ranked], kind="stable")]]


def select_positive(p_adj: np.ndarray, log2fc: np.ndarray) -> np.ndarray:
    """Return where a gene is a positive of average precision: significant and beyond the fold-change cut."""
    return (p_adj < contract.FDR) & (np.abs(log2fc) >= contract.LFC_CUT)
