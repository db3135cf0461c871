"""Wrong input through the whole pipeline: one clear line, before any training (tests/python holds every rule)."""

from __future__ import annotations

from pathlib import Path

import harness
import pytest

LAUNCH = {
    "--foldz 3": ("unknown parameter --foldz", "did you mean 'folds'"),
    "--folds 1": ("--folds", "found 1", "at least 2"),
    "--models sclamda": ("unknown model 'sclamda'", "did you mean 'sclambda'"),
    "--encoders esm2_650m": ("weights needed", "esm2_650m", "huggingface.co"),
    "--encoders onehot,my_vectors": ("unknown encoder 'my_vectors'", "give --vectors FILE"),
    "--encoders onehot,my_vectors --vectors absent/my_vectors.h5ad": ("--vectors: file not found", "my_vectors.h5ad"),
    "--predictions absent/my_model.h5ad": ("--predictions: file not found", "my_model.h5ad"),
    "--predictions absent/sclambda.h5ad": ("'sclambda' is the name of a model", "rename the file"),
    "--encoders onehot,gene_sets": ("--encoders gene_sets", "needs --gene_sets"),
    "--fixed_sets HALLMARK_P53_PATHWAY": ("--fixed_sets", "needs --gene_sets"),
    "--outdir /proc/results": ("--outdir", "cannot be written"),
}


@pytest.mark.parametrize("options", LAUNCH)
def test_wrong_parameter_stops_at_launch(tmp_path: Path, options: str) -> None:
    arguments = [*harness.SMALL, *options.split()]
    done = harness.run(tmp_path, *arguments) if "--outdir" not in options else launch_only(tmp_path, arguments)
    assert done.code != 0
    assert not done.tasks["Submitted"]
    line = one_error(done)
    for part in LAUNCH[options]:
        assert part in line, line


def launch_only(folder: Path, arguments: list[str]) -> harness.Run:
    """Run with the caller's own --outdir."""
    position = arguments.index("--outdir")
    return harness.run(folder, *arguments[:position], outdir=arguments[position + 1])


def one_error(run: harness.Run) -> str:
    """Return our error line; every copy of it in the output must be the same."""
    lines = {line[line.index("vcb: error: ") :] for line in run.errors()}
    assert len(lines) == 1, run.output
    return lines.pop()


def write_screen(folder: Path, **changes: object) -> Path:
    """Write a tiny screen and its samplesheet; `changes` spoil it."""
    import anndata as ad
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(0)
    labels = np.repeat(["WT", "R2H", "R2C", "K3E", "M4V", "A5T", "S6L"], 30)
    counts = random.poisson(3.0, (labels.size, 50)).astype(np.float32)
    if changes.get("log"):
        counts = np.log1p(counts)
    screen = ad.AnnData(
        counts,
        obs=pd.DataFrame({"variant": labels}, index=[f"cell{i}" for i in range(labels.size)]),
        var=pd.DataFrame(index=[f"GENE{i}" for i in range(50)]),
    )
    folder.mkdir(parents=True, exist_ok=True)
    screen.write_h5ad(folder / "screen.h5ad")
    (folder / "protein.fasta").write_text(f">TP53|TEST|1\n{changes.get('protein', 'MRKMASLLLL')}\n")
    sheet = folder / "samplesheet.csv"
    sheet.write_text(
        f"{changes.get('header', 'dataset,h5ad,proteins,perturbation_type,perturbation_column,control_labels,gene')}\n"
        f"toy,{changes.get('h5ad', 'screen.h5ad')},protein.fasta,variant,variant,{changes.get('control', 'WT')},TP53\n"
    )
    return sheet


DATA = {
    "column": (
        {"header": "dataset,h5d,proteins,perturbation_type,perturbation_column,control_labels,gene"},
        ("samplesheet.csv", "h5d", "h5ad"),
    ),
    "file": ({"h5ad": "absent.h5ad"}, ("samplesheet.csv", "toy", "h5ad", "absent.h5ad")),
    "log": ({"log": True}, ("screen.h5ad", "counts")),
    "residue": ({"protein": "MKRMASLLLL"}, ("R2H",)),
    "control": ({"control": "wildtype"}, ("screen.h5ad", "wildtype")),
}


