"""Properties that every metric must have, over the whole registry (metrics.md 11.1; numbers are those of the list)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toy import METRICS, G, K, fold_of, values

from vcbench.metrics import contract, scoring
from vcbench.metrics.bundle import TruthBundle
from vcbench.metrics.comparison import Predicted

#: Metrics of predicted cells: their perfect prediction is the same cells, not the same profile.
OF_CELLS = {name for name, metric in METRICS.items() if metric.cells}
OF_DOUBLES = {name for name in METRICS if name.startswith("gi_")}
PROFILES = {
    name: m for name, m in METRICS.items() if m.level != "term" and name not in OF_CELLS | OF_DOUBLES
}  # fmt: skip
#: Labels also need significance; sampling noise is subtracted; weights come from other cells than the profile; lists
#: are ordered by fold changes, which in this toy are other numbers than the deltas; spreads of errors have no optimum;
#: measured profiles of two classes may overlap.
NOT_PERFECT = {
    "ap_de", "ap_de_lift", "ap_de_grid", "ap_signed_up", "ap_signed_down", "auroc_de", "bench_compat_auprc",
    "nmse_ctrl", "r2w_delta", "r2w_delta_ctrl", "wmse", "jaccard_de20", "sigma_err_sd", "dir_zero",
    "phenotype_auc",
}  # fmt: skip


@pytest.fixture(scope="module")
def world(make_fold):
    """Two folds with one control mean on both sides, free of sampling noise; every gene changes."""
    rng = np.random.default_rng(23)
    made = [fold_of(make_fold, number, rng) for number in (1, 2)]
    for fold, _ in made:
        fold.profile[:, 5::19] += 0.3
    zeros = np.zeros((K, G))
    return [
        (
            replace(fold, control_b=fold.control_a, variance=zeros, control_a_variance=np.zeros(G)),
            replace(p, variance=zeros),
        )
        for fold, p in made
    ]


def score(world, change=lambda fold, p: (fold, p)):
    return values(*zip(*(change(f, p) for f, p in world), strict=True))


def profile(mean):
    """Return a change of the prediction to profiles given by a function of the fold."""

    def change(fold, p):
        return fold, Predicted(np.array(mean(fold), dtype=np.float64), np.zeros((K, G)), np.ones(K, dtype=int))

    return change


def listed(found, metric, gene_set):
    return np.array(list(found[metric, gene_set].values()))


@pytest.fixture(scope="module")
def perfect(world):
    return score(world, profile(lambda fold: fold.profile))


@pytest.mark.parametrize("name", sorted(set(PROFILES) - NOT_PERFECT))
def test_1_a_perfect_prediction(name, perfect):
    metric = PROFILES[name]
    best = 0.0 if metric.direction == "lower" else 1.0
    for gene_set in metric.gene_sets:
        np.testing.assert_allclose(listed(perfect, name, gene_set), best, atol=1e-9)


def test_1_exceptions_of_a_perfect_prediction(perfect):
    for name in ("ap_de", "ap_de_grid", "auroc_de", "bench_compat_auprc", "jaccard_de20"):
        for gene_set in METRICS[name].gene_sets:
            found = listed(perfect, name, gene_set)
            assert ((found <= 1) | np.isnan(found)).all()
    assert (listed(perfect, "nmse_ctrl", "expr_nt") <= 1e-12).all()


def test_2_no_change(world):
    found = score(world, profile(lambda fold: np.tile(fold.control_b, (K, 1))))
    for name in ("dpearson_ctrl", "dspearman_ctrl", "dcosine_ctrl", "pds_cos", "logratio_ml_pearson"):
        for gene_set in METRICS[name].gene_sets:
            assert np.isnan(listed(found, name, gene_set)).all(), name
    np.testing.assert_allclose(listed(found, "nmse_ctrl", "expr_nt"), 1, atol=1e-9)
    np.testing.assert_allclose(listed(found, "lfc_nmae", "sig_nt"), 1, atol=1e-12)
    for gene_set in METRICS["dir_acc"].gene_sets:
        assert (listed(found, "dir_acc", gene_set) == 0).all()
        assert (listed(found, "dir_acc_half", gene_set) == 0.5).all()
    at = [np.setdiff1d(np.flatnonzero(f.expressed), f.targets[k]) for f, _ in world for k in range(K)]
    positive = np.concatenate([f.positive for f, _ in world])
    pi = [positive[k, index].mean() for k, index in enumerate(at)]
    np.testing.assert_allclose(listed(found, "ap_de", "expr_nt"), pi, atol=1e-12)
    np.testing.assert_allclose(listed(found, "ap_de_lift", "expr_nt"), 0, atol=1e-12)
    assert np.nanmean(listed(found, "c_acc", "expr_nt")) == pytest.approx(0.5, abs=1e-15)
    for name in ("norm_ratio", "delta_sd_ratio", "lfc_slope"):
        assert (listed(found, name, METRICS[name].gene_sets[0]) == 0).all()
    expected = [20 / len(index) for index in at]
    np.testing.assert_allclose(listed(found, "overlap_k20", "expr_nt"), expected, atol=1e-12)


def test_3_the_same_profile_for_all(world):
    rng = np.random.default_rng(5)
    one = rng.gamma(4.0, 0.5, G)
    found = score(world, profile(lambda fold: np.tile(one, (K, 1))))
    for name in ("c_acc", "pds_l1", "pds_l2", "pds_cos", "rank_t2p"):
        (gene_set,) = METRICS[name].gene_sets
        for fold in (1, 2):
            mean = np.mean([value for key, value in found[name, gene_set].items() if key[0] == fold])
            assert mean == pytest.approx(0.5, abs=1e-12), name
    assert (listed(found, "rank_t2p", "expr_nt") == 0.5).all()
    for name in ("gw_pearson_wf", "pw_pearson", "effect_rank"):
        assert np.isnan(listed(found, name, METRICS[name].gene_sets[0])).all(), name


def test_4_the_train_mean_has_no_opinion(world):
    """Undefined for every perturbation, and counted as such; so is its training principal component."""
    facts = {"dataset": "toy", "split": "variant", "compat_list": "listed"}
    folds = tuple(fold for fold, _ in world)
    rows = scoring.Rows("toy", "variant", "train_mean")
    made = {fold.fold: profile(lambda f: np.tile(f.train_mean, (K, 1)))(fold, None)[1] for fold in folds}
    wanted = {name: METRICS[name] for name in ("dpearson_pm", "dpearson_pm_nopc1", "r2w_delta")}
    bundle = TruthBundle(np.arange(G).astype(str), folds, np.ones(G), folds[0].eligible, facts)
    scoring.score_combination(bundle, made, wanted, rows, 0, nulls=False)
    n_sets = sum(len(metric.gene_sets) for metric in wanted.values())
    assert len(rows.rows) == 2 * K * n_sets
    assert all(np.isnan(row[10]) and row[14] == "const_pred" for row in rows.rows)


def reordered(fold, p, order):
    """Return the fold and its predictions with their perturbations in another order, names moved along."""
    extras, cells = fold.extras, p.cells

    def rows(thing):
        if isinstance(thing, tuple):
            return tuple(thing[i] for i in order)
        return thing[order]

    back = np.argsort(order)
    doubles = replace(
        extras.doubles, row=back[extras.doubles.row],
        test_row=np.where(extras.doubles.test_row >= 0, back[extras.doubles.test_row], -1),
    )  # fmt: skip
    extras = replace(
        extras, doubles=doubles, classes=replace(extras.classes, damaging=extras.classes.damaging[:, order]),
        cells=replace(extras.cells, owner=back[extras.cells.owner]),
        spread=replace(extras.spread, **{n: rows(getattr(extras.spread, n)) for n in ("lowest", "highest", "sd")}),
        vcc=replace(extras.vcc, listed=rows(extras.vcc.listed), baseline=rows(extras.vcc.baseline)),
        log_of_mean=replace(extras.log_of_mean, profile=rows(extras.log_of_mean.profile)),
    )  # fmt: skip
    names = ("ids", "n_cells", "profile", "variance", "targets", "weights", "weight_profile", "weights_shared",
             "significant", "positive", "p_adj", "log2fc", "listed", "compat_label", "n_first")  # fmt: skip
    fold = replace(fold, extras=extras, **{name: rows(getattr(fold, name)) for name in names})
    names = (
        "usable",
        "testable",
        "n_cells",
        "variance",
        "coordinates",
        "p_adj",
        "log2fc",
        "stat",
        "log_of_mean",
        "listed",
    )
    cells = replace(cells, **{name: rows(getattr(cells, name)) for name in names})
    return fold, Predicted(rows(p.mean), rows(p.variance), rows(p.n_cells), cells)


def test_5_the_order_of_perturbations_changes_nothing(world):
    order = np.random.default_rng(2).permutation(K)
    one, other = score(world), score(world, lambda fold, p: reordered(fold, p, order))
    assert set(one) == set(other)
    for key, found in one.items():
        assert set(found) == set(other[key])
        np.testing.assert_allclose(
            [other[key][k] for k in found], list(found.values()), rtol=1e-9, atol=1e-12, err_msg=str(key)
        )


def test_6_a_gene_that_nobody_expresses(world):
    """Every gene set but `all` and those of cells is blind to it."""

    def silent(fold, p):
        def wider(thing, value=0.0):
            return np.concatenate([thing, np.full((*thing.shape[:-1], 1), value, dtype=thing.dtype)], axis=-1)

        names = (
            "profile", "variance", "control_a", "control_a_variance", "control_b", "control_b_variance", "control_all",
            "train_mean", "train_pc1", "weights", "weight_profile", "cell_mean", "log2fc",
        )  # fmt: skip
        spread = fold.extras.spread
        spread = replace(spread, **{name: wider(getattr(spread, name)) for name in ("lowest", "highest", "sd")})
        flags = {
            name: wider(getattr(fold, name), False) for name in ("expressed", "eligible", "positive", "compat_label")
        }
        fold = replace(fold, **{name: wider(getattr(fold, name)) for name in names})
        extras = replace(fold.extras, doubles=None, log_of_mean=None, spread=spread)
        fold = replace(fold, extras=extras, p_adj=wider(fold.p_adj, np.nan), **flags)
        return fold, Predicted(wider(p.mean), wider(p.variance), p.n_cells)

    one = score(world, lambda fold, p: (fold, replace(p, cells=None)))
    other = score(world, silent)
    compared = 0
    for name, metric in PROFILES.items():
        for gene_set in metric.gene_sets:
            if (
                gene_set.split("_")[0] in ("expr", "de20", "de50", "de100", "sig", "eligible", "pathways")
                or "@" in gene_set
            ):
                np.testing.assert_allclose(
                    listed(other, name, gene_set), listed(one, name, gene_set), atol=1e-9, err_msg=name
                )
                compared += 1
    assert compared > 60


def test_6_a_constant_added_everywhere(world):
    """To both profiles and every reference: no delta metric notices."""

    def shifted(fold, p):
        names = ("profile", "control_a", "control_b", "control_all", "train_mean", "cell_mean", "weight_profile")
        fold = replace(fold, **{name: getattr(fold, name) + 2.5 for name in names})
        return fold, replace(p, mean=p.mean + 2.5)

    one, other = score(world), score(world, shifted)
    compared = 0
    for name, metric in PROFILES.items():
        if name.startswith(("logratio", "in_range")):  # ratios and ends of a range are no differences
            continue
        for gene_set in metric.gene_sets:
            np.testing.assert_allclose(
                listed(other, name, gene_set), listed(one, name, gene_set), atol=1e-9, err_msg=name
            )
            compared += 1
    assert compared > 70


@pytest.mark.parametrize("a", [2.5, -1.5])
def test_7_scaling_the_predicted_change(world, a):
    def scaled(reference):
        def change(fold, p):
            origin = getattr(fold, reference)
            return fold, replace(p, mean=origin + a * (p.mean - origin), cells=None)

        return change

    one, sign = score(world), np.sign(a)
    by_control, by_mean = score(world, scaled("control_b")), score(world, scaled("train_mean"))
    for name, found in (("dpearson_ctrl", by_control), ("dspearman_ctrl", by_control), ("dcosine_ctrl", by_control),
                        ("dpearson_pm", by_mean), ("dpearson_pm_nopc1", by_mean)):  # fmt: skip
        for gene_set in METRICS[name].gene_sets:
            np.testing.assert_allclose(listed(found, name, gene_set), sign * listed(one, name, gene_set), atol=1e-9)
    for name, factor in (("lfc_slope", a), ("norm_ratio", abs(a)), ("delta_sd_ratio", abs(a))):
        for gene_set in METRICS[name].gene_sets:
            np.testing.assert_allclose(
                listed(by_control, name, gene_set), factor * listed(one, name, gene_set), atol=1e-9
            )


def test_12_single_precision_predictions(world):
    one = score(world)
    other = score(world, lambda fold, p: (fold, replace(p, mean=p.mean.astype(np.float32).astype(np.float64))))
    for name, metric in PROFILES.items():
        for gene_set in metric.gene_sets:
            np.testing.assert_allclose(
                listed(other, name, gene_set), listed(one, name, gene_set), atol=2e-6, rtol=1e-6, err_msg=name
            )
    # A constant prediction stays one whatever single precision does to it.
    flat = score(world, profile(lambda fold: np.tile(fold.control_b.astype(np.float32), (K, 1))))
    assert np.isnan(listed(flat, "dpearson_ctrl", "expr_nt")).all()
    assert np.isnan(listed(flat, "gw_pearson_wf", "eligible")).all()


@pytest.mark.parametrize(("n", "n_control"), [(50, 200), (100, 100)])
def test_shifts_without_effect_agree_by_their_control_alone(rng, n, n_control):
    """Cosine n / (n + n_c) of two shifts that share their controls (metrics.md 11.2)."""
    control = rng.normal(0, np.sqrt(1 / n_control), 20_000)
    one, other = rng.normal(0, np.sqrt(1 / n), (2, 20_000)) - control
    cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert cosine == pytest.approx(n / (n + n_control), abs=0.02)
    assert contract.N_PERMUTATIONS == 20


def without_held_out_controls(fold, p):
    nothing, unknown = tuple(np.array([], dtype=int) for _ in range(K)), np.full((K, G), np.nan)
    lm = replace(fold.extras.log_of_mean, control_a=unknown[0])
    return replace(
        fold, control_a=unknown[0], extras=replace(fold.extras, log_of_mean=lm), significant=nothing, p_adj=unknown,
        log2fc=unknown, positive=np.zeros((K, G), dtype=bool),
    ), p  # fmt: skip


def one_prediction(fold, p):
    there = np.arange(K) == 3
    return fold, Predicted(np.where(there[:, None], p.mean, np.nan), np.zeros((K, G)), there.astype(int))


def no_effect(fold, p):
    """True profiles that differ from the held-out controls by less than their sampling noise."""
    small = 1e-3 * np.random.default_rng(fold.fold).normal(size=(K, G))
    return replace(fold, profile=fold.control_a + small, variance=np.full((K, G), 0.02)), p


def few_cells(fold, p):
    vcc = replace(fold.extras.vcc, baseline=np.full((K, 3), np.nan))
    return replace(fold, n_cells=np.full(K, 5), extras=replace(fold.extras, vcc=vcc)), p


#: What breaks a truth or a prediction, and the reasons that are wrong for every row then.
BROKEN = {without_held_out_controls: "no_de", one_prediction: "few_cells", no_effect: "few_cells",
          few_cells: "no_de|const_pred|no_cells"}  # fmt: skip


@pytest.mark.parametrize("change", BROKEN, ids=lambda change: change.__name__)
def test_every_undefined_value_has_its_reason(world, change):
    """No value without a status that keeps it, no NaN that is ok (1.3.5): models, shuffled labels and no skill."""
    made = [change(*one) for one in world]
    truth = TruthBundle(np.arange(G).astype(str), tuple(fold for fold, _ in made), np.ones(G), made[0][0].eligible,
                        {"dataset": "toy", "split": "variant", "compat_list": "listed"})  # fmt: skip
    rows, baseline = scoring.Rows("toy", "variant", "model"), scoring.Rows("toy", "variant", contract.NO_SKILL)
    scoring.score_combination(truth, {fold.fold: p for fold, p in made}, METRICS, rows, 0)
    scoring.add_no_skill(truth, METRICS, baseline)
    excluded = {(row[2], *row[7:10]): row[14] for row in baseline.rows}
    keeps, wrong = {contract.OK, *contract.FLAGS}, set()
    for row in [*rows.rows, *baseline.rows]:
        fold, model, perturbation, metric, gene_set, value, status = (row[i] for i in (2, 3, 7, 8, 9, 10, 14))
        if np.isnan(value):
            # what guessing would score may be unknown where a model has a value
            fits = status not in {*keeps, *BROKEN[change].split("|")} or (
                model == contract.NO_SKILL and status in keeps
            )
        else:
            # the value of a panel stands when predictions are missing
            fits = status in keeps or (status == "missing_pred" and not perturbation)
        of_truth = excluded.get((fold, perturbation, metric, gene_set), contract.OK)
        if not fits or (model == "model" and of_truth not in keeps and status != of_truth):
            wrong.add((model.partition(":")[0], fold > 0, metric, gene_set, bool(np.isnan(value)), status, of_truth))
    assert sorted(wrong) == []
