"""Known function, learning curve and atlas of all substitutions in one run of the engine."""

from __future__ import annotations

import csv
import math

import harness
import pytest

SIZE = 19 * 393  # substitutions of TP53


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> harness.Run:
    done = harness.run(
        tmp_path_factory.mktemp("atlas"),
        *("-profile", "test,local", "--simulate_variants", "24", "--simulate_cells", "40", "--simulate_genes", "400"),
        *("--models", "linear,train_mean", "--encoders", "onehot", "--strategies", "alt", "--splits", "variant"),
        *("--folds", "2", "--min_cells_per_perturbation", "10", "--bootstrap", "200"),
        *("--known_function=true_severity,severity=Impactful I|Impactful II,consequence=frame", "--learning_curve"),
        *("0.5,1", "--saturation", "--metrics", "extended"),
    )
    assert done.code == 0, done.output
    print(f"\natlas: {done.seconds:.0f} s, {len(done.tasks['Submitted'])} tasks")
    return done


def test_units_of_the_curve_are_planned_trained_and_accounted_for(run: harness.Run) -> None:
    plan = run.table("plan.tsv")
    assert len(plan) == 2 * 2 * 2  # folds, models, everything and a half
    assert {row["state"] for row in plan} == {"ok"}
    size = {(row["fold"], row["model"], row["trained_on"]): int(row["n_train"]) for row in plan}
    for (fold, model, part), n in size.items():
        assert n == (size[fold, model, ""] if not part else math.ceil(size[fold, model, ""] / 2))
    curve = [
        row for row in run.table("learning_curve.tsv") if (row["metric"], row["gene_set"]) == ("dpearson_pm", "expr_nt")
    ]
    assert [(row["model"], row["trained_on"]) for row in curve] == [
        (model, part) for model in ("linear", "train_mean") for part in ("p500", "all")
    ]
    board = {row["model"]: row for row in run.table("leaderboard.tsv")
             if (row["metric"], row["gene_set"]) == ("dpearson_pm", "expr_nt")}  # fmt: skip
    assert set(board) == {"linear", "train_mean"}
    for row in curve:
        if row["trained_on"] == "all":
            assert row["value"] == board[row["model"]]["value_imputed"]


def test_classes_of_the_annotations_are_scored_as_a_metric(run: harness.Run) -> None:
    found = {row["model"]: row for row in run.table("leaderboard.tsv") if row["metric"] == "phenotype_auc"}
    assert {row["gene_set"] for row in found.values()} == {"phenotype@severity=Impactful I|Impactful II"}
    assert float(found["train_mean"]["value"]) == 0.5  # one profile for all tells no class
    assert 0 <= float(found["linear"]["value"]) <= 1
    assert found["linear"]["ci_low"] and found["linear"]["ceiling"]


def test_scores_by_distance_to_training_are_of_configurations_with_an_encoder(run: harness.Run) -> None:
    rows = run.table("strata.tsv")
    assert {row["model"] for row in rows} == {"linear", "train_mean"}
    assert {row["model"] for row in rows if row["stratum"] == "distance"} == {"linear"}


def test_every_substitution_has_an_impact_of_models_that_never_saw_it(run: harness.Run) -> None:
    atlas = {row["perturbation"]: row for row in run.table("atlas.tsv")}
    assert len(atlas) == SIZE
    perturbations = run.outdir / "datasets" / "simulated_tp53.perturbations.tsv"
    with open(perturbations, newline="") as handle:
        measured = {row["perturbation"] for row in csv.DictReader(handle, delimiter="\t") if int(row["n_cells"])}
    missense = measured & set(atlas)
    assert len(missense) > 15
    assert {name for name, row in atlas.items() if row["seen"] == "true"} == missense
    assert {row["n_models"] for row in atlas.values() if row["seen"] != "true"} == {"2"}
    assert {atlas[name]["n_models"] for name in missense} == {"1"}
    # the held-out impact is the one the score table holds
    import pyarrow.parquet as pq

    scores = pq.read_table(
        run.outdir / "tables" / "scores.parquet", filters=[("metric", "=", "impact"), ("model", "=", "linear")]
    )
    held_out = {row["perturbation"]: row["value"] for row in scores.to_pylist() if row["perturbation"]}
    for name in missense:
        assert float(atlas[name]["impact"]) == pytest.approx(held_out[name], rel=1e-5)


def test_known_function_of_held_out_and_of_unmeasured_variants(run: harness.Run) -> None:
    rows = run.table("known_function.tsv")
    held = {(row["model"], row["known"], row["statistic"]): row for row in rows if row["variants"] == "held_out"}
    severity = held["measured", "true_severity", "spearman"]
    assert float(severity["value"]) > 0.5  # the simulated effects are what they were made from
    assert severity["n"] == severity["n_expected"]
    assert ("linear", "severity=Impactful I|Impactful II", "auroc") in held
    assert float(held["train_mean", "severity=Impactful I|Impactful II", "auroc"]["value"]) == 0.5
    assert any(row["reason"].startswith("class 'frame' does not occur in column consequence; found: ") for row in rows)


def test_the_report_has_the_three_chapters_and_their_figures(run: harness.Run) -> None:
    page = (run.outdir / "report" / "multiqc_report.html").read_text()
    for name in ("vcb_known", "vcb_curve", "vcb_atlas"):
        assert name in page
    figures = {path.name for path in (run.outdir / "report" / "figures").iterdir()}
    assert {
        "simulated_tp53_variant.learning_curve.tsv",
        "simulated_tp53_variant.atlas_linear_onehot_alt_TP53.svg",
    } <= figures
    with open(run.outdir / "report" / "figures" / "simulated_tp53_variant.atlas_linear_onehot_alt_TP53.tsv") as handle:
        assert sum(1 for _ in handle) == SIZE + 1
