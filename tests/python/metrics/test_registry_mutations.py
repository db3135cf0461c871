"""Each metric of the registry against its oracle, and mutated on purpose: sign, gene set, reference.

A metric without an oracle, or one that a mutation leaves as it is without being known to be invariant, fails.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import oracles
import pytest
from toy import METRICS, D, G, K, fold_of, values

from vcbench.metrics import bundle, registry

SCORED = {name: metric for name, metric in METRICS.items() if metric.level != "term" or metric.function}

#: Metrics that a mutation must not change, by its definition: |d_p| has no sign, a profile error no reference.
INVARIANT = {
    "sign": {
        "ap_de", "ap_de_lift", "ap_de_grid", "auroc_de", "overlap_k20", "overlap_k50", "overlap_k100", "overlap_nsig",
        "jaccard_de20", "delta_sd_ratio", "norm_ratio", "impact", "effect_rank", "dir_zero", "nmse_ctrl_den",
        "var_ratio", "de_jaccard", "de_mcc", "de_recall", "de_precision", "de_f1", "de_nsig_pred", "de_nsig_spearman",
        "overlap_k20_lfc", "overlap_k50_lfc", "overlap_k100_lfc", "overlap_nsig_lfc", "vcc_des", "gi_magnitude",
        "gi_corr_fit", "gi_dcor_singles", "gi_dcor", "gi_equality",
    },
    "reference": {
        "mse", "rmse", "mae", "gw_mse", "wmse", "pearson", "c_acc", "rank_t2p", "mrr", "top1", "top5", "gw_pearson_wf",
        "gw_nmse", "pw_pearson", "nmse_ctrl_num", "in_range_frac", "sigma_err_mean", "sigma_err_sd", "sigma_below_1",
        "sigma_below_2", "ediff", "mmd", "var_ratio", "de_jaccard", "de_mcc", "de_recall", "de_precision", "de_f1",
        "de_nsig_pred", "de_nsig_spearman", "overlap_k20_lfc", "overlap_k50_lfc", "overlap_k100_lfc",
        "overlap_nsig_lfc", "direction_yield", "direction_reach", "vcc_mae", "vcc_pds", "vcc_des",
        "bench_compat_mse_cw_de", "bench_compat_pcc_cw_de", "bench_compat_mse_gw", "bench_compat_pcc_gw",
        "mse_lm", "rmse_lm", "mae_lm", "pearson_lm", "c_acc_lm", "rank_t2p_lm",
    },
    "genes": set(),
}  # fmt: skip


@pytest.fixture(scope="module")
def world(make_fold):
    rng = np.random.default_rng(11)
    return tuple(zip(*(fold_of(make_fold, number, rng) for number in (1, 2)), strict=True))


@pytest.fixture(scope="module")
def scored(world):
    return values(*world)


def reflected(fold, predicted):
    """Return the prediction with the sign of every change turned."""
    cells, lm = predicted.cells, fold.extras.log_of_mean
    cells = replace(cells, coordinates=tuple(-group for group in cells.coordinates), log2fc=-cells.log2fc,
                    log_of_mean=2 * lm.control_b - cells.log_of_mean)  # fmt: skip
    return fold, replace(predicted, mean=2 * fold.control_b - predicted.mean, cells=cells)


def other_references(fold, predicted):
    """Return the truth with every reference exchanged for another one."""
    rng = np.random.default_rng(fold.fold)
    extras, lm = fold.extras, fold.extras.log_of_mean
    names = ("control_a", "control_b", "train_mean", "control_all", "cell_mean")
    control = extras.cells.control + rng.normal(0, 2, extras.cells.control.shape)
    extras = replace(
        extras, cells=replace(extras.cells, control=control),
        vcc=replace(extras.vcc, baseline=extras.vcc.baseline * 0.7),
        classes=replace(
            extras.classes, prototypes=extras.classes.prototypes + rng.normal(0, 1, extras.classes.prototypes.shape)
        ),
        log_of_mean=replace(lm, **{name: getattr(lm, name) + rng.normal(0, 1, G) for name in names[:3]}),
    )  # fmt: skip
    changed = {name: np.abs(getattr(fold, name) + rng.normal(0, 1, G)) + 0.01 for name in names}
    return replace(fold, extras=extras, **changed), predicted


def fewer_genes(fold, predicted):
    """Return the truth with every second gene missing from every gene set but `all`."""
    half = np.arange(G) % 2 == 0
    extras = fold.extras
    keep = np.arange(D) % 2 == 0
    cells = replace(extras.cells, coordinates=extras.cells.coordinates[:, keep], control=extras.cells.control[:, keep])
    fold = replace(
        fold, expressed=fold.expressed & half, significant=tuple(index[half[index]] for index in fold.significant),
        eligible=fold.eligible & half, listed=tuple(index[half[index]] for index in fold.listed),
        sets={name: index[half[index]] for name, index in fold.sets.items()}, extras=replace(extras, cells=cells),
    )  # fmt: skip
    made = replace(predicted.cells, coordinates=tuple(group[:, keep] for group in predicted.cells.coordinates))
    return fold, replace(predicted, cells=made)


def half_of_all(fold, predicted):
    """Return both sides with every second gene taken out of `all`: no difference, no weight, in no list."""
    half = np.arange(G) % 2 == 0
    vcc = replace(fold.extras.vcc, listed=tuple(index[half[index]] for index in fold.extras.vcc.listed))
    fold = replace(
        fold, profile=fold.profile * half, weights=fold.weights * half, control_all=fold.control_all * half,
        extras=replace(fold.extras, vcc=vcc),
    )  # fmt: skip
    return fold, replace(predicted, mean=predicted.mean * half)


@pytest.fixture(scope="module")
def mutants(world):
    """Values of all metrics under each mutation, by its name."""
    found = {}
    for name, change in (("sign", reflected), ("reference", other_references), ("genes", fewer_genes),
                         ("genes of all", half_of_all)):  # fmt: skip
        with pytest.MonkeyPatch.context() as patch:
            if name == "genes":
                patch.setattr(bundle, "CONTROL_GENES", G // 2)
            found[name] = values(*zip(*(change(f, p) for f, p in zip(*world, strict=True)), strict=True))
    return found


def vector(found, metric, gene_set):
    """Return the values of a metric as one vector: over folds, by fold, or by perturbation in a fixed order."""
    rows = found[metric.id, gene_set]
    return np.array([rows[key] for key in sorted(rows)])


def expected(world, metric, gene_set):
    folds, predictions = world
    oracle = oracles.oracle_of(metric)
    if metric.id == "nmse_ctrl":  # one value a fold
        return np.array([oracle([f], [p], gene_set) for f, p in zip(folds, predictions, strict=True)])
    if metric.level == "panel":
        return np.array([oracle(folds, predictions, gene_set)])
    found = np.concatenate([oracle(f, p, gene_set) for f, p in zip(folds, predictions, strict=True)])
    return found[~np.isnan(found)] if metric.gene_sets == (registry.DOUBLES,) else found


def changed(one, other):
    return one.shape != other.shape or not np.allclose(one, other, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("name", SCORED)
def test_equals_its_oracle_and_notices_every_mutation(name, world, scored, mutants):
    metric = SCORED[name]
    for gene_set in metric.gene_sets:
        found, wanted = vector(scored, metric, gene_set), expected(world, metric, gene_set)
        if metric.gene_sets == (registry.DOUBLES,) and metric.level != "panel":
            found = found[~np.isnan(found)]
        np.testing.assert_allclose(found, wanted, atol=1e-8, err_msg=f"{name} on {gene_set}")
        assert changed(-found, wanted), f"{name} on {gene_set}: the test would not notice a turned sign of the value"
    for mutation in ("sign", "reference", "genes"):
        of_all = mutation == "genes" and "all" in metric.gene_sets
        mutant = mutants["genes of all" if of_all else mutation]
        differs = any(changed(vector(mutant, metric, s), vector(scored, metric, s)) for s in metric.gene_sets)
        assert differs == (name not in INVARIANT[mutation]), f"{name}: mutated {mutation}, " + (
            "nothing noticed" if not differs else "but it is said to be invariant"
        )


def test_every_metric_is_covered():
    """The contract: a new metric of assets/metrics.yml needs an oracle here."""
    for metric in SCORED.values():
        oracles.oracle_of(metric)
    known = {*oracles.PERTURBATION, *oracles.PANEL}
    assert known == {name for name, metric in SCORED.items() if not metric.log_of_mean}
    for names in INVARIANT.values():
        assert names <= set(SCORED)


def test_terms_of_panel_metrics_are_their_jackknife(world, scored):
    """Pseudo-values K * value - (K - 1) * value without one perturbation, for every metric over perturbations."""
    folds, predictions = world
    row = 4  # no double, no single of one
    names = [f.ids for f in folds]
    for metric in SCORED.values():
        if not metric.jackknife:
            continue
        doubles = metric.gene_sets == (registry.DOUBLES,)
        row = 0 if doubles else 4
        missing = replace(
            predictions[0], n_cells=np.where(np.arange(K) == row, 0, predictions[0].n_cells),
            mean=np.where((np.arange(K) == row)[:, None], np.nan, predictions[0].mean),
        )  # fmt: skip
        if metric.combined:
            continue
        found = values(folds, (missing, predictions[1]))
        n = 6 if doubles else 2 * K
        (gene_set,) = metric.gene_sets
        whole, without = vector(scored, metric, gene_set)[0], vector(found, metric, gene_set)[0]
        term = scored[metric.jackknife, gene_set][1, names[0][row]]
        assert term == pytest.approx(n * whole - (n - 1) * without, abs=1e-8), metric.id
