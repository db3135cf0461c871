"""Escaping, withheld scores, empty and partial runs, gene data, determinism, text helpers."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from synthetic import HOSTILE, Run, command_line

from vcbench.core.errors import InputError
from vcbench.report import command, folds, panel, perturbations, text
from vcbench.report.names import reasons
from vcbench.report.strip import Scale

ONE = {"datasets": {"tp53_screen": "variant"}, "blocked": (), "failed": (), "splits": ("variant",)}


def test_user_strings_are_escaped_everywhere(report):
    content = report.text()
    assert "<script" not in content
    assert content.count("&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; &quot;quoted&quot;") > 10
    assert HOSTILE in (report.inputs / "run.json").read_text().replace('\\"', '"')


def test_report_is_offline(report):
    """Links a reader may click are fine; nothing may be loaded from elsewhere."""
    content = report.text()
    assert not re.findall(r"(?:src|@import|url\()\s*=?\s*[\"']?(?:https?:)?//", content)
    assert "<link" not in content


def test_all_units_failed(make_report):
    models = ("no_change", "train_mean", "position_mean", "nearest", "linear", "sclambda")
    report = make_report(Run(**ONE, fail_models=models))
    summary = report.section("vcb_result")["data"]
    assert "No model could be judged" in summary
    assert "No unit of this dataset and split has a score." in summary
    assert "Scores are withheld" in report.section("tp53_screen_variant_leaderboard")["data"]
    assert not any(report.has(f"tp53_screen_variant_{name}") for name in ("metrics", "heatmap_alt", "perturbations"))
    n = len(report.table("plan"))
    assert f"0 of {n} units succeeded" in summary
    assert f"{n} units of {n} gave no result" in report.section("vcb_failures")["data"]


def test_without_baselines_no_score_is_printed(make_report):
    report = make_report(Run(**ONE, models=("sclambda",)))
    assert "no simple baseline" in report.section("vcb_result")["data"]
    board = report.section("tp53_screen_variant_leaderboard")["data"]
    assert "no simple baseline" in board
    assert "vcb-row" not in board
    values = report.table("leaderboard")["value"].dropna()
    assert not any(f"{value:.3f}" in board for value in values)
    assert not report.has("tp53_screen_variant_metrics")


def test_without_a_ceiling_no_score_is_printed(make_report):
    report = make_report(Run(**ONE, no_ceiling=True))
    assert "could not be measured" in report.section("vcb_result")["data"]
    assert "vcb-row" not in report.section("tp53_screen_variant_leaderboard")["data"]
    assert not report.has("tp53_screen_variant_heatmap_alt")


def test_only_baselines_succeeded(make_report):
    report = make_report(Run(**ONE, fail_models=("sclambda",)))
    summary = report.section("vcb_result")["data"]
    assert "No model gave a result" in summary
    board = report.section("tp53_screen_variant_leaderboard")["data"]
    assert "best baseline" in board
    assert "3 of 3 units without result" in board
    assert not report.has("tp53_screen_variant_perturbations")
    assert "loss is NaN in epoch 3" in report.section("vcb_failures")["data"]


def test_only_baselines_planned(make_report):
    report = make_report(Run(**ONE, models=("no_change", "nearest", "linear")))
    assert "Only baselines were run" in report.section("vcb_result")["data"]


def test_missing_fold_is_shown_as_incomplete(report):
    board = report.section("tp53_screen_variant_leaderboard")["data"]
    row = next(part for part in board.split('<div class="vcb-row">') if "scLAMBDA · Physico-chemical · alt" in part)
    assert "40 of 60 perturbations" in row
    assert "20 not predicted: may gain by not answering" in row
    assert "not predicted" not in next(part for part in board.split('<div class="vcb-row">') if "Nearest" in part)
    assert "1 of 3 units without result" in row


def test_a_lead_with_missing_predictions_is_said(make_report):
    def missing(folder: Path) -> None:
        path = folder / "tables" / "contrasts.tsv"
        table = pd.read_csv(path, sep="\t", keep_default_na=False)
        table["n_missing_pred"] = (table["model"] == "sclambda") * 7
        table.to_csv(path, sep="\t", index=False)

    run = Run(**ONE, models=("train_mean", "nearest", "sclambda"), advantage={"tp53_screen": 0.4})
    summary = make_report(run, missing).section("vcb_result")["data"]
    assert "beats the best simple baseline in 1 of 1 comparison" in summary
    assert "With missing predictions, which may be a gain: scLAMBDA." in summary
    assert re.search(r"missing predictions \(scLAMBDA[^)]*: 7 of 60.*they may gain by not answering", summary)


@pytest.mark.parametrize("advantage", [0.4, 0.0])
def test_missing_predictions_of_the_baseline_are_said(make_report, advantage):
    def missing(folder: Path) -> None:
        path = folder / "tables" / "contrasts.tsv"
        table = pd.read_csv(path, sep="\t", keep_default_na=False)
        table["n_missing_reference"] = (table["reference_model"] == "nearest") * 9
        table.to_csv(path, sep="\t", index=False)

    run = Run(**ONE, models=("train_mean", "nearest", "sclambda"), advantage={"tp53_screen": advantage})
    report = make_report(run, missing)
    said = re.search(r"the best baseline \(([^)]*)\) did not predict 9 of 60", report.section("vcb_result")["data"])
    assert said and said[1].startswith("Nearest")
    board = report.section("tp53_screen_variant_leaderboard")["data"]
    row = next(part for part in board.split('<div class="vcb-row">') if "scLAMBDA" in part)
    assert "baseline: 9 not predicted" in row
    assert "with 9 missing predictions of the baseline at no skill" in row
    plain = make_report(run)
    assert "the best baseline (" not in plain.section("vcb_result")["data"]
    assert "baseline: " not in plain.section("tp53_screen_variant_leaderboard")["data"]


def test_gene_data_need_no_severity_and_no_position(make_report):
    run = Run(datasets={"norman": "gene"}, encoders=("onehot", "random"), blocked=(), failed=(), splits=("variant",))
    report = make_report(run)
    assert "60 perturbations" in report.section("vcb_result")["data"]
    assert not report.has("norman_position_leaderboard")
    assert list(report.section("norman_variant_perturbations")["data"]) == ["all perturbations"]
    assert report.section("norman_variant_strata")["section_name"] == "All perturbations together"


def test_same_input_gives_the_same_bytes_whatever_the_order_of_rows(make_report, report):
    def shuffle(folder: Path) -> None:
        for path in folder.glob("tables/*.tsv"):
            lines = path.read_text().splitlines()
            path.write_text("\n".join([lines[0], *sorted(lines[1:], key=lambda line: line[::-1])]) + "\n")
        scores = pd.read_parquet(folder / "tables/scores.parquet")
        scores.sample(frac=1, random_state=3).to_parquet(folder / "tables/scores.parquet", index=False)

    again, shuffled = make_report(Run()), make_report(Run(), shuffle)
    for other in (again, shuffled):
        names = [{path.relative_to(r.folder) for path in r.folder.rglob("*.*")} for r in (report, other)]
        assert names[0] == names[1]
        for name in names[0]:
            assert (report.folder / name).read_bytes() == (other.folder / name).read_bytes(), name


def test_order_and_versions(report):
    settings = yaml.safe_load((report.folder / command.RUN_CONFIG).read_text())
    modules = settings["custom_content"]["order"]
    assert modules[0] == "vcb_summary"
    assert modules.index("vcb_failed") > modules.index("vcb_panel_tp53_screen_variant")
    files = {path.name.removesuffix("_mqc.json") for path in report.folder.glob("*_mqc.json")}
    assert set(settings["report_section_order"]) == files
    versions = yaml.safe_load((report.folder / "vcbench_mqc_versions.yml").read_text())
    assert versions["SCORE"] == {"illico": "0.6.0", "python": "3.11.9"}
    assert versions["Workflow"] == {"Nextflow": "25.04.0", "variantcellbench": "0.1.0"}


def test_methods_name_the_run_and_cite_what_was_used(report):
    html = report.section("vcb_methods_text")["data"]
    for part in (
        "ESM2 650M: Lin et al.",
        "scLAMBDA: Wang et al.",
        "nbt.3820",
        "396 units",
        "Delta Pearson vs perturbed mean",
    ):
        assert part in html
    assert "$" not in html


def test_own_vectors_stand_under_their_name(make_report):
    report = make_report(Run(**ONE, encoders=("esm2_650m", "onehot", "my_vectors", "random")))
    for name in ("vcb_methods_text", "vcb_result", "tp53_screen_variant_leaderboard", "vcb_reading_parts"):
        assert "my_vectors" in str(report.section(name)["data"]), name
    parts = report.section("vcb_reading_parts")["data"]
    assert re.search(r"<b>my_vectors</b></td>\s*<td[^>]*>user</td>\s*<td[^>]*>Vectors given with --vectors", parts)
    board = report.section("tp53_screen_variant_leaderboard")["data"]
    rows = [row for row in board.split("vcb-row") if "my_vectors" in row]
    assert rows and not any("control input" in row for row in rows)


def test_predictions_made_elsewhere_stand_under_their_name_with_a_caveat(make_report):
    def rename(folder: Path) -> None:
        for path in folder.glob("tables/*.tsv"):
            path.write_text(path.read_text().replace("sclambda", "their_model"))
        scores = pd.read_parquet(folder / "tables" / "scores.parquet")
        scores["model"] = scores["model"].str.replace("sclambda", "their_model")
        scores.to_parquet(folder / "tables" / "scores.parquet", index=False)

    report = make_report(Run(**ONE), rename)
    summary = report.section("vcb_result")["data"]
    assert "Predictions made elsewhere: their_model. That they saw no test cell is their maker" in summary
    for name in ("vcb_methods_text", "tp53_screen_variant_leaderboard", "vcb_reading_parts"):
        assert "their_model" in str(report.section(name)["data"]), name
    assert "Predictions made elsewhere" not in make_report(Run(**ONE)).text()


def test_missing_table_is_one_clear_line(tmp_path):
    arguments = Run(**ONE).write(tmp_path)
    (tmp_path / "tables/contrasts.tsv").unlink()
    with pytest.raises(InputError, match=r"contrasts\.tsv: table not found"):
        command.main([*command_line(arguments), "--out-dir", str(tmp_path / "report")])


@pytest.mark.parametrize(
    ("value", "places", "signed", "expected"),
    [(0.1234, 3, False, "0.123"), (-0.0001, 3, True, "0.000"), (-0.5, 2, True, "−0.50"), (0.5, 2, True, "+0.50"),
     (math.nan, 3, False, "–"), (12345.6, 1, False, "12,345.6")],
)  # fmt: skip
def test_number(value, places, signed, expected):
    assert text.number(value, places, signed) == expected


@pytest.mark.parametrize(
    ("values", "expected"), [([0.5, 0.04], 3), ([1.2], 3), ([0.05], 4), ([0.002], 5), ([15], 2), ([900], 1), ([], 3)]
)
def test_decimals(values, expected):
    assert text.decimals(values) == expected


def test_words():
    assert text.p_value(0.0004) == "p\u00a0<\u00a00.001"
    assert text.listing(["a", "b", "c", "d"], 2) == "a, b and 2 more"
    assert text.count(1, "cell") == "1 cell"
    assert reasons("const_pred:60;few_cells:2") == (
        "undefined: the prediction does not differ from the reference (60); too few cells (2)"
    )


def test_numeric_severity_is_cut_into_terciles():
    rows = [{"perturbation": f"P{k:02}", "severity": str(k / 10)} for k in range(12)]
    groups = perturbations.strata(rows)
    assert [len(members) for members in groups.values()] == [4, 4, 4]
    assert groups["low (0.00 to 0.30)"] == ["P00", "P01", "P02", "P03"]


def test_scale_covers_and_has_round_ticks():
    scale = Scale.covering([0.1, 0.82, math.nan])
    assert scale.low < 0 < 0.82 < scale.high
    assert [round(tick, 6) for tick in scale.ticks()] == [0, 0.2, 0.4, 0.6, 0.8]
    assert Scale(0.0, 2.0).at(0.5) == "25.00%"


def test_aggregate_and_prepare_write_the_columns_the_report_reads():
    from vcbench.report import inputs
    from vcbench.splits import leakage
    from vcbench.stats import accounting, aggregate, contrast_table

    assert set(inputs._REQUIRED["leaderboard.tsv"]) <= set(aggregate.LEADERBOARD)
    needed = {"reference", "detectable", "verdict", "n_clusters", "fold_ci_low", "fold_ci_high"}
    assert set(inputs._REQUIRED["contrasts.tsv"]) | needed <= set(aggregate.CONTRASTS)
    for name in ("selection", "ranks", "factors", "families", "agreement"):
        assert set(inputs._REQUIRED[f"{name}.tsv"]) <= set(aggregate.TABLES[name])
    assert {"discriminates", "n_seeds", "seed_sd"} <= set(aggregate.LEADERBOARD)
    assert panel.CONTROL_INPUT == contrast_table.CONTROL_INPUT
    assert {"state", "stage", "reason"} <= set(accounting.COLUMNS)
    assert set(inputs._REQUIRED["cost.tsv"]) <= set(accounting.COST)
    assert set(folds.COLUMNS) <= set(leakage.COLUMNS)
    assert panel.BEST_BASELINE == aggregate.BEST_BASELINE
