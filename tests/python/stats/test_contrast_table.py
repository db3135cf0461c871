"""contrasts.tsv: references, the price of the best of many, and false claims on simulated nulls (metrics.md 10.3)."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import GENES, METRICS, PRIMARY, chooser, panel_of

from vcbench.stats import contrast_table, contrasts, factors, selection

BASELINES = ("train_mean", "nearest", "linear")


def rows(panel, negative=(), metric=PRIMARY, kind="best_baseline"):
    found = contrast_table.rows(panel, metric, GENES, panel.series(metric, GENES), set(negative))
    return {(row["model"], row["encoder"]): row for row in found if row["reference"] == kind}


def values_of(rng, n=60, **levels):
    shared = rng.normal(0, 0.2, n)
    return {(m, e, "alt" if e != "none" else "none"): shared + level + 0.05 * rng.normal(size=n)
            for name, level in levels.items() for m, e in [name.split("__")]}  # fmt: skip


def test_the_best_baseline_is_no_negative_control():
    values = values_of(
        np.random.default_rng(0), train_mean__none=0, nearest__plm=0.2, nearest__random=0.5, model__plm=1
    )
    found = rows(panel_of(values, BASELINES), ["random"])
    assert {(row["reference_model"], row["reference_encoder"]) for row in found.values()} == {("nearest", "plm")}
    assert {row["n_references"] for row in found.values()} == {2}
    gain = values["model", "plm", "alt"] - values["nearest", "plm", "alt"]
    row = found["model", "plm"]
    assert row["difference"] == pytest.approx(gain.mean(), rel=1e-9)
    assert row["detectable"] == pytest.approx(2.8 * gain.std(ddof=1) / np.sqrt(60), rel=1e-9)
    assert row["sd_difference"] == pytest.approx(gain.std(ddof=1), rel=1e-9)
    assert (row["verdict"], found["train_mean", "none"]["verdict"]) == ("better", "worse")


def test_lower_is_better_turns_the_verdict():
    values = values_of(np.random.default_rng(1), train_mean__none=2, nearest__plm=1, model__plm=3)
    found = rows(panel_of(values, BASELINES, pair=("mse", GENES)), metric=METRICS["mse"])
    assert found["model", "plm"]["reference_model"] == "nearest"
    assert found["model", "plm"]["verdict"] == "worse"


def test_holm_is_within_a_reference_and_bh_over_the_run():
    rng = np.random.default_rng(2)
    values = values_of(rng, train_mean__none=0, nearest__plm=0.02, a__plm=0.03, b__plm=0.04, c__plm=0.06)
    panel = panel_of(values, BASELINES)
    found = contrast_table.rows(panel, PRIMARY, GENES, panel.series(PRIMARY, GENES), set())
    contrast_table.adjust_across(found)
    for kind in ("best_baseline", "train_mean"):
        mine = [row for row in found if row["reference"] == kind]
        np.testing.assert_allclose([row["p_holm"] for row in mine], contrasts.holm(np.array([r["p"] for r in mine])))
    best = np.array([row["p_holm"] for row in found if row["reference"] == "best_baseline"])
    across = [row["p_bh"] for row in found if row["reference"] == "best_baseline"]
    np.testing.assert_allclose(across, contrasts.benjamini_hochberg(best))
    assert all(np.isnan(row["p_bh"]) for row in found if row["reference"] != "best_baseline")


def test_control_inputs_are_the_same_model_on_its_best_control_encoder():
    values = values_of(np.random.default_rng(3), train_mean__none=0, nearest__plm=0.5, nearest__random=0.1,
                       nearest__shuffled=0.2, model__plm=0.4, model__shuffled=0.4, other__plm=1)  # fmt: skip
    values["model", "plm", "diff"] = values["model", "plm", "alt"]
    panel = panel_of(values, BASELINES)
    found = contrast_table.rows(panel, PRIMARY, GENES, panel.series(PRIMARY, GENES), {"random", "shuffled"})
    mine = {(r["model"], r["encoder"], r["strategy"]): r for r in found if r["reference"] == "control_input"}
    assert set(mine) == {("nearest", "plm", "alt"), ("model", "plm", "alt"), ("model", "plm", "diff")}
    nearest = mine["nearest", "plm", "alt"]
    assert (nearest["reference_model"], nearest["reference_encoder"]) == ("nearest", "shuffled")
    assert (nearest["n_references"], nearest["verdict"]) == (2, "better")
    gain = values["nearest", "plm", "alt"].mean() - values["nearest", "shuffled", "alt"].mean()
    assert nearest["difference"] == pytest.approx(gain, rel=1e-9)
    assert mine["model", "plm", "alt"]["verdict"] == "unresolved"


def test_a_verdict_with_missing_predictions_says_so():
    """A model below no skill (0 here) gains by leaving out its worst perturbations: allowed, but counted and said."""
    values = values_of(np.random.default_rng(4), train_mean__none=-0.6, nearest__plm=-0.4, model__plm=-0.35)
    of = ("model", "plm", "alt")
    worst = np.argsort(values[of])[:20]
    whole, partly = panel_of(values, BASELINES), panel_of(values, BASELINES, missing={of: worst})
    gain = [rows(panel)["model", "plm"]["difference"] for panel in (whole, partly)]
    assert gain[1] > gain[0] + 0.1
    row = rows(partly)["model", "plm"]
    assert (row["verdict"], row["n"], row["n_missing_pred"]) == ("better", 60, 20)
    assert {r["n_missing_pred"] for key, r in rows(partly).items() if key != ("model", "plm")} == {0}
    assert rows(whole)["model", "plm"]["n_missing_pred"] == 0
    # undefined is not missing, and what the truth excludes is nobody's gain
    values[of][worst[:5]] = np.nan
    excluded = np.isin(np.arange(60), worst[10:])
    one = panel_of(values, BASELINES, missing={of: worst[5:]}, excluded=excluded)
    series = one.series(PRIMARY, GENES)
    assert series.missing.sum(1).tolist() == [5 if planned.of == of else 0 for planned in one.plan]
    honest = selection.rows(partly, PRIMARY, GENES, partly.series(PRIMARY, GENES), set(), chooser(None))
    found = {row["model"]: row for row in honest}
    assert (found["model"]["n_missing_pred"], found["nearest"]["n_missing_pred"]) == (20, 0)


def test_missing_predictions_of_the_reference_are_counted_beside_the_verdict():
    """The best baseline takes no skill (0) for what it did not predict: of those that both sides are compared on."""
    values = values_of(np.random.default_rng(6), train_mean__none=0.05, nearest__plm=0.4, model__plm=0.5)
    of = ("nearest", "plm", "alt")
    found = rows(panel_of(values, BASELINES, missing={of: np.arange(9), ("model", "plm", "alt"): np.arange(5, 11)}))
    row = found["model", "plm"]
    assert row["reference_model"] == "nearest"
    assert (row["n"], row["n_missing_pred"], row["n_missing_reference"]) == (60, 6, 9)
    assert {r["n_missing_reference"] for r in rows(panel_of(values, BASELINES)).values()} == {0}
    # the other side of a pair is counted for that pair alone, and what the truth excludes for none
    excluded = np.arange(60) < 4
    panel = panel_of(values, BASELINES, missing={of: np.arange(9)}, excluded=excluded)
    models = [planned.of[0] for planned in panel.plan]
    pairs = contrast_table.pairs(panel, PRIMARY, GENES, panel.series(PRIMARY, GENES), [models.index("model")])
    counts = {row["reference_model"]: row["n_missing_reference"] for row in pairs}
    assert counts == {"nearest": 5, "train_mean": 0}
    assert all(row["reference"] == "pair" and row["p_holm"] >= row["p"] for row in pairs)


def test_a_baseline_that_predicts_nothing_is_no_best_baseline():
    """Its no-skill values (0) would beat baselines below no skill; with one prediction it is in the running."""
    values = values_of(np.random.default_rng(7), train_mean__none=-0.3, nearest__plm=0.2, model__plm=0.1)
    of = ("nearest", "plm", "alt")
    silent = rows(panel_of(values, BASELINES, missing={of: np.arange(60)}))
    assert silent["model", "plm"]["reference_model"] == "train_mean"
    assert silent["model", "plm"]["n_references"] == 1
    some = rows(panel_of(values, BASELINES, missing={of: np.arange(59)}))
    assert some["model", "plm"]["reference_model"] == "nearest"
    assert some["model", "plm"]["n_missing_reference"] == 59


def test_one_seed_that_does_not_answer_counts():
    values = values_of(np.random.default_rng(5), train_mean__none=0, nearest__plm=0.1, model__plm=0.2)
    of = ("model", "plm", "alt")
    values[of] = np.stack([values[of], values[of]])
    panel = panel_of(values, BASELINES, missing={of: np.arange(7)})
    assert rows(panel)["model", "plm"]["n_missing_pred"] == 7


def test_worse_than_the_best_of_many_pays_for_their_number():
    row = {"p_holm": 0.01, "difference": -0.1, "n_references": 4}
    assert contrast_table.verdict(row, PRIMARY) == "worse"
    assert contrast_table.verdict({**row, "n_references": 5}, PRIMARY) == "unresolved"
    assert contrast_table.verdict({**row, "n_references": 5, "difference": 0.1}, PRIMARY) == "better"
    assert contrast_table.verdict({**row, "p_holm": 0.05, "difference": 0.1}, PRIMARY) == "unresolved"
    assert contrast_table.verdict({**row, "p_holm": np.nan}, PRIMARY) == "unresolved"


def test_clearly_worse_is_said_however_many_baselines_there_are():
    """10,000 flips alone could not survive Holm over 41 contrasts times 40 baselines."""
    rng = np.random.default_rng(9)
    baselines = [f"b{i:02d}" for i in range(40)]
    values = values_of(rng, n=90, train_mean__none=0, **{f"{name}__plm": 0.5 for name in baselines}, model__plm=0.1)
    panel = panel_of(values, ("train_mean", *baselines), n_resamples=2)
    found = rows(panel)
    assert found["model", "plm"]["n_references"] == 41
    assert found["model", "plm"]["verdict"] == "worse"
    assert {found[name, "plm"]["verdict"] for name in baselines if (name, "plm") in found} == {"unresolved"}


def test_false_claims_on_nulls_are_at_most_five_per_cent():
    """Whole families of equally good configurations, residue positions shared: benchmarks/statistics.py runs more."""
    replicates = 120
    counts = dict.fromkeys(("better", "worse", "train_mean", "selection", "factors"), 0)
    for replicate in range(replicates):
        rng = np.random.default_rng([7, replicate])
        cluster = np.repeat(np.arange(40), rng.integers(1, 4, 40))[:40]
        shared = rng.normal(0, 0.2, 40)
        values = {("train_mean", "none", "none"): 0} | {
            (m, e, "alt"): 0 for m in ("nearest", "linear", "a", "b") for e in ("x", "y", "z")
        }
        values = {of: shared + 0.1 * (rng.normal(size=40)[cluster] + rng.normal(size=40)) for of in values}
        panel = panel_of(values, BASELINES, cluster, cluster % 3 + 1, n_resamples=2)
        series = panel.series(PRIMARY, GENES)
        found = contrast_table.rows(panel, PRIMARY, GENES, series, set())
        verdicts = {row["verdict"] for row in found if row["reference"] == "best_baseline"}
        counts["better"] += "better" in verdicts
        counts["worse"] += "worse" in verdicts
        counts["train_mean"] += any(r["verdict"] != "unresolved" for r in found if r["reference"] == "train_mean")
        by = chooser({of: rng.normal(size=9) for of in values})
        honest = selection.rows(panel, PRIMARY, GENES, series, set(), by)
        counts["selection"] += any(row["verdict"] == "better" for row in honest)
        counts["factors"] += any(row["p_holm"] < 0.05 for row in factors.rows(panel, PRIMARY, GENES, series, set()))
    # 5 % of 120 and two binomial standard errors.
    assert all(count <= 0.05 * replicates + 2 * np.sqrt(replicates * 0.05 * 0.95) for count in counts.values()), counts
