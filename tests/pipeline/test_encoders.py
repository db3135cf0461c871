"""The five protein language models (small random checkpoints in the official layouts) through the whole pipeline."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import harness
import pytest

MAKE = harness.PROJECT / "tests" / "python" / "encoders"
PAPER = {
    "esm2_650m": "ESM2_ENCODE",
    "esm_msa1b": "ESM_MSA_ENCODE",
    "prott5_xxl": "PROTT5_ENCODE",
    "xtrimopglm_10b": "XTRIMOPGLM_ENCODE",
    "ankh3_large": "ANKH3_ENCODE",
}
PER_RUN = {"REPORT", "MULTIQC"}  # the report states the run's name and date
VARIANTS, LATER = 22, 10

WRITE = """
import sys
from pathlib import Path

make, project, folder = map(Path, sys.argv[1:])
sys.path.insert(0, str(make))
import make_esm2, make_esm_msa, make_t5, make_xtrimopglm

weights = folder / "weights"
make_esm2.write(weights / "esm2_650m")
for name in ("prott5_xxl", "ankh3_large"):
    make_t5.write(weights / name, name)
make_xtrimopglm.write(weights / "xtrimopglm_10b")
make_esm_msa.write(weights / "esm_msa1b")
(protein,) = make_esm_msa.proteins_of(project / "assets" / "simulate" / "tp53.fasta")
make_esm_msa.write_a3m(folder / "msas" / "tp53.a3m", make_esm_msa.homologs(protein, 6))
"""

SETTINGS = """
sclambda: {epochs: 1, batch_size: 256, hidden: 8, latent: 4, validate_every: 1, cells_per_perturbation: 10}
esm_msa1b: {msa_depth: 4}
"""


def later_labels() -> list[str]:
    """Ten of the simulated variants, which the first run does not see."""
    sys.path.insert(0, str(harness.PROJECT / "bin"))
    from vcbench.data.simulate_library import read_library, subset

    chosen = subset(read_library(harness.PROJECT / "assets"), VARIANTS)
    return [variant.label for variant in chosen if not variant.is_control][1::2][:LATER]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights/, msas/, settings.yml and an editable copy of the project."""
    folder = tmp_path_factory.mktemp("paper")
    # one process for all of them, because importing torch takes longer than writing
    subprocess.run([sys.executable, "-c", WRITE, str(MAKE), str(harness.PROJECT), str(folder)], check=True)
    (folder / "settings.yml").write_text(SETTINGS)
    harness.copy_project(folder)
    return folder


def run(inputs: Path, *arguments: str, outdir: str = "results") -> harness.Run:
    """Run in one launch folder, whose store is kept from run to run; by default all five encoders."""
    return harness.run(
        inputs / "launch",
        *("-profile", "test,local", "--simulate_variants", str(VARIANTS), "--simulate_cells", "25"),
        *("--simulate_genes", "300", "--min_cells_per_perturbation", "10", "--bootstrap", "200"),
        *("--splits", "variant", "--folds", "2", "--strategies", "alt,diff", "--units_per_task", "100"),
        *(() if "--encoders" in arguments else ("--models", "linear,sclambda", "--encoders", "paper,shuffled")),
        "--accept_noncommercial",
        *("--weights", str(inputs / "weights"), "--msas", str(inputs / "msas")),
        *("--model_settings", str(inputs / "settings.yml"), "-resume", *arguments),
        project=inputs / "project",
        outdir=outdir,
    )


@pytest.fixture(scope="module")
def first(inputs: Path) -> harness.Run:
    """The first run, without ten of the variants."""
    done = run(inputs, "--drop_labels", ";".join(later_labels()))
    assert done.code == 0, done.output
    rows = done.table("plan.tsv")
    assert {row["state"] for row in rows} == {"ok"}, {row["reason"] for row in rows}
    return done


def stored(done: harness.Run, encoder: str) -> list[Path]:
    """Shards of an encoder in the store, the oldest first."""
    found = (done.folder / "store" / "vectors").glob(f"{encoder}.*/*.h5ad")
    return sorted(found, key=lambda path: path.stat().st_mtime)


def facts(path: Path) -> dict:
    """Provenance of a file of vectors."""
    import anndata as ad

    return json.loads(ad.read_h5ad(path).uns["vcbench"])


