"""VariantCellBench's own formulas (metrics.md 2.12): shared controls, all genes, its lists; undefined stays NaN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vcbench.core.errors import InputError
from vcbench.core.names import closest
from vcbench.metrics import contract, delta, discrimination, errors, recovery
from vcbench.metrics.comparison import Comparison, Outcome, flags, reasons
from vcbench.metrics.moderated_t import moderated_t
from vcbench.metrics.pairwise import compare

#: `file`: the lists that stand in the input itself, under one of `UNS_KEYS`.
DE_LISTS = ("gears_ttest", "readme_wilcoxon", "file")
UNS_KEYS = ("top_non_dropout", "top_non_dropout_de_20")
LIST_LENGTH = 20
DIFFERENCE_CUT = 0.58


def check_list(name: str) -> str:
    """Return the name of a known DE list; raises :class:`InputError` with the nearest one otherwise."""
    if name not in DE_LISTS:
        raise InputError(f"unknown DE list '{name}'", where="--bench-compat-de-list", hint=closest(name, DE_LISTS))
    return name


def kept(mean: np.ndarray, control: np.ndarray) -> np.ndarray:
    """Return which genes a list may hold: not those that the perturbation silenced completely."""
    return ~((mean == 0) & (control != 0))


def gears_list(
    mean: np.ndarray, variance: np.ndarray, n: int, control: np.ndarray, control_variance: np.ndarray, n_control: int,
    genes: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Return positions of the first 20 genes by |Welch t| against control, no significance cut, ties by name."""
    error = np.sqrt(variance / n + control_variance / n_control)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = np.abs(np.where(mean == control, 0.0, (mean - control) / error))
    allowed = np.flatnonzero(kept(mean, control))
    return allowed[np.lexsort((genes[allowed], -np.round(t[allowed], 10)))][:LIST_LENGTH]


def wilcoxon_list(
    p_adj: np.ndarray, log2fc: np.ndarray, mean: np.ndarray, control: np.ndarray, genes: np.ndarray
) -> np.ndarray:
    """Return positions of the first 20 genes with p_adj < .05 by |log2fc|, ties by name."""
    allowed = np.flatnonzero(kept(mean, control) & (p_adj < contract.FDR))
    return allowed[np.lexsort((genes[allowed], -np.round(np.abs(log2fc[allowed]), 10)))][:LIST_LENGTH]


def stored_lists(uns: Mapping[str, Any], where: str) -> dict[str, list[str]]:
    """Return the gene lists of a file by perturbation, best gene first.

    They are ``uns["top_non_dropout"]``, or ``uns["top_non_dropout_de_20"]`` without it: names by the perturbation's
    label exactly as in obs. Raises :class:`InputError` when there is neither or it holds anything else.
    """
    key = next((name for name in UNS_KEYS if name in uns), None)
    if key is None:
        raise InputError("no gene lists for --bench-compat-de-list file", where=f"{where}, uns",
                         found=", ".join(sorted(uns)) or "nothing", expected=" or ".join(UNS_KEYS))  # fmt: skip
    lists = uns[key]
    if not isinstance(lists, Mapping):
        raise InputError("not gene lists by perturbation", where=f"{where}, uns['{key}']", found=type(lists).__name__,
                         expected="a dictionary of arrays of gene names")  # fmt: skip
    found = {}
    for name, genes in lists.items():
        genes = np.asarray(genes)
        if genes.ndim != 1 or not all(isinstance(gene, str) for gene in genes.tolist()):
            raise InputError("not a list of gene names", where=f"{where}, uns['{key}']['{name}']")
        found[str(name)] = [str(gene) for gene in genes.tolist()]
    return found


def file_list(names: Sequence[str], position: Mapping[str, int]) -> np.ndarray:
    """Return positions of the first 20 names that are on the axis, in their order, each once."""
    return np.array([position[name] for name in dict.fromkeys(names) if name in position][:LIST_LENGTH], dtype=np.int64)


