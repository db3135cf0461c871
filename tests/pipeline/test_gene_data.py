"""Real counts: gene perturbations of Norman et al. 2019, singles and doubles, without proteins."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import anndata as ad
import harness


def test_norman_runs_to_the_report(tmp_path: Path, shared_data: Path) -> None:
    shutil.copy(shared_data / "perturbseq" / "norman19_devel_rawcounts.h5ad", tmp_path / "norman.h5ad")
    sheet = tmp_path / "samplesheet.csv"
    sheet.write_text(
        "dataset,h5ad,perturbation_type,perturbation_column,control_labels,cell_line,modality\n"
        "norman,norman.h5ad,gene,condition,control,K562,CRISPRa\n"
    )
    # real sets (GO), few so that the pathway metrics stay cheap; at least one perturbed gene (IER5L) is in none of them
    genes = {"KLF1", "CEBPE", "MAPK1", "MAP2K3", "MAP2K6", "TGFBR2", "FOXO4", "CBL", "SGK1", "KMT2A", "PLK4", "TBX3"}
    lines = (shared_data / "genes" / "GO_Biological_Process_2021.gmt").read_text().splitlines(keepends=True)
    chosen = [line for line in lines if len(genes & set(line.split("\t")[2:])) >= 2]
    gmt = tmp_path / "go.gmt"
    gmt.write_text("".join(chosen))
    known = {gene for line in chosen for gene in line.rstrip("\n").split("\t")[2:]}
    settings = harness.PROJECT / "assets" / "test_settings.yml"
    run = harness.run(
        tmp_path / "launch",
        *("-profile", "local", "--input", str(sheet), "--models", "all", "--encoders", "onehot,gene_sets,shuffled"),
        *("--strategies", "alt", "--folds", "2", "--units_per_task", "4", "--bootstrap", "200"),
        *("--model_settings", str(settings), "--gene_sets", str(gmt)),
        *("--metrics", "cells,lm,vcc,interactions,extended,bench_compat"),
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
    # A gene in no set: neither trained on nor predicted, counted with its reason, and no zero vector under its name.
    with open(run.outdir / "datasets" / "norman.perturbations.tsv", newline="") as handle:
        table = [row for row in csv.DictReader(handle, delimiter="\t") if int(row["n_cells"])]
    used = {row["perturbation"]: set(row["gene"].split(";")) for row in table}
    without = {name for name, perturbed in used.items() if not perturbed <= known}
    assert {"IER5L"} <= without < set(used)
    encoding = ad.read_h5ad(run.outdir / "encodings" / "norman.gene_sets.alt.h5ad")
    assert set(encoding.obs_names) == {*used, "control"} - without
    assert encoding.X.any(axis=1).sum() == len(encoding) - 1
    reasons = [row["reason"] for row in plan if row["encoder"] == "gene_sets"]
    assert reasons and all("a perturbed gene is in no set of --gene_sets" in reason for reason in reasons)
    for row in run.table("leaderboard.tsv"):
        if row["encoder"] == "gene_sets" and (row["metric"], row["gene_set"]) == ("dpearson_pm", "expr_nt"):
            assert int(row["n"]) == len(used) - len(without), row
            assert row["reasons"] == f"missing_pred:{len(without)}" and row["value"], row
    assert "norman" in (run.outdir / "report" / "multiqc_report.html").read_text()
