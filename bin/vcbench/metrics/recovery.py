"""Do the largest predicted changes include the truly changed genes? (metrics.md 2.7)"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from vcbench.metrics import contract, delta, ranking
from vcbench.metrics.bundle import FoldTruth
from vcbench.metrics.comparison import Comparison, Outcome, flags, no_de_test, reasons
from vcbench.metrics.pairwise import compare, split_controls
from vcbench.metrics.ranking import scores

#: Fewest significant genes for an error relative to their changes.
MIN_GENES_LFC = 10
#: Differences of average precision and prevalence up to this are rounding.
ROUNDING = 1e-12


# ---------------------------------------------------------------------------------------------------------------------
# Areas of one score against many labels


def trapezoid_area(score: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return (R,) area of trapezoids under precision over recall from the added point (0, 1), ties joined.

    Parameters
    ----------
    score
        (G,) of one prediction.
    labels, mask
        (R, G) positives and evaluated genes of the truths it is compared with.
    """
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    hits = np.cumsum((labels & mask)[:, order], axis=1, dtype=np.float64)
    called = np.cumsum(mask[:, order], axis=1, dtype=np.float64)[:, ends]
    hits, positives = hits[:, ends], hits[:, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = hits / positives[:, None]
        precision = np.where(called > 0, hits / called, 1.0)
    recall = np.concatenate([np.zeros((len(recall), 1)), recall], axis=1)
    precision = np.concatenate([np.ones((len(precision), 1)), precision], axis=1)
    return (np.diff(recall, axis=1) * (precision[:, 1:] + precision[:, :-1]) / 2).sum(1)


# ---------------------------------------------------------------------------------------------------------------------
# Labels


def labels_of(truth: FoldTruth, name: str, gene_set: str) -> np.ndarray:
    """Return (K, G) the positives of a metric of labels.

    Positives are significant genes beyond the fold-change cut; those that go up or down for the signed metrics; others
    where the gene set says so (``expr_nt@fdr0.01_lfc0.25``).
    """
    if "@" in gene_set:
        fdr, cut = gene_set.split("@fdr")[1].split("_lfc")
        with np.errstate(invalid="ignore"):
            return (truth.p_adj < float(fdr)) & (np.abs(truth.log2fc) >= cut_of(cut))
    if name.endswith("_up"):
        return truth.positive & (truth.log2fc > 0)
    if name.endswith("_down"):
        return truth.positive & (truth.log2fc < 0)
    return truth.positive


def cut_of(text: str) -> float:
    """Return a fold-change cut by its name; 0.585 is exactly log2 1.5."""
    return contract.LFC_CUT if text == "0.585" else float(text)


@dataclass(frozen=True)
class _Labelled:
    """Positions on `axis` of the positives of each truth, and of the genes that are not in its set."""

    axis: np.ndarray
    positives: list[np.ndarray]
    removed: list[np.ndarray]
    n_positive: np.ndarray
    n_genes: np.ndarray


def _labelled(truth: FoldTruth, name: str, gene_set: str) -> _Labelled:
    labels = labels_of(truth, name, gene_set)
    genes = truth.gene_set(gene_set.split("@")[0])
    axis = np.unique(np.concatenate([np.array([], dtype=np.int64), *(index for index, _ in genes.groups)]))
    positives, removed = [], []
    inside = np.zeros(labels.shape[1], dtype=bool)
    for row, index in enumerate(genes.index):
        inside[:] = False
        inside[index] = True
        positives.append(np.flatnonzero((labels[row] & inside)[axis]))
        removed.append(np.flatnonzero(~inside[axis]))
    return _Labelled(axis, positives, removed, np.array([len(found) for found in positives]), genes.size)


def prevalence(truth: FoldTruth, name: str, gene_set: str) -> np.ndarray:
    """Return (K,) the share of positives among the genes of the set: what a constant score reaches."""
    found = _labelled(truth, name, gene_set)
    return found.n_positive / np.maximum(found.n_genes, 1)


def _score(comparison: Comparison, axis: np.ndarray, sign: int) -> np.ndarray:
    """Return (K, n) |p - c_B|, or signed by `sign`, free of rounding noise."""
    p = comparison.predicted.mean.take(axis, axis=1)
    change = p - comparison.truth.control_b[axis]
    size = scores(change, p)
    return sign * np.sign(change) * size if sign else size


def _ranked(comparison: Comparison, axis: np.ndarray, sign: int) -> tuple[ranking.Ranking, np.ndarray]:
    """Return the genes of `axis` ranked by :func:`_score`, and (K,) whether there is a prediction."""

    def make() -> tuple[ranking.Ranking, np.ndarray]:
        if sign < 0:  # the opposite order of `sign` 1
            up, known = _ranked(comparison, axis, 1)
            return ranking.Ranking(len(axis) - up.called, len(axis) - up.above), known
        score = _score(comparison, axis, sign)
        return ranking.rank(score), ~np.isnan(score).any(axis=1)

    return comparison.once(("ranked", axis.tobytes(), sign), make)


def _outcome(
    truth: FoldTruth, values: np.ndarray, sizes: np.ndarray, *conditions: tuple[np.ndarray | bool, str]
) -> Outcome:
    """Return the outcome of a metric of measured DE: undefined for want of cells or controls, then by `conditions`."""
    none = np.zeros(len(truth.ids), dtype=bool)
    return Outcome(values, sizes, reasons(truth, *no_de_test(truth), *conditions), none, flags(none, ""))


def _area(comparison: Comparison, name: str, gene_set: str, sign: int, of: Callable[..., float]) -> Outcome:
    """Return a metric of labels: `of` gets ends and starts of the positives, ends of removed genes, number of genes."""
    truth = comparison.truth
    found = comparison.once((name, gene_set), lambda: _labelled(truth, name, gene_set))
    usable = (found.n_positive > 0) & (found.n_positive < found.n_genes) & (truth.n_cells >= contract.MIN_CELLS_DE)
    values = np.full(comparison.pairs.shape, np.nan)
    if usable.any():
        ranks, known = _ranked(comparison, found.axis, sign)
        for k, rows in enumerate(comparison.pairs):
            called, above = ranks.called[k], ranks.above[k]
            for column, row in enumerate(rows if known[k] else ()):
                if usable[row]:
                    at = found.positives[row]
                    values[k, column] = of(called[at], above[at], called[found.removed[row]], found.n_genes[row])
    conditions = (found.n_positive == 0, "no_de"), (found.n_positive == found.n_genes, "all_de")
    return _outcome(truth, values, found.n_genes, *conditions)


def _precision(called: np.ndarray, above: np.ndarray, removed: np.ndarray, n_genes: int) -> float:
    return ranking.average_precision(called, removed)


def ap_de(comparison: Comparison, gene_set: str) -> Outcome:
    """Average precision of |p - c_B| for the positives of the truth DE table."""
    return _area(comparison, "ap_de", gene_set, 0, _precision)


def ap_de_lift(comparison: Comparison, gene_set: str) -> Outcome:
    """(AP - pi) / (1 - pi): 0 for guessing, 1 for a perfect ranking."""
    outcome = ap_de(comparison, gene_set)
    with np.errstate(invalid="ignore", divide="ignore"):
        pi = prevalence(comparison.truth, "ap_de", gene_set)[comparison.pairs]
        gain = outcome.values - pi
        # A mean of equal precisions misses the prevalence by its last bits: that is no lift.
        values = np.where(np.abs(gain) <= ROUNDING, 0.0, gain) / (1 - pi)
    return Outcome(values, outcome.n_genes, outcome.truth_reason, outcome.constant_prediction, outcome.flag)


def ap_signed_up(comparison: Comparison, gene_set: str) -> Outcome:
    """Average precision of p - c_B for the positives that go up."""
    return _area(comparison, "ap_signed_up", gene_set, 1, _precision)


def ap_signed_down(comparison: Comparison, gene_set: str) -> Outcome:
    """Average precision of -(p - c_B) for the positives that go down."""
    return _area(comparison, "ap_signed_down", gene_set, -1, _precision)


def ap_de_grid(comparison: Comparison, gene_set: str) -> Outcome:
    """As :func:`ap_de`, with the cuts of false discovery rate and fold change that the gene set names."""
    return _area(comparison, "ap_de", gene_set, 0, _precision)


def auroc_de(comparison: Comparison, gene_set: str) -> Outcome:
    """Area under the ROC curve, with labels and score of :func:`ap_de`."""
    return _area(comparison, "auroc_de", gene_set, 0, ranking.roc_area)


# ---------------------------------------------------------------------------------------------------------------------
# Top lists


#: Why a list of every gene of the set is none: the set has no more than k genes; every gene is significantly changed.
WHOLE_SET = ("few_genes", "all_de")


def _wanted(truth: FoldTruth, gene_set: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (K,) lengths of the top lists (k cut to the number of genes), and (K,) numbers of significant genes."""
    genes = truth.gene_set(gene_set)
    listed = [np.isin(found, index).sum() for found, index in zip(truth.significant, genes.index, strict=True)]
    n_sig = np.array(listed, dtype=np.int64)
    k = n_sig if name == "nsig" else np.full(len(n_sig), int(name.removeprefix("k")))
    return np.minimum(k, genes.size), n_sig


def top_share(truth: FoldTruth, metric: str, gene_set: str) -> np.ndarray:
    """Return (K,) k/G: the overlap that a constant score reaches."""
    k, _ = _wanted(truth, gene_set, metric.removesuffix("_lfc").rsplit("_", 1)[1])
    return k / np.maximum(truth.gene_set(gene_set).size, 1)


def _top(score: np.ndarray, at: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the members of the list of the `k` highest of (n,) scores, from positions `at`, and their shares."""
    cut = np.partition(score, len(score) - k)[len(score) - k]
    above, tied = score > cut, score == cut
    share = above + tied * ((k - above.sum()) / tied.sum())
    return at[above | tied], share[above | tied]


def _overlap(comparison: Comparison, gene_set: str, name: str) -> Outcome:
    """Return the common share of the lists of the k largest |d_p| and |d_t|.

    Genes tied at the cut of a list share the places left: the overlap is what breaking ties at random, on each side by
    itself, gives on average; so a constant prediction scores k/G. Lists of every gene of the set have all in common,
    whatever was predicted: there the overlap is undefined.
    """
    truth = comparison.truth
    genes = truth.gene_set(gene_set)
    k, n_sig = _wanted(truth, gene_set, name)
    axis = np.unique(np.concatenate([np.array([], dtype=np.int64), *(index for index, _ in genes.groups)]))
    values = np.full(comparison.pairs.shape, np.nan)
    if len(axis):
        ranks, known = _ranked(comparison, axis, 0)
        profile = truth.profile.take(axis, axis=1)
        true = scores(profile - truth.control_a[axis], profile)
        for row, index in enumerate(genes.index):
            if not n_sig[row] or k[row] >= genes.size[row] or np.isnan(true[row]).any():
                continue
            at = np.searchsorted(axis, index)
            inside = np.zeros(len(axis), dtype=bool)
            inside[at] = True
            removed = np.flatnonzero(~inside)
            at, share = _top(true[row, at], at, k[row])
            for pair in np.argwhere((comparison.pairs == row) & known[:, None]):
                called, above = (part[pair[0]] for part in (ranks.called, ranks.above))
                ends = ranking.without(called[at], above[at], called[removed])
                values[tuple(pair)] = (ranking.membership(*ends, k[row]) * share).sum() / k[row]
    conditions = (n_sig == 0, "no_de"), (k >= genes.size, WHOLE_SET[name == "nsig"])
    return _outcome(truth, values, genes.size, *conditions)


def overlap_k20(comparison: Comparison, gene_set: str) -> Outcome:
    """Common share of the 20 largest |p - c_B| and |t - c_A|."""
    return _overlap(comparison, gene_set, "k20")


def overlap_k50(comparison: Comparison, gene_set: str) -> Outcome:
    """Common share of the 50 largest |p - c_B| and |t - c_A|."""
    return _overlap(comparison, gene_set, "k50")


def overlap_k100(comparison: Comparison, gene_set: str) -> Outcome:
    """Common share of the 100 largest |p - c_B| and |t - c_A|."""
    return _overlap(comparison, gene_set, "k100")


def overlap_nsig(comparison: Comparison, gene_set: str) -> Outcome:
    """Common share of as many of the largest |p - c_B| and |t - c_A| as there are significant genes."""
    return _overlap(comparison, gene_set, "nsig")


def jaccard_de20(comparison: Comparison, gene_set: str) -> Outcome:
    """Jaccard index of the list `gene_set` and as many of the largest |p - c_B| among expressed genes, ties shared."""
    truth = comparison.truth
    listed = truth.gene_set(gene_set)
    axis = np.flatnonzero(truth.expressed)
    values = np.full(comparison.pairs.shape, np.nan)
    ranks, known = _ranked(comparison, axis, 0)
    for row, index in enumerate(listed.index):
        n = len(index)
        if not n:
            continue
        at = np.searchsorted(axis, index)
        dropped = truth.targets[row] if gene_set.endswith("_nt") else truth.targets[row][:0]
        removed = np.flatnonzero(np.isin(axis, dropped))
        for pair in np.argwhere((comparison.pairs == row) & known[:, None]):
            called, above = (part[pair[0]] for part in (ranks.called, ranks.above))
            both = ranking.membership(*ranking.without(called[at], above[at], called[removed]), n).sum()
            values[tuple(pair)] = both / (2 * n - both)
    return replace(
        _outcome(truth, values, listed.size, (listed.size == 0, "no_de")), flag=flags(listed.short, "n_lt_k")
    )


# ---------------------------------------------------------------------------------------------------------------------
# Sizes of the changes of significant genes


def _relative_error(delta_p: np.ndarray, delta_t: np.ndarray) -> np.ndarray:
    differences = np.abs(delta_p[..., :, None, :] - delta_t[..., None, :, :])
    return differences.sum(axis=-1) / np.abs(delta_t).sum(axis=-1)[..., None, :]


def lfc_nmae(comparison: Comparison, gene_set: str) -> Outcome:
    """sum |d_p - d_t| / sum |d_t| over the significant genes, each delta against its own controls; no change = 1."""
    return compare(
        comparison, gene_set, _relative_error, split_controls, MIN_GENES_LFC, flat_prediction=False, flat_truth=False,
        one_by_one=True,
    )  # fmt: skip


def de_lfc_spearman(comparison: Comparison, gene_set: str) -> Outcome:
    """Rank correlation of p - c_B and t - c_A over the significant genes."""
    return compare(comparison, gene_set, delta.spearman_kernel, split_controls)
