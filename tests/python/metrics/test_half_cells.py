"""The ceiling of metrics of cells by brute force: every half tested with scipy and held against the other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse, stats
from scipy.spatial import distance
from sklearn import metrics as sk

from vcbench.core.errors import InputError
from vcbench.metrics import ceilings, contract, half_cells, registry, scoring, truth

NAMES = ("V1", "V2", "V3", "few")
N_GENES, TARGET = 60, 400.0
METRICS = registry.chosen(registry.load(), ["cells", "vcc", "lm"])


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(2)
    base = rng.gamma(2.0, 1.5, N_GENES)
    shift = rng.normal(0, 1, (len(NAMES), N_GENES)) * (rng.random((len(NAMES), N_GENES)) < 0.3)
    size = {"V1": 61, "V2": 60, "V3": 70, "few": 40, "T1": 40, "T2": 40}
    labels, half, means = [], [], []
    for i in range(150):
        labels, half = [*labels, "control"], [*half, "AB"[i % 2]]
        means.append(base)
    for number, (name, n) in enumerate(size.items()):
        labels, half = labels + [name] * n, half + [""] * n
        means += [base * np.exp(shift[number % len(NAMES)])] * n
    counts = rng.poisson(np.array(means) * rng.gamma(8, 1 / 8, (len(means), 1)))
    values = np.log1p(counts / counts.sum(1, keepdims=True) * TARGET).astype(np.float32)
    genes = np.array([f"g{i:03d}" for i in range(N_GENES)], dtype=object)
    return truth.Cells(sparse.csr_matrix(values), np.array(labels, object), np.array(half, object), genes, TARGET)


@pytest.fixture(scope="module")
def built(cells):
    # Folds in which other genes are tested would hide a fold mixed up; one suffices for the rest.
    roles = [truth.Roles(1, ("T1", "T2"), NAMES)]
    facts = {"dataset": "d", "split": "s", "inputs": {}}
    return truth.build(cells, roles, {"V1": ("g003",)}, facts, 4, groups=("cells", "vcc", "lm")).test


@pytest.fixture(scope="module")
def rows(built):
    return {(row[3], row[7], row[8], row[9]): row for row in ceilings.rows_of(built, METRICS)}


@pytest.mark.parametrize(("half", "found"), [("A", "9 in half A, 75 in half B"), ("B", "75 in half A, 9 in half B")])
def test_too_few_control_cells_in_one_half_are_refused(cells, half, found):
    """Nine are too few, ten are not: what a perturbation needs to have a profile at all."""
    at = np.flatnonzero((cells.labels == "control") & (cells.half == half))

    def kept(n):
        left = np.setdiff1d(np.arange(len(cells.labels)), at[n:])
        return truth.Cells(cells.expression[left], cells.labels[left], cells.half[left], cells.genes, TARGET)

    roles, facts = [truth.Roles(1, ("T1", "T2"), NAMES)], {"dataset": "d", "split": "s", "inputs": {}}
    with pytest.raises(InputError, match=f"^d, obs.*too few control cells.*{found}.*at least 10 in each half"):
        truth.build(kept(9), roles, {}, facts, 4)
    assert truth.build(kept(10), roles, {}, facts, 4).test.facts[f"n_control_{half.lower()}"] == 10


def value(rows, metric, gene_set, name, model=contract.TECH_DUPLICATE):
    return rows[model, name, metric, gene_set][10]


def halves_of(cells, name):
    """Yield (true cells, predicting cells) of every split, both ways."""
    tests = sorted(NAMES)
    code = np.array([tests.index(label) if label in tests else -1 for label in cells.labels])
    values = cells.expression.toarray().astype(np.float64)
    for number in range(contract.N_HALF_SPLITS):
        first = truth._halves(code, tests, 4, "d", number) == tests.index(name)
        second = (code == tests.index(name)) & ~first
        yield values[first], values[second]
        yield values[second], values[first]


def controls(cells, half):
    return cells.expression.toarray()[(cells.labels == "control") & (cells.half == half)].astype(np.float64)


def significant(group, control, genes):
    p = stats.mannwhitneyu(group[:, genes], control[:, genes], use_continuity=False, method="asymptotic").pvalue
    return stats.false_discovery_control(np.nan_to_num(p, nan=1.0)) < 0.05


def change(group, control):
    scale = 1e4 / TARGET
    return np.log2((np.expm1(group).mean(0) * scale + 0.01) / (np.expm1(control).mean(0) * scale + 0.01))


@pytest.mark.parametrize("name", ["V1", "V2"])
def test_sets_of_one_half_against_those_of_the_other(name, cells, built, rows):
    fold = built.folds[0]
    tested = np.flatnonzero(fold.expressed)
    kept = np.array([cells.genes[g] != "g003" or name != "V1" for g in tested])
    wanted = {metric: [] for metric in ("de_jaccard", "de_mcc", "de_recall", "de_precision", "de_f1", "de_nsig_pred",
                                        "overlap_k20_lfc", "var_ratio")}  # fmt: skip
    for true, predicted in halves_of(cells, name):
        t = significant(true, controls(cells, "A"), tested)[kept]
        p = significant(predicted, controls(cells, "B"), tested)[kept]
        assert t.any() and p.any()
        for metric, of in (("de_jaccard", sk.jaccard_score), ("de_mcc", sk.matthews_corrcoef),
                           ("de_recall", sk.recall_score), ("de_precision", sk.precision_score),
                           ("de_f1", sk.f1_score), ("de_nsig_pred", lambda t, p: p.sum())):  # fmt: skip
            wanted[metric].append(of(t, p))
        tops = [
            set(np.argsort(-np.abs(change(group, controls(cells, half))[tested][kept]), kind="stable")[:20])
            for group, half in ((true, "A"), (predicted, "B"))
        ]
        wanted["overlap_k20_lfc"].append(len(tops[0] & tops[1]) / 20)
        spread = [group[:, tested].var(axis=0, ddof=1) for group in (predicted, true)]
        varies = spread[1] > 0
        wanted["var_ratio"].append(np.median(spread[0][varies] / spread[1][varies]))
    for metric, found in wanted.items():
        gene_set = "expr" if metric == "var_ratio" else "expr_nt"
        assert value(rows, metric, gene_set, name) == pytest.approx(np.mean(found), rel=1e-6), metric


def test_distances_are_between_the_two_halves_in_the_space_of_the_truth(cells, built, rows):
    space = built.folds[0].extras.cells
    found = []
    for true, predicted in halves_of(cells, "V3"):
        a, b = ((group[:, space.genes] - space.centre) @ space.components for group in (predicted, true))
        found.append(2 * distance.cdist(a, b).mean() - distance.cdist(a, a).mean() - distance.cdist(b, b).mean())
    assert value(rows, "ediff", "hvg", "V3") == pytest.approx(np.mean(found), rel=1e-5)


def test_log_of_mean_profiles_of_halves_and_what_follows_for_full_size(cells, built, rows):
    at = np.flatnonzero(built.folds[0].expressed)
    found = {}
    for name in ("V1", "V2", "V3"):
        genes = [g for g in at if cells.genes[g] != "g003" or name != "V1"]
        found[name] = []
        for one, other in halves_of(cells, name):
            means = [np.expm1(group).mean(0) for group in (one, other)]
            profiles = [np.log1p(5e4 * mean / mean.sum()) for mean in means]
            found[name].append(((profiles[0] - profiles[1])[genes] ** 2).mean())
        assert value(rows, "mse_lm", "expr_nt", name) == pytest.approx(np.mean(found[name]), rel=1e-5)
        assert value(rows, "mse_lm", "expr_nt", name, contract.PERFECT_COPY) == pytest.approx(0, abs=1e-9)
    full = value(rows, "mse_lm", "expr_nt", "", contract.FULL_VS_FULL)
    every = [value(rows, "mse_lm", "expr_nt", name) for name in NAMES]
    assert full == pytest.approx(np.mean(every) / 2)


def test_the_challenge_on_halves(cells, built, rows):
    for name in ("V1", "V3"):
        error, des = [], []
        for true, predicted in halves_of(cells, name):
            error.append(np.abs(true.mean(0) - predicted.mean(0)).mean())
            lists = []
            control = np.concatenate([controls(cells, "A"), controls(cells, "B")])
            for group in (true, predicted):
                p = stats.mannwhitneyu(group, control, use_continuity=True, method="asymptotic").pvalue
                changed = np.flatnonzero(stats.false_discovery_control(np.nan_to_num(p, nan=1.0)) < 0.05)
                with np.errstate(divide="ignore"):
                    size = np.abs(np.log2(np.expm1(group.mean(0)) / np.expm1(control.mean(0))))[changed]
                lists.append(changed[np.argsort(-size, kind="stable")])
            k = len(lists[0])
            des.append(len(set(lists[0]) & set(lists[1][:k])) / k)
        assert value(rows, "vcc_mae", "all", name) == pytest.approx(np.mean(error), rel=1e-6)
        assert value(rows, "vcc_des", "all", name) == pytest.approx(np.mean(des), rel=1e-6)
    (overall,) = [row for key, row in rows.items() if key[0] == contract.TECH_DUPLICATE and key[2] == "vcc_score"
                  and not key[1]]  # fmt: skip
    assert 0 < overall[10] < 1 and overall[14] == contract.OK


def test_halves_too_small_to_test_have_a_reason(rows):
    """40 cells: halves of 20 are enough for profiles and distances, not for tests of genes."""
    row = rows[contract.TECH_DUPLICATE, "few", "de_jaccard", "expr_nt"]
    assert np.isnan(row[10]) and row[14] == "few_cells"
    assert value(rows, "ediff", "hvg", "few") > 0


def test_halves_are_disjoint_and_make_up_all_cells(built, cells):
    fold = built.folds[0]
    for seed in range(contract.N_HALF_SPLITS):
        one, other = (half_cells.side_of(fold, seed, side).truth for side in (0, 1))
        assert (one.n_cells + other.n_cells == fold.n_cells).all()
        whole = (one.profile * one.n_cells[:, None] + other.profile * other.n_cells[:, None]) / fold.n_cells[:, None]
        np.testing.assert_allclose(whole, fold.profile, atol=1e-12)
        halves = scoring.half_truths(fold, seed)
        np.testing.assert_allclose(one.profile, halves[0].profile, atol=1e-12)  # the halves of all other metrics


def test_all_cells_as_predicted_ones_agree_but_for_their_controls(rows):
    for name in ("V1", "V2"):
        assert value(rows, "ediff", "hvg", name, contract.PERFECT_COPY) == pytest.approx(0, abs=1e-9)
        assert value(rows, "var_ratio", "expr", name, contract.PERFECT_COPY) == pytest.approx(1)
        assert value(rows, "vcc_des", "all", name, contract.PERFECT_COPY) == 1
        half, copy = (value(rows, "de_jaccard", "expr_nt", name, m)
                      for m in (contract.TECH_DUPLICATE, contract.PERFECT_COPY))  # fmt: skip
        assert half < copy <= 1