@pytest.mark.parametrize("case", DATA)
def test_wrong_data_stops_before_training(tmp_path: Path, case: str) -> None:
    changes, parts = DATA[case]
    sheet = write_screen(tmp_path / "data", **changes)
    done = harness.run(
        tmp_path, "-profile", "local", "--input", str(sheet), "--models", "baselines", "--encoders", "onehot",
        "--min_cells_per_perturbation", "10", "--folds", "2",
    )  # fmt: skip
    assert done.code != 0
    assert not [process for process in done.submitted() if process.endswith("_TRAIN")]
    line = one_error(done)
    for part in parts:
        assert part in line, line


def test_own_data_runs_to_the_report(tmp_path: Path) -> None:
    """What the README tells a user to do with their own counts, with vectors and predictions of their own."""
    import json

    import anndata as ad
    import numpy as np

    sheet = write_screen(tmp_path / "data")
    names, random = np.array(["S6L", "R2H", "R2C", "TP53~K3E", "M4V", "A5T"]), np.random.default_rng(1)
    alt, ref = (random.normal(size=(6, 4)).astype(np.float32) for _ in range(2))
    np.savez(tmp_path / "data" / "my_vectors.npz", X=alt, ref=ref, variant_id=names)
    screen = ad.read_h5ad(tmp_path / "data" / "screen.h5ad")
    predicted = ad.AnnData(
        np.log1p(np.tile(screen.X.mean(axis=0) * 20, (5, 1))),
        obs={"perturbation": ["S6L", "TP53~R2H", "R2C", "M4V", "A5T"]},
        var=screen.var,
    )
    predicted[:, ::-1].write_h5ad(tmp_path / "data" / "my_model.h5ad")
    (tmp_path / "data" / "sets.gmt").write_text("SOME_SET\t\t" + "\t".join(screen.var_names[:8]) + "\n")
    done = harness.run(
        tmp_path, "-profile", "local", "--input", str(sheet), "--models", "baselines", "--bootstrap", "200",
        "--gene_sets", str(tmp_path / "data" / "sets.gmt"), "--fixed_sets", "SOME_SET",
        "--predictions", str(tmp_path / "data" / "my_model.h5ad"),
        "--encoders", "onehot,my_vectors,random", "--vectors", str(tmp_path / "data" / "my_vectors.npz"),
        "--encoding_scaling", "zscore", "--min_cells_per_perturbation", "10", "--folds", "2",
    )  # fmt: skip
    assert done.code == 0, done.output
    plan = done.table("plan.tsv")
    assert {row["state"] for row in plan} == {"ok"}
    assert {row["encoder"] for row in done.table("leaderboard.tsv")} >= {"my_vectors", "onehot", "random"}
    assert "my_vectors" in (done.outdir / "report" / "multiqc_report.html").read_text()
    theirs = [row for row in plan if row["model"] == "my_model"]
    assert {(row["class"], row["process"]) for row in theirs} == {("external", "PREDICTIONS_IMPORT")}
    notes = {row["split"]: sorted(r["reason"] for r in theirs if r["split"] == row["split"]) for row in theirs}
    for reasons in notes.values():  # K3E is in the test set of one fold of each split
        assert reasons[0] == "" and "test perturbations are not in my_model.h5ad" in reasons[1], reasons
    pathways = {row["reference"] for row in done.table("diagnostics.tsv") if row["diagnostic"] == "diag_pathway_r"}
    assert pathways == {"SOME_SET"}
    assert "fixed_some_set_nt" in {row["gene_set"] for row in done.table("leaderboard.tsv")}
    board = [row for row in done.table("leaderboard.tsv") if row["model"] == "my_model"]
    assert any("missing_pred" in row["reasons"] for row in board), board[:1]
    assert "their maker" in (done.outdir / "report" / "multiqc_report.html").read_text()
    for strategy, matrix in (("alt", alt), ("diff", ref - alt)):
        found = ad.read_h5ad(done.outdir / "encodings" / f"toy.my_vectors.{strategy}.h5ad")
        wanted = [name if "~" in name else f"TP53~{name}" for name in names]
        np.testing.assert_array_equal(found[wanted].X, matrix)
    encoded = [row for row in plan if row["encoder"] != "none"]
    assert {json.loads(row["settings"])["encoding_scaling"] for row in encoded} == {"zscore"}
    for row in plan:
        kept = done.outdir / "models" / f"{row['unit']}.model" / "encoding_scaling.safetensors"
        assert kept.exists() == (row["encoder"] != "none"), row["unit"]


def test_help_and_version(tmp_path: Path) -> None:
    import subprocess

    for option, text in (("--help", "--min_cells_per_perturbation"), ("--version", "0.1.0")):
        done = subprocess.run(
            harness.command(harness.PROJECT, option), cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0
        assert text in done.stdout
