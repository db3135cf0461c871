"""Building the truth of one dataset and split: profiles, references, gene sets, weights, halves. Pure of files."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.core import seeds
from vcbench.core.errors import InputError
from vcbench.core.h5ad import CONTROL
from vcbench.metrics import bundle, compat, contract, de, extra_truth, genewise, profiles

if TYPE_CHECKING:
    import scipy.sparse as sp

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cells:
    """The measured cells: log1p expression (cells, G) CSR or on disk, labels and control halves, sorted by barcode.

    `half` is ``A`` (held out for evaluation) or ``B`` (training) for control cells, anything for others; `target_sum`
    is the sum of counts to which a cell was scaled before log1p.
    """

    expression: sp.csr_matrix | profiles.Expression
    labels: np.ndarray
    half: np.ndarray
    genes: np.ndarray
    target_sum: float


@dataclass(frozen=True)
class Roles:
    """Training, test and validation perturbations of one fold."""

    fold: int
    train: tuple[str, ...]
    test: tuple[str, ...]
    valid: tuple[str, ...] = ()


@dataclass(frozen=True)
class Truths:
    """What was measured: of the test perturbations, which is what models are judged by, and of the validation
    perturbations, which choose between configurations (headline metrics only; None when no fold has any).
    """

    test: bundle.TruthBundle
    de_rows: list[de.DeRow]
    validation: bundle.TruthBundle | None = None
    validation_de_rows: list[de.DeRow] = field(default_factory=list)


def overestimated_t(group: profiles.Moments, rest: profiles.Moments) -> np.ndarray:
    """Return |t| (groups, G) with the rest's sampling variance taken as if it had as few cells as the group."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.abs((group.mean - rest.mean) / np.sqrt((group.variance + rest.variance) / group.n[:, None]))


def overestimated_p(group: profiles.Moments, rest: profiles.Moments) -> np.ndarray:
    """Return (groups, G) two-sided p values of :func:`overestimated_t` with Welch's degrees of freedom.

    NaN without two cells on either side or without any variance.
    """
    from scipy.special import stdtr

    with np.errstate(invalid="ignore", divide="ignore"):
        one, other, n = group.variance, rest.variance, group.n[:, None]
        freedom = (n - 1) * (one + other) ** 2 / (one**2 + other**2)
        return 2 * stdtr(freedom, -overestimated_t(group, rest))


def _half_tests(every: profiles.Moments, tests: profiles.Moments, first: profiles.Moments) -> np.ndarray:
    """Return (2, tests, G) p values of the first and of the second half of each against all other perturbed cells."""
    pooled = every.pooled()
    rest = profiles.Moments(pooled.n - tests.n, pooled.total - tests.total, pooled.squares - tests.squares)
    return np.stack([overestimated_p(half, rest) for half in (first, tests - first)])


def _alpha(p: np.ndarray, tested: np.ndarray) -> np.ndarray:
    """Return (halves, K, G) 1 - p_adj over the tested genes, 0 for others and where there is no test."""
    alpha = np.zeros(p.shape)
    for half, k in np.ndindex(p.shape[:2]):
        alpha[half, k, tested] = np.nan_to_num(1 - de.benjamini_hochberg(p[half, k, tested]))
    return alpha


def weights_from_t(t: np.ndarray) -> np.ndarray:
    """Return (groups, G) weights: |t| min-max scaled over genes, squared, divided by the sum; all equal gives zeros."""
    t = np.where(np.isfinite(t), t, np.nan)
    low = np.nanmin(np.where(np.isnan(t), np.inf, t), axis=1, keepdims=True)
    high = np.nanmax(np.where(np.isnan(t), -np.inf, t), axis=1, keepdims=True)
    spread = high - low
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = np.where((spread > 0) & np.isfinite(spread), np.nan_to_num((t - low) / spread) ** 2, 0.0)
        total = scaled.sum(1, keepdims=True)
        return np.where(total > 0, scaled / total, 0.0)


def first_component(profiles_: np.ndarray, expressed: np.ndarray) -> np.ndarray:
    """Return (G,) the first principal component of profiles (R, G) over expressed genes, largest entry positive."""
    component = np.zeros(len(expressed))
    if len(profiles_) < 2 or not expressed.any():
        return component
    deltas = profiles_[:, expressed] - profiles_[:, expressed].mean(axis=0)
    # the left singular vectors of few rows are cheaper than the right ones of many genes
    values, vectors = np.linalg.eigh(deltas @ deltas.T)
    if values[-1] <= 0:
        return component
    found = vectors[:, -1] @ deltas
    found /= np.linalg.norm(found)
    component[expressed] = found * np.sign(found[np.abs(found).argmax()])
    return component


