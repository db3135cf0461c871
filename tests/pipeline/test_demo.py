"""The demo: `-profile test,local` from nothing to the report."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import harness
import pytest

STATES = {"ok", "failed", "blocked", "missing"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> harness.Run:
    run = harness.run(tmp_path_factory.mktemp("demo"), "-profile", "test,local")
    print(f"\ndemo: {run.seconds:.0f} s, {len(run.tasks['Submitted'])} tasks")
    return run


def test_every_planned_unit_is_accounted_for(demo: harness.Run) -> None:
    assert demo.code == 0, demo.output
    plan = demo.table("plan.tsv")
    assert Counter(row["state"] for row in plan) == {"ok": len(plan)}
    # 2 splits x 3 folds x (3 without encoder + 3 with 4 encoders x 2 strategies)
    assert len(plan) == 2 * 3 * (3 + 3 * 4 * 2)
    assert "units: 162 ok" in demo.output


def test_results_are_where_the_documentation_says(demo: harness.Run) -> None:
    for name in (
        *(
            "report/multiqc_report.html",
            "tables/leaderboard.tsv",
            "tables/scores.parquet",
            "tables/plan.tsv",
            "tables/contrasts.tsv",
        ),
        *(f"tables/{name}.tsv" for name in ("selection", "ranks", "factors", "families", "agreement")),
        *(f"tables/{name}.tsv" for name in ("ceilings", "diagnostics", "strata")),
        *(f"report/figures/simulated_tp53_variant.ranks.{kind}" for kind in ("svg", "tsv")),
        *(
            "datasets/simulated_tp53.h5ad",
            "splits/simulated_tp53.variant.folds.tsv",
            "encodings/simulated_tp53.onehot.alt.h5ad",
        ),
        *(
            f"predictions/simulated_tp53.variant.f1.train_mean.none.none.s0.{kind}.h5ad"
            for kind in ("predictions", "validation")
        ),
        "tables/validation.parquet",
        "tables/genes.parquet",
    ):
        assert (demo.outdir / name).is_file(), name
    model = demo.outdir / "models" / "simulated_tp53.variant.f1.sclambda.onehot.alt.s0.model"
    assert {path.name for path in model.iterdir()} >= {"weights.safetensors", "config.json", "log.tsv"}
    assert json.loads((model / "config.json").read_text())
    assert list((demo.outdir / "pipeline_info").glob("execution_trace_*.txt"))


def test_no_table_without_baselines_controls_and_ceiling(demo: harness.Run) -> None:
    rows = [
        row for row in demo.table("leaderboard.tsv") if row["metric"] == "dpearson_pm" and row["gene_set"] == "expr_nt"
    ]
    for split in ("variant", "position"):
        models = {row["model"] for row in rows if row["split"] == split}
        assert {"no_change", "train_mean", "position_mean", "nearest", "linear", "sclambda"} <= models
        encoders = {row["encoder"] for row in rows if row["split"] == split and row["model"] == "linear"}
        assert {"random", "shuffled", "onehot"} <= encoders
    assert all(float(row["ceiling"]) > 0 for row in rows)
    assert all(row["null_mean"] for row in rows if row["model"] == "sclambda")


def test_validation_perturbations_choose_encoder_and_strategy(demo: harness.Run) -> None:
    rows = demo.table("selection.tsv")
    assert {row["status"] for row in rows} == {"ok"}
    several = [row for row in rows if int(row["n_configurations"]) > 1]
    assert {row["model"] for row in several} == {"linear", "nearest", "sclambda"}
    assert all(row["chosen_by"] == "dpearson_pm__expr_nt" and int(row["n_validation"]) > 0 for row in several)


def test_numbers_are_plausible_for_a_screen_with_known_effects(demo: harness.Run) -> None:
    """The truth is simulated, so these hold: a ceiling above every model, knowing the residue beats knowing nothing."""
    value = {
        (row["split"], row["model"], row["encoder"], row["strategy"]): float(row["value"] or "nan")
        for row in demo.table("leaderboard.tsv")
        if row["metric"] == "dpearson_pm" and row["gene_set"] == "expr_nt"
    }
    nulls = [value[split, "linear", "random", "alt"] for split in ("variant", "position")]
    assert all(abs(null) < 0.2 for null in nulls)
    train_mean = [
        row for row in demo.table("leaderboard.tsv") if row["model"] == "train_mean" and row["metric"] == "dpearson_pm"
    ]
    assert all(row["value"] == "" and "const_pred" in row["reasons"] for row in train_mean)


def test_report_is_one_offline_page(demo: harness.Run) -> None:
    page = (demo.outdir / "report" / "multiqc_report.html").read_text()
    assert "scLAMBDA" in page
    assert "Train mean" in page
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="(https?:)?//[^>]*>', strip_scripts(page))


def strip_scripts(page: str) -> str:
    """Return the page without the text inside its scripts (libraries talk about links); their tags stay."""
    return re.sub(r"(<script[^>]*>).*?(</script>)", r"\1\2", page, flags=re.S)


def test_image_named_for_every_model_and_encoder(tmp_path: Path) -> None:
    """`nextflow inspect` reads containers from definitions, as clusters' download tools do."""
    import subprocess

    import yaml

    done = subprocess.run(
        [str(harness.PROJECT / "scripts" / "nextflow.sh"), "inspect", str(harness.PROJECT), "-profile", "test,docker"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    images = {item["name"].split(":")[-1]: item["container"] for item in json.loads(done.stdout)["processes"]}
    entries = {
        kind: yaml.safe_load((harness.PROJECT / "assets" / f"{kind}.yml").read_text())["entries"]
        for kind in ("models", "encoders")
    }
    expected = {entry["process"] for entry in entries["encoders"].values()} | {"CONVERT_WEIGHTS"}
    expected |= {f"{entry['process']}_{part}" for entry in entries["models"].values() for part in ("TRAIN", "PREDICT")}
    assert expected <= set(images)
    assert all(images.values())
