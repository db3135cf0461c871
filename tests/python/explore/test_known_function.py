"""Known function: rules, intervals, rows; on examples by hand and on the real TP53 and KRAS tables."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr, t
from sklearn.metrics import average_precision_score, roc_auc_score

from vcbench.core import known_columns
from vcbench.core.errors import InputError
from vcbench.explore import known_function, ranking
from vcbench.explore.intervals import T_JACKKNIFE, Sample, estimate
from vcbench.explore.known_function import Predictor, Variants
from vcbench.stats import bootstrap

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


def sample_of(clusters, fold=None, n=400, seed=0):
    fold = np.ones(len(clusters), dtype=int) if fold is None else np.asarray(fold)
    groups = bootstrap.clusters([str(name) for name in clusters], fold)
    return Sample(groups, bootstrap.resamples(groups, n, np.random.default_rng(seed)))


def variants(annotations, predictors, clusters=None, fold=None, n=400):
    k = len(annotations)
    fold = np.ones(k, dtype=int) if fold is None else np.asarray(fold)
    return Variants("d", "variant", known_function.HELD_OUT, annotations, fold,
                    sample_of(range(k) if clusters is None else clusters, fold, n), predictors)  # fmt: skip


def impact(values, name="linear", kind="baseline"):
    return Predictor(name, "onehot", "alt", kind, np.asarray(values, dtype=float))


# ---- rules -----------------------------------------------------------------------------------------------------------


def test_rules_are_read():
    items = known_columns.parse("am, -etoposide,am>=0.564 , kato<=20,clinvar=Pathogenic|Likely pathogenic")
    assert [(i.column, i.low, i.rule, i.value) for i in items] == [
        ("am", False, "", ""), ("etoposide", True, "", ""), ("am", False, ">=", "0.564"), ("kato", True, "<=", "20"),
        ("clinvar", False, "=", "Pathogenic|Likely pathogenic"),
    ]  # fmt: skip
    assert known_columns.parse("") == []
    for wrong in ("am>=high", "am>0.5", "=x", "-am=a", "am=="):
        with pytest.raises(InputError, match=r"--known_function: not a rule"):
            known_columns.parse(wrong)


def test_values_are_oriented_and_labelled():
    rows = [{"dms": "1.5", "class": "Likely_pathogenic"}, {"dms": "-2", "class": "BENIGN"}, {"dms": "", "class": "VUS"},
            {"dms": "0.5", "class": ""}]  # fmt: skip

    def of(text):
        return known_columns.values(known_columns.parse(text)[0], rows)

    np.testing.assert_array_equal(of("dms").numbers, [1.5, -2, math.nan, 0.5])
    assert of("dms").damaging is None
    np.testing.assert_array_equal(of("-dms").numbers, [-1.5, 2, math.nan, -0.5])
    assert of("dms>=0.5").damaging == [True, False, None, True]
    assert of("dms<=0.5").damaging == [False, True, None, True]
    assert of("dms<=0.5").numbers[0] == -1.5
    assert of("class").damaging == [True, False, None, None]
    assert of("class").left_out == {"VUS": 1}
    assert of("class=vus|benign").damaging == [False, True, True, None]
    assert "no variant has a value" in of("other").problem
    assert "'Likely_pathogenic', which is no number" in of("class>=1").problem


def test_classes_that_do_not_occur_are_said():
    rows = [{"c": "Missense_like"}, {"c": "Benign"}, {"c": ""}]

    def of(text):
        return known_columns.values(known_columns.parse(text)[0], rows)

    assert of("c=Misense like").problem == (
        "class 'Misense like' does not occur in column c; found: Benign, Missense_like"
    )
    assert of("c=x|y").problem.startswith("classes 'x', 'y' do not occur in column c; found:")
    assert (of("c=missense-like|y").problem, of("c=missense-like|y").damaging) == ("", [True, False, None])
    part = known_columns.parse("c=missense-like|y")[0]
    assert known_columns.without_class(part, rows).startswith("class 'y' does not occur in column c; found: Benign")
    assert known_columns.without_class(known_columns.parse("c=benign")[0], rows) == ""


def test_classes_nobody_understands_are_said():
    found = known_columns.values(known_columns.parse("c")[0], [{"c": "red"}, {"c": "green"}])
    assert "not understood or all alike (green, red)" in found.problem
    assert "c=class|class" in found.problem


# ---- intervals -------------------------------------------------------------------------------------------------------


def test_percentiles_of_whole_clusters_as_brute_force():
    rng = np.random.default_rng(3)
    k = 80
    cluster, fold = np.arange(k) // 2, np.repeat([1, 2], k // 2)
    score, value = rng.normal(size=(2, k))
    value += score
    sample = sample_of(cluster, fold, n=150)
    found = estimate(lambda w: ranking.spearman(score, value, fold, w), sample, (-1, 1))
    brute = []
    for draw in sample.draws:
        rows = np.concatenate([np.repeat(np.flatnonzero(sample.groups.code == c), int(n)) for c, n in enumerate(draw)])
        parts = [rows[fold[rows] == f] for f in (1, 2)]
        top, one, two = 0.0, 0.0, 0.0
        for part in parts:
            a, b = (np.argsort(np.argsort(x[part])) * 0.0 + _midranks(x[part]) / len(part) for x in (score, value))
            a, b = a - a.mean(), b - b.mean()
            top, one, two = top + a @ b, one + a @ a, two + b @ b
        brute.append(top / np.sqrt(one * two))
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(brute, (2.5, 97.5))), abs=1e-12)
    assert found.method == bootstrap.BOOTSTRAP


def _midranks(values):
    from scipy.stats import rankdata

    return rankdata(values)


def test_few_clusters_jackknife_by_brute_force():
    rng = np.random.default_rng(4)
    cluster = np.repeat(np.arange(10), 3)
    score = rng.normal(size=30)
    positive = score + rng.normal(size=30) > 0
    fold = np.ones(30, dtype=int)
    found = estimate(lambda w: ranking.auroc(score, positive, fold, w), sample_of(cluster), (0, 1))
    left = np.array([roc_auc_score(positive[cluster != c], score[cluster != c]) for c in range(10)])
    half = t.ppf(0.975, 9) * np.sqrt(9 / 10 * ((left - left.mean()) ** 2).sum())
    value = roc_auc_score(positive, score)
    assert found.method == T_JACKKNIFE
    assert (found.value, found.low, found.high) == pytest.approx((value, max(0, value - half), min(1, value + half)))


def test_coverage_of_the_intervals():
    """Spearman of 0.5 in the population, 36 clusters of 2 dependent variants: about 95 % of the intervals hold it."""
    rng = np.random.default_rng(8)
    truth = 6 / np.pi * np.arcsin(0.5 / 2)  # rank correlation of a normal pair with correlation 0.5
    held = 0
    cluster, fold = np.arange(72) // 2, np.ones(72, dtype=int)
    for number in range(200):
        shared = rng.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], 36)[cluster]
        own = rng.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], 72)
        score, value = (np.sqrt(0.5) * shared + np.sqrt(0.5) * own).T
        found = estimate(lambda w, s=score, v=value: ranking.spearman(s, v, fold, w),
                         sample_of(cluster, n=300, seed=number), (-1, 1))  # fmt: skip
        held += found.low <= truth <= found.high
    assert 0.88 <= held / 200 <= 0.99


# ---- rows ------------------------------------------------------------------------------------------------------------


def test_rows_by_hand():
    """Six variants: the model ranks 8 of 9 pairs right, the zero-shot score 6 of 9."""
    annotations = [{"clinvar": c} for c in ["Pathogenic"] * 3 + ["Benign"] * 3 + ["VUS", ""]]
    llr = Predictor("esm2_llr", "none", "none", known_function.ZERO_SHOT, np.array([9.0, 1, 5, 3, 2, 0, 8, 8]))
    model = impact([5, 4, 2, 3, 1, 0, 7, 7])
    rows = known_function.rows(variants(annotations, [llr, model]), known_columns.parse("clinvar"))
    by = {(row["model"], row["statistic"]): row for row in rows}
    assert set(by) == {(m, s) for m in ("esm2_llr", "linear") for s in ("auroc", "auprc")}
    row = by["linear", "auroc"]
    assert row["value"] == pytest.approx(8 / 9)
    assert by["esm2_llr", "auroc"]["value"] == pytest.approx(7 / 9)
    assert row["zero_shot_difference"] == pytest.approx(1 / 9)
    assert (row["n"], row["n_expected"], row["n_positive"], row["left_out"]) == (6, 6, 3, "VUS:1")
    assert by["linear", "auprc"]["value"] == pytest.approx((1 + 1 + 3 / 4) / 3)
    assert by["linear", "auprc"]["chance"] == 0.5
    assert math.isnan(by["esm2_llr", "auroc"]["zero_shot_difference"])


def test_missing_predictions_are_counted_and_differences_are_on_common_variants():
    rng = np.random.default_rng(0)
    known = rng.normal(size=40)
    annotations = [{"dms": f"{value}"} for value in known]
    llr = Predictor("esm2_llr", "none", "none", known_function.ZERO_SHOT, known + rng.normal(size=40))
    scores = known + rng.normal(size=40)
    scores[:12] = np.nan
    rows = known_function.rows(variants(annotations, [llr, impact(scores)]), known_columns.parse("dms"))
    row = next(row for row in rows if row["model"] == "linear")
    assert (row["n"], row["n_expected"]) == (28, 40)
    own = spearmanr(scores[12:], known[12:]).statistic
    assert row["value"] == pytest.approx(own)
    assert row["zero_shot_difference"] == pytest.approx(own - spearmanr(llr.impact[12:], known[12:]).statistic)
    assert row["difference_low"] < row["zero_shot_difference"] < row["difference_high"]


def test_what_is_undefined_has_a_reason():
    annotations = [{"dms": str(i), "c": "benign", "half": "1" if i < 2 else ""} for i in range(8)]
    rows = known_function.rows(variants(annotations, [impact(np.ones(8))]), known_columns.parse("dms,c,half,absent"))
    reasons = {row["known"]: row["reason"] for row in rows}
    assert reasons["dms"] == "impacts or known values do not differ within any fold"
    assert reasons["c"].startswith("classes are not understood or all alike (benign)")
    assert reasons["half"] == "fewer than 4 variants with a prediction and a known value"
    assert "absent" not in reasons  # another dataset may have it
    absent = known_columns.parse("absent")[0]
    assert known_function.unused(absent)["reason"] == "no variant was scored"
    assert known_columns.without_column(absent, ["dms", "c"]) == (
        "no dataset has an annotation column 'absent'; found: c, dms"
    )
    assert all(math.isnan(row["value"]) for row in rows)
    same_fold = [{"dms": str(i)} for i in range(8)]
    found = known_function.rows(variants(same_fold, [impact(range(8))], fold=[1, 1, 1, 1, 2, 2, 2, 2]),
                                known_columns.parse("dms>=4"))  # fmt: skip
    why = "no fold has damaging and harmless variants"
    assert {row["statistic"]: row["reason"] for row in found if row["reason"]} == {"auroc": why, "auprc": why}


def test_the_order_of_variants_does_not_matter():
    rng = np.random.default_rng(1)
    known, scores = rng.normal(size=(2, 24))
    fold, cluster = np.arange(24) % 3, np.array([f"p{i // 2}" for i in range(24)])
    order = rng.permutation(24)
    tables = [
        known_function.rows(
            variants([{"d": repr(float(v))} for v in known[o]], [impact(scores[o])], cluster[o], fold[o]),
            known_columns.parse("d,d>=0"),
        )
        for o in (np.arange(24), order)
    ]
    for one, other in zip(*tables, strict=True):
        for name, value in one.items():
            assert other[name] == (pytest.approx(value, nan_ok=True) if isinstance(value, float) else value), name


# ---- real tables -----------------------------------------------------------------------------------------------------


def table(path):
    if not (DATA / path).is_file():
        pytest.skip("real data not found beside the project (../shared/data)")
    with open(DATA / path, newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def ursu():
    return [row for row in table("tp53/ursu2022_tp53_variant_table.csv") if row["kind"] not in ("WT", "unassigned")]


def test_real_tp53_effects_against_what_is_known(ursu):
    """Spearman of D2 with dominant negativity and AlphaMissense .53 over all scored variants (data.md 6.4)."""
    d2 = np.array([float(row["mahalanobis_d2_20pc"] or "nan") for row in ursu])
    rows = known_function.rows(
        variants(ursu, [impact(d2, "measured", known_function.MEASURED)], [row["pos"] for row in ursu]),
        known_columns.parse("giac_wt_nutlin,alphamissense,alphamissense>=0.3,giac_null_nutlin,-kato_promoter_median,"
                            "nci_DNE_LOFclass"),
    )  # fmt: skip
    value = {(row["known"], row["statistic"]): row for row in rows}
    assert value["giac_wt_nutlin", "spearman"]["value"] == pytest.approx(0.53, abs=0.006)
    assert value["alphamissense", "spearman"]["value"] == pytest.approx(0.53, abs=0.006)
    assert value["giac_null_nutlin", "spearman"]["value"] == pytest.approx(0.18, abs=0.006)
    assert value["-kato_promoter_median", "spearman"]["value"] == pytest.approx(0.13, abs=0.006)
    scored = [i for i, row in enumerate(ursu) if row["alphamissense"] and not np.isnan(d2[i])]
    high = [float(ursu[i]["alphamissense"]) >= 0.3 for i in scored]
    assert value["alphamissense>=0.3", "auroc"]["value"] == pytest.approx(roc_auc_score(high, d2[scored]), abs=1e-9)
    assert value["alphamissense>=0.3", "spearman"]["value"] == value["alphamissense", "spearman"]["value"]
    classes = value["nci_DNE_LOFclass", "auroc"]
    used = [i for i, row in enumerate(ursu) if row["nci_DNE_LOFclass"] in ("DNE_LOF", "notDNE_LOF", "notDNE_notLOF")
            and not np.isnan(d2[i])]  # fmt: skip
    labels = [ursu[i]["nci_DNE_LOFclass"] != "notDNE_notLOF" for i in used]
    assert classes["value"] == pytest.approx(roc_auc_score(labels, d2[used]), abs=1e-9)
    assert value["nci_DNE_LOFclass", "auprc"]["value"] == pytest.approx(
        average_precision_score(labels, d2[used]), abs=1e-9
    )
    for row in rows:
        assert row["ci_low"] < row["value"] < row["ci_high"] or row["value"] in (0, 1)
        assert row["interval"] == bootstrap.BOOTSTRAP


def test_real_zero_shot_scores_against_alphamissense():
    rows = [row for row in table("tp53/esm2_650m_llr_clinvar_vus.csv") if row["ESM2_LLR"]]
    llr = np.array([float(row["ESM2_LLR"]) for row in rows])
    found = known_function.rows(
        variants(rows, [Predictor("esm2_llr", "none", "none", known_function.ZERO_SHOT, -llr)],
                 [row["Position"] for row in rows], n=40),
        known_columns.parse("AlphaMissense_Pathogenicity_Score,AlphaMissense_Class"),
    )  # fmt: skip
    by = {row["statistic"]: row for row in found}
    am = [float(row["AlphaMissense_Pathogenicity_Score"]) for row in rows]
    assert by["spearman"]["value"] == pytest.approx(spearmanr(-llr, am).statistic, abs=1e-9)
    understood = ("pathogenic", "benign", "likely_pathogenic", "likely_benign")
    kept = [i for i, row in enumerate(rows) if row["AlphaMissense_Class"] in understood]
    labels = ["pathogenic" in rows[i]["AlphaMissense_Class"] for i in kept]
    assert by["auroc"]["n"] == len(kept)
    assert by["auroc"]["value"] == pytest.approx(roc_auc_score(labels, -llr[kept]), abs=1e-9)
    assert by["auroc"]["value"] > 0.8
    assert sum(int(part.rpartition(":")[2]) for part in by["auroc"]["left_out"].split(";")) == len(rows) - len(kept)


def test_real_kras_classes():
    rows = table("kras/ursu2022_kras_variant_table.csv")
    t2 = np.array([float(row["hotelling_t2_printed"] or "nan") for row in rows])
    wild = {row["ursu_class"] for row in rows} - {"WT-like", ""}
    found = known_function.rows(variants(rows, [impact(t2)]),
                                known_columns.parse(f"ursu_class={'|'.join(sorted(wild))}"))  # fmt: skip
    auroc = next(row for row in found if row["statistic"] == "auroc")
    assert auroc["n"] == 13  # the printed ones
    assert auroc["value"] == 1.0  # 1150 and more against 50 and less