def _third(code: np.ndarray, names: Sequence[str], seed: int, dataset: str) -> np.ndarray:
    """Return group codes of a seeded third of the cells of each perturbation with enough of them, -1 elsewhere."""
    third = np.full(len(code), -1)
    for group, name in enumerate(names):
        at = np.flatnonzero(code == group)
        if len(at) >= contract.MIN_CELLS_WEIGHT_THIRD:
            order = seeds.stream(seed, "weight third", dataset, name).permutation(len(at))
            third[at[order[: len(at) // 3]]] = group
    return third


def _halves(code: np.ndarray, names: Sequence[str], seed: int, dataset: str, number: int) -> np.ndarray:
    """Return group codes of a seeded half of the cells of each perturbation with enough of them, -1 elsewhere."""
    half = np.full(len(code), -1)
    for group, name in enumerate(names):
        at = np.flatnonzero(code == group)
        if len(at) >= contract.MIN_CELLS_HALVES:
            order = seeds.stream(seed, "halves", dataset, number, name).permutation(len(at))
            half[at[order[: len(at) // 2]]] = group
    return half


def _quarter(first: np.ndarray, names: Sequence[str], seed: int, dataset: str) -> np.ndarray:
    """Return group codes of a seeded half of the cells of a first half, -1 elsewhere."""
    quarter = np.full(len(first), -1)
    for group, name in enumerate(names):
        at = np.flatnonzero(first == group)
        order = seeds.stream(seed, "quarter", dataset, name).permutation(len(at))
        quarter[at[order[: len(at) // 2]]] = group
    return quarter


def _control_vs_control(p: np.ndarray, share: np.ndarray) -> dict[str, int]:
    """Return how often the test of changed genes errs where nothing changed, from (G,) p of training against held-out
    controls.

    Genes detected in a large enough `share` (G,) of the training controls are tested.
    """
    p = p[share >= contract.EXPRESSED_SHARE]
    adjusted = de.benjamini_hochberg(p)
    below, significant = (int((found < contract.FDR).sum()) for found in (p, adjusted))
    return {"n_genes": len(p), "n_below": below, "n_significant": significant}


def build(
    cells: Cells, folds: Sequence[Roles], targets: Mapping[str, Sequence[str]], facts: dict[str, Any], seed: int,
    bench_compat_list: str = "", gene_sets: Mapping[str, Sequence[str]] | None = None, fixed: Sequence[str] = (),
    given_lists: Mapping[str, Sequence[str]] | None = None, groups: Sequence[str] = (),
    classes: Mapping[str, Mapping[str, bool]] | None = None,
) -> Truths:  # fmt: skip
    """Return the truth bundles and the rows of their DE tables.

    Parameters
    ----------
    folds
        Perturbations by role; every one must have cells.
    targets
        Perturbed genes by perturbation (those off the axis are ignored).
    facts
        Dataset, split, input hashes; extended and stored in the bundle.
    bench_compat_list
        DE list of the `bench_compat_*` metrics, empty for none.
    gene_sets, fixed
        Sets of genes chosen in advance (pathways) by name, and which of them are gene sets of metrics on their own.
    given_lists
        Gene names by perturbation for the compat list `file`; a perturbation without one has no value there.
    groups
        Groups of metrics the truth is prepared for, beside the default one.
    classes
        Whether perturbations are damaging, by what says so (`phenotype_auc`).
    """
    names = sorted({name for roles in folds for name in (*roles.train, *roles.test, *roles.valid)})
    tests = sorted({name for roles in folds for name in (*roles.test, *roles.valid)})
    code = profiles.codes(cells.labels, names)
    control = cells.labels == CONTROL
    in_a, in_b = control & (cells.half == "A"), control & (cells.half == "B")
    without = [
        name for name, n in zip(names, np.bincount(code[code >= 0], minlength=len(names)), strict=True) if n == 0
    ]
    if without:
        raise InputError(f"no cells of {', '.join(without[:5])}", where=f"{facts['dataset']}, folds")
    if min(in_a.sum(), in_b.sum()) < contract.MIN_CELLS_PROFILE:
        raise InputError(
            "too few control cells", where=f"{facts['dataset']}, obs['control_half']",
            found=f"{in_a.sum()} in half A, {in_b.sum()} in half B",
            expected=f"at least {contract.MIN_CELLS_PROFILE} in each half",
        )  # fmt: skip

    log.info("profiles of %d perturbations, %d cells, %d genes", len(names), len(code), len(cells.genes))
    row, test_row = ({name: i for i, name in enumerate(of)} for of in (names, tests))
    test_code, n_tests = profiles.codes(cells.labels, tests), len(tests)
    half_codes = [_halves(test_code, tests, seed, facts["dataset"], i) for i in range(contract.N_HALF_SPLITS)]
    first_code = half_codes[0]
    (every, halves_of_control, third, detections, linear_moments, linear_first, quarter, *first_halves) = (
        profiles.collect(
            cells.expression,
            [
                profiles.Wanted(code, len(names)),
                profiles.Wanted(np.where(in_a, 0, np.where(in_b, 1, -1)), 2),
                profiles.Wanted(_third(test_code, tests, seed, facts["dataset"]), n_tests),
                profiles.Wanted(np.where(in_b, len(names), code), len(names) + 1, profiles.DETECTED, squares=False),
                profiles.Wanted(
                    np.where(in_a, n_tests, np.where(in_b, n_tests + 1, test_code)),
                    n_tests + 2,
                    profiles.LINEAR,
                    squares=False,
                ),
                profiles.Wanted(first_code, n_tests, profiles.LINEAR, squares=False),
                profiles.Wanted(_quarter(first_code, tests, seed, facts["dataset"]), n_tests, squares=False),
                *(profiles.Wanted(half, n_tests, squares=i == 0) for i, half in enumerate(half_codes)),
            ],
        )
    )
    a, b = halves_of_control[[0]], halves_of_control[[1]]
    all_control = halves_of_control.pooled()
    weights = _weights(every, every[[row[name] for name in tests]], third)

    p_half = _half_tests(every, every[[row[name] for name in tests]], first_halves[0])

    log.info("rank-sum tests of %d perturbations", n_tests)
    test_groups = np.full(len(code), -2)
    test_groups[test_code >= 0] = test_code[test_code >= 0]
    test_groups[in_a], test_groups[in_b] = -1, n_tests  # training controls are one more group
    enough = in_a.any() and bool(tests)
    linear, linear_a = linear_moments.mean[:n_tests], linear_moments.mean[n_tests]
    log2fc = de.log2_fold_change(linear, linear_a, cells.target_sum)
    # Lists for `*_xfit`: the same tests on the first half of the cells alone.
    first_groups = np.where(in_a, -1, np.where(first_code >= 0, first_code, -2))
    nothing = (np.zeros((n_tests + 1, 0)),) * 2
    (z, p), (z_first, p_first) = (
        de.rank_sums(cells.expression, [test_groups, first_groups], n_tests + 1) if enough else (nothing, nothing)
    )
    log2fc_first = de.log2_fold_change(linear_first.mean, linear_a, cells.target_sum)

    position = {gene: i for i, gene in enumerate(cells.genes)}
    wilcoxon, given, log2fc_all = None, None, log2fc
    if bench_compat_list == "file":
        if given_lists is None:
            raise InputError("no gene lists", where=f"{facts['dataset']}, --bench-compat-de-list file")
        given = {name: compat.file_list(given_lists.get(name, ()), position) for name in tests}
        without = [name for name in tests if not len(given[name])]
        if without:
            log.warning("%d of %d perturbations have no gene list (first %s)", len(without), n_tests, without[0])
    if bench_compat_list == "readme_wilcoxon":
        compared = test_groups.copy()
        compared[control] = -1
        wilcoxon = de.rank_sum(cells.expression, compared, len(tests))[1]
        linear_all = linear_moments.total[n_tests:].sum(axis=0) / max(int(control.sum()), 1)
        log2fc_all = de.log2_fold_change(linear, linear_all, cells.target_sum)
    found: dict[str, tuple[list[bundle.FoldTruth], list[de.DeRow]]]
    found = {bundle.TEST: ([], []), bundle.VALIDATION: ([], [])}
    sets = on_axis(gene_sets or {}, position)
    in_order = sorted(folds, key=lambda roles: roles.fold)
    for role, roles, members in [
        *((bundle.TEST, roles, roles.test) for roles in in_order),
        *((bundle.VALIDATION, roles, roles.valid) for roles in in_order if roles.valid),
    ]:
        truths, de_rows = found[role]
        ids = tuple(sorted(members))
        at, train = np.array([row[name] for name in ids], dtype=int), [row[name] for name in sorted(roles.train)]
        of = np.array([test_row[name] for name in ids], dtype=int)
        seen = detections[train].pooled()
        control_share = detections.mean[-1]
        expressed = (seen.mean[0] >= contract.EXPRESSED_SHARE) | (control_share >= contract.EXPRESSED_SHARE)
        tested = np.flatnonzero(expressed)
        many, many_first = (enough & (n >= contract.MIN_CELLS_DE) for n in (every.n[at], first_halves[0].n[of]))
        of_all = bundle.labels(roles.fold, ids, many, tested, z[of], p[of], log2fc[of], cells.genes)
        of_first = bundle.labels(
            roles.fold, ids, many_first, tested, z_first[of], p_first[of], log2fc_first[of], cells.genes
        )
        de_rows += of_all.rows
        halves = np.stack([half.mean[of] for half in first_halves])
        truth = bundle.FoldTruth(
            fold=roles.fold,
            ids=ids,
            n_cells=every.n[at].astype(np.int64),
            profile=every.mean[at],
            variance=np.nan_to_num(every.variance_of_mean[at]),
            control_a=a.mean[0],
            control_a_variance=np.nan_to_num(a.variance_of_mean[0]),
            control_b=b.mean[0],
            control_b_variance=np.nan_to_num(b.variance_of_mean[0]),
            control_all=all_control.mean[0],
            train_mean=every.mean[train].mean(axis=0),
            train_pc1=first_component(every.mean[train], expressed),
            expressed=expressed,
            targets=tuple(
                np.array(sorted({position[g] for g in targets.get(name, ()) if g in position}), dtype=np.int64)
                for name in ids
            ),
            weights=weights.weights[of],
            weight_profile=weights.profile[of],
            weights_shared=weights.shared[of],
            first_half=halves,
            n_first=first_halves[0].n[of].astype(np.int64),
            significant=of_all.significant,
            positive=of_all.positive,
            p_adj=of_all.p_adj,
            log2fc=of_all.log2fc,
            significant_first=of_first.significant,
            duplicate_alpha=_alpha(p_half[:, of], tested) if role == bundle.TEST else None,
            quarter=quarter.mean[of],
            sets=sets,
            cell_mean=every[at].pooled().mean[0],
        )
        if bench_compat_list and role == bundle.TEST:
            truth = _with_compat(
                truth, bench_compat_list, every[at], all_control, cells.genes,
                None if wilcoxon is None else wilcoxon[of], log2fc_all[of], given,
            )  # fmt: skip
        truths.append(truth)
    shared = {**facts, "seed": seed, "axis_sha256": bundle.axis_hash(cells.genes), "target_sum": cells.target_sum}
    truths, de_rows = found[bundle.TEST]
    facts = {
        **shared,
        "role": bundle.TEST,
        "control_vs_control": _control_vs_control(p[n_tests], detections.mean[-1]) if enough and in_b.any() else {},
        "n_control_a": int(a.n[0]),
        "n_control_b": int(b.n[0]),
        "weights_rest": "all other perturbed cells of the dataset that the folds use, controls excluded",
        "train_mean_sha256": {
            str(truth.fold): hashlib.sha256(np.ascontiguousarray(truth.train_mean).tobytes()).hexdigest()
            for truth in truths
        },
        "metric_groups": sorted(groups),
        **({"compat_list": bench_compat_list} if bench_compat_list else {}),
        **({"fixed_sets": sorted(name for name in fixed if name in truths[0].sets)} if fixed else {}),
    }
    result = _bundle(truths, cells.genes, facts)
    first = np.stack([half >= 0 for half in half_codes])
    extended = extra_truth.add(
        result.folds, folds, cells, groups, targets, facts["dataset"], seed, first, classes or {}
    )
    result = replace(result, folds=tuple(extended))
    validation, validation_rows = found[bundle.VALIDATION]
    if not validation:
        return Truths(result, de_rows)
    facts = {**shared, "role": bundle.VALIDATION, "metric_groups": []}
    return Truths(result, de_rows, _bundle(validation, cells.genes, facts), validation_rows)


def _bundle(truths: list[bundle.FoldTruth], genes: np.ndarray, facts: dict[str, Any]) -> bundle.TruthBundle:
    """Return the bundle of these folds, with the genes eligible for gene-wise metrics and its own hash."""
    reliability, eligible = _reliability(truths)
    folds = tuple(replace(truth, eligible=eligible) for truth in truths)
    result = bundle.TruthBundle(genes, folds, reliability, eligible, facts)
    result.facts["truth_sha256"] = _digest(result)
    return result


def on_axis(gene_sets: Mapping[str, Sequence[str]], position: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Return positions of the genes of each set on the axis; sets with too few of them are left out."""
    found = {
        name: np.array(sorted({position[gene] for gene in genes if gene in position}), dtype=np.int64)
        for name, genes in sorted(gene_sets.items())
    }
    kept = {name: index for name, index in found.items() if len(index) >= contract.MIN_GENES_CORRELATION}
    if len(kept) < len(found):
        log.warning("%d of %d gene sets have fewer than %d genes on the axis", len(found) - len(kept), len(found),
                    contract.MIN_GENES_CORRELATION)  # fmt: skip
    return kept


@dataclass(frozen=True)
class _Weights:
    weights: np.ndarray
    profile: np.ndarray
    shared: np.ndarray


def _weights(every: profiles.Moments, tests: profiles.Moments, third: profiles.Moments) -> _Weights:
    """Return weights of the weighted R2 and the profiles they are applied to, from disjoint cells where possible.

    `every` are all perturbations, `tests` those with weights, `third` the cells set aside for the weights.
    """
    split = third.n > 0
    group = profiles.Moments(
        np.where(split, third.n, tests.n),
        np.where(split[:, None], third.total, tests.total),
        np.where(split[:, None], third.squares, tests.squares),
    )
    pooled = every.pooled()
    rest = profiles.Moments(pooled.n - tests.n, pooled.total - tests.total, pooled.squares - tests.squares)
    profile = np.where(split[:, None], (tests - third).mean, tests.mean)
    return _Weights(weights_from_t(overestimated_t(group, rest)), profile, ~split)


def _with_compat(
    truth: bundle.FoldTruth, list_name: str, group: profiles.Moments, control: profiles.Moments, genes: np.ndarray,
    wilcoxon: np.ndarray | None, log2fc: np.ndarray, given: Mapping[str, np.ndarray] | None,
) -> bundle.FoldTruth:  # fmt: skip
    """Return the fold with its compat gene lists and compat DE labels."""
    mean, variance, n = group.mean, np.nan_to_num(group.variance), group.n
    c, c_variance, n_c = control.mean[0], np.nan_to_num(control.variance[0]), int(control.n[0])
    listed, label = [], np.zeros(mean.shape, dtype=bool)
    for k, name in enumerate(truth.ids):
        if given is not None:
            listed.append(given[name])
        elif list_name == "gears_ttest":
            listed.append(compat.gears_list(mean[k], variance[k], int(n[k]), c, c_variance, n_c, genes))
        else:
            adjusted = de.benjamini_hochberg(wilcoxon[k])
            listed.append(compat.wilcoxon_list(adjusted, log2fc[k], mean[k], c, genes))
        label[k] = compat.labels(mean[k], variance[k], int(n[k]), c, c_variance, n_c)
    return replace(truth, listed=tuple(listed), compat_label=label)


def _reliability(truths: list[bundle.FoldTruth]) -> tuple[np.ndarray, np.ndarray]:
    """Return (G,) split-half correlation over test perturbations (folds centred, mean of the seeds) and eligibility."""
    n_genes = len(truths[0].expressed)
    known = [~np.isnan(truth.first_half[0]).any(axis=1) for truth in truths]
    number = np.concatenate([np.full(k.sum(), truth.fold) for k, truth in zip(known, truths, strict=True)])
    if len(number) < contract.MIN_PERTURBATIONS_GENEWISE:
        return np.full(n_genes, np.nan), np.zeros(n_genes, dtype=bool)
    found = []
    for seed in range(truths[0].first_half.shape[0]):
        first, second = [], []
        for truth, use in zip(truths, known, strict=True):
            n, n_first = truth.n_cells[use][:, None], truth.n_first[use][:, None]
            one = truth.first_half[seed][use]
            first.append(one)
            second.append((n * truth.profile[use] - n_first * one) / (n - n_first))
        found.append(genewise.gene_correlations(np.concatenate(first), np.concatenate(second), number))
    reliability = np.mean(found, axis=0)
    return reliability, reliability > 0


def _digest(truth: bundle.TruthBundle) -> str:
    """Return the SHA-256 of the truth: dataset, split, axis and all test profiles."""
    digest = hashlib.sha256(f"{truth.facts['dataset']}\n{truth.facts['split']}\n{truth.facts['axis_sha256']}".encode())
    for fold in truth.folds:
        digest.update(f"\n{fold.fold}\n".encode() + "\n".join(fold.ids).encode())
        for part in (fold.profile, fold.control_a, fold.train_mean):
            digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()
