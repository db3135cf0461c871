"""Real counts: gene perturbations of Norman et al. 2019, singles and doubles, without proteins."""

from __future__ import annotations

import shutil
from pathlib import Path

import harness


def test_norman_runs_to_the_report(tmp_path: Path, shared_data: Path) -> None:
    shutil.copy(shared_data / "perturbseq" / "norman19_devel_rawcounts.h5ad", tmp_path / "norman.h5ad")
    sheet = tmp_path / "samplesheet.csv"
    sheet.write_text(
        "dataset,h5ad,perturbation_type,perturbation_column,control_labels,cell_line,modality\n"
        "norman,norman.h5ad,gene,condition,control,K562,CRISPRa\n"
    )
    settings = harness.PROJECT / "assets" / "test_settings.yml"
    run = harness.run(
        tmp_path / "launch",
        *("-profile", "local", "--input", str(sheet), "--models", "all", "--encoders", "onehot,random,shuffled"),
        *("--strategies", "alt", "--folds", "2", "--units_per_task", "4", "--bootstrap", "200"),
        *("--model_settings", str(settings), "--metrics", "cells,lm,vcc,interactions,extended,bench_compat"),
    )
    assert run.code == 0, run.output
    plan = run.table("plan.tsv")
    assert {row["state"] for row in plan} == {"ok"}, [row for row in plan if row["state"] != "ok"][:3]
    assert {row["split"] for row in plan} == {"variant"}  # a position split of genes cannot exist and is not planned
    assert "position_mean" not in {row["model"] for row in plan}
    board = {(row["model"], row["encoder"], row["metric"]): row for row in run.table("leaderboard.tsv")}
    for metric in ("ediff", "de_mcc", "dpearson_ctrl_lm", "vcc_score", "bench_compat_auprc", "sigma_err_mean"):
        assert board["sclambda", "onehot", metric]["value"], metric
    assert "no_cells" in board["train_mean", "none", "ediff"]["reasons"]
    # Doubles whose singles were measured; an additive prediction deviates from the sum of its singles by nothing.
    assert float(board["train_mean", "none", "gi_score"]["value"]) > 0.01
    assert float(board["additive", "none", "gi_score"]["value"]) < 1e-5
    assert "norman" in (run.outdir / "report" / "multiqc_report.html").read_text()