def test_all_five_from_weights_to_report(first: harness.Run) -> None:
    import anndata as ad
    import numpy as np

    assert set(PAPER.values()) <= first.submitted()
    assert {(row["encoder"], row["strategy"]) for row in first.table("plan.tsv")} == {
        (encoder, strategy) for encoder in (*PAPER, "shuffled") for strategy in ("alt", "diff")
    }
    assert {(row["model"], row["encoder"]) for row in first.table("leaderboard.tsv")} >= {
        (model, encoder) for model in ("linear", "sclambda") for encoder in PAPER
    }
    widths = set()
    for encoder in PAPER:
        alt, diff = (
            ad.read_h5ad(first.outdir / "encodings" / f"simulated_tp53.{encoder}.{strategy}.h5ad")
            for strategy in ("alt", "diff")
        )
        variants = alt.obs_names[(alt.obs["consequence"] == "missense").to_numpy()]
        assert len(variants) == VARIANTS - LATER
        assert np.abs(diff[variants].X).sum(axis=1).min() > 0  # no variant carries the wild type's vector
        assert not diff["control"].X.any() and not alt["control"].X.any()
        assert len({tuple(row) for row in alt[variants].X}) == len(variants)
        origin = facts(stored(first, encoder)[0])
        assert origin["n_passes"] == 1 + len(variants) and origin["licence"]
        widths.add((encoder, alt.n_vars))
    assert len(widths) == len(PAPER)
    base, dealt = (
        ad.read_h5ad(first.outdir / "encodings" / f"simulated_tp53.{name}.alt.h5ad")
        for name in ("esm2_650m", "shuffled")
    )
    assert {tuple(row) for row in dealt.X} == {tuple(row) for row in base.X}  # same vectors, dealt to others
    assert not np.allclose(dealt.X, base.X)
    versions = {row["software"] for row in report_versions(first) if row["process"] == "ANKH3_ENCODE"}
    assert {"torch", "transformers"} <= versions


def report_versions(done: harness.Run) -> list[dict[str, str]]:
    """Rows of the table of software versions that the report was made from."""
    import csv

    for path in (done.folder / "work").glob("*/*/versions.tsv"):
        with open(path, newline="") as handle:
            return list(csv.DictReader(handle, delimiter="\t"))
    raise AssertionError("no task wrote versions.tsv")


def test_resume_encodes_nothing(inputs: Path, first: harness.Run) -> None:
    before = first.hashes()
    again = run(inputs, "--drop_labels", ";".join(later_labels()))
    assert again.code == 0, again.output
    assert again.submitted() <= PER_RUN, again.tasks["Submitted"]
    assert again.hashes() == before


def test_ten_more_variants_are_ten_more_passes(inputs: Path, first: harness.Run) -> None:
    """Other data in the same launch folder and another results folder: only what is new is encoded."""
    some = {encoder: PAPER[encoder] for encoder in ("esm_msa1b", "xtrimopglm_10b")}
    before = {encoder: stored(first, encoder) for encoder in PAPER}
    weights = {path: path.stat().st_mtime for path in (first.folder / "store" / "weights").rglob("*")}
    more = run(inputs, "--models", "nearest", "--strategies", "alt", "--encoders", ",".join(some), outdir="more")
    assert more.code == 0, more.output
    assert {row["state"] for row in more.table("plan.tsv")} == {"ok"}
    assert "CONVERT_WEIGHTS" not in more.submitted() and set(some.values()) <= more.submitted()
    assert {path: path.stat().st_mtime for path in (first.folder / "store" / "weights").rglob("*")} == weights
    for encoder in some:
        old, new = stored(first, encoder)
        assert [old] == before[encoder] and old.parent == new.parent
        assert facts(new)["n_passes"] == 1 + LATER, encoder  # the new ones, and their reference
        keys = new.with_name(new.name.replace(".vectors.h5ad", ".keys.txt")).read_text().splitlines()[1:]
        assert sorted(key.split(":")[1] for key in keys) == sorted(later_labels())
        shards = facts(more.outdir / "encodings" / f"simulated_tp53.{encoder}.alt.h5ad")["shards"]
        assert sorted(shard["file"] for shard in shards) == sorted(path.name for path in (old, new))


def test_what_must_be_said_at_launch(inputs: Path, tmp_path: Path) -> None:
    """Licence, alignments and shards: one line, and no task is started."""

    def refused(*arguments: str) -> str:
        weights = () if "--weights" in arguments else ("--weights", str(inputs / "weights"))
        done = harness.run(tmp_path, *harness.SMALL, *weights, *arguments)
        assert done.code != 0 and not done.tasks["Submitted"], done.output
        lines = {re.sub(r".*?(?=vcb: error: )", "", line) for line in done.errors()}
        assert len(lines) == 1, done.output
        return lines.pop()

    line = refused("--encoders", "paper")
    assert "xtrimopglm_10b (CC-BY-NC-4.0), ankh3_large (CC-BY-NC-SA-4.0)" in line
    assert "--accept_noncommercial" in line and "esm2_650m" in line.split("choose among")[1]
    line = refused("--encoders", "esm_msa1b")
    assert "esm_msa1b: alignments needed" in line and "--msas DIR" in line
    sharded = tmp_path / "weights" / "esm2_650m"
    shutil.copytree(inputs / "weights" / "esm2_650m", sharded)
    (sharded / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index))
    (sharded / "model-00001-of-00002.safetensors").touch()
    line = refused("--encoders", "esm2_650m", "--weights", str(tmp_path / "weights"))
    assert "file not found" in line and "esm2_650m/model-00002-of-00002.safetensors" in line