def labels(
    mean: np.ndarray, variance: np.ndarray, n: int, control: np.ndarray, control_variance: np.ndarray, n_control: int
) -> np.ndarray:
    """Return (G,) AUPRC labels: moderated t, BH over all genes, adj p < .05 and |difference of mean X| > 0.58."""
    from vcbench.metrics.de import benjamini_hochberg

    difference = mean - control
    p = moderated_t(difference, variance, n, control_variance, n_control).p
    return (benjamini_hochberg(p) < contract.FDR) & (np.abs(difference) > DIFFERENCE_CUT)


def mse_cw_de(comparison: Comparison, gene_set: str) -> Outcome:
    """Mean of (p - t)^2 over the listed genes."""
    return errors.mse(comparison, gene_set)


def pcc_cw_de(comparison: Comparison, gene_set: str) -> Outcome:
    """r(p, t) on the listed genes."""
    return delta.pearson(comparison, gene_set)


def dpcc_cw_de(comparison: Comparison, gene_set: str) -> Outcome:
    """r(p - c, t - c) with the mean of all control cells on both sides."""
    control = comparison.truth.control_all
    return compare(comparison, gene_set, delta.pearson_kernel, lambda truth: (control, control))


def dspcc_cw_de(comparison: Comparison, gene_set: str) -> Outcome:
    """r(p - m, t - m) with the mean of all test cells, which holds the perturbation's own cells."""
    reference = comparison.truth.cell_mean
    return compare(comparison, gene_set, delta.pearson_kernel, lambda truth: (reference, reference))


def c_acc(comparison: Comparison, gene_set: str) -> Outcome:
    """Share of the other truths and the control strictly farther than the own truth; ties lose; all genes."""
    truth = comparison.truth
    true = np.vstack([truth.profile, truth.control_all[None]])
    distances, tie = discrimination.squared_distances(comparison.predicted.mean, true)
    own = comparison.take(distances[:, :-1])
    farther = (distances[:, None, :] - own[:, :, None] > tie[:, :, None]).sum(2)
    none = np.zeros(len(truth.ids), dtype=bool)
    return Outcome(
        np.where(np.isnan(own), np.nan, farther / (len(true) - 1)),
        np.full(len(truth.ids), truth.profile.shape[1]),
        reasons(truth, (truth.n_cells < contract.MIN_CELLS_PROFILE, "few_cells")),
        none,
        flags(none, ""),
    )


def mse_gw(comparison: Comparison, gene_set: str) -> Outcome:
    """Mean over all genes of (p - t)^2; its mean over perturbations is VCB's MSE_gw."""
    return errors.mse(comparison, gene_set)


def auprc(comparison: Comparison, gene_set: str) -> Outcome:
    """Trapezoid area of |p - c| for the moderated-t labels, rounded to 4 decimals."""
    truth, predicted = comparison.truth, comparison.predicted.mean
    every = np.ones_like(truth.compat_label)
    score = recovery.scores(predicted - truth.control_all, predicted)
    n_positive, n_genes = truth.compat_label.sum(1), truth.profile.shape[1]
    values = np.full(comparison.pairs.shape, np.nan)
    for k, rows in enumerate(comparison.pairs):
        if not np.isnan(score[k, 0]):
            values[k] = np.round(recovery.trapezoid_area(score[k], truth.compat_label[rows], every[rows]), 4)
    values[(n_positive == 0)[comparison.pairs] | (n_positive == n_genes)[comparison.pairs]] = np.nan
    none = np.zeros(len(truth.ids), dtype=bool)
    return Outcome(
        values,
        np.full(len(truth.ids), n_genes),
        reasons(
            truth,
            (truth.n_cells < contract.MIN_CELLS_PROFILE, "few_cells"),
            (n_positive == 0, "no_de"),
            (n_positive == n_genes, "all_de"),
        ),
        none,
        flags(none, ""),
    )
