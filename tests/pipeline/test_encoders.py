"""A protein language model (small random checkpoint in the official layout) through the whole pipeline."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import harness


def test_esm2_from_weights_to_report(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    make = harness.PROJECT / "tests" / "python" / "encoders" / "make_esm2.py"
    subprocess.run([sys.executable, str(make), str(weights)], check=True)
    arguments = (
        *harness.SMALL,
        "--models",
        "nearest,train_mean",
        "--encoders",
        "esm2_650m,shuffled,onehot",
        "--strategies",
        "alt,diff",
    )
    run = harness.run(tmp_path / "launch", *arguments, "--weights", str(tmp_path / "weights"))
    assert run.code == 0, run.output
    assert {row["state"] for row in run.table("plan.tsv")} == {"ok"}
    assert {row["encoder"] for row in run.table("leaderboard.tsv")} >= {"esm2_650m", "shuffled", "onehot"}
    import anndata as ad
    import numpy as np

    alt, diff = (
        ad.read_h5ad(run.outdir / "encodings" / f"simulated_tp53.esm2_650m.{name}.h5ad") for name in ("alt", "diff")
    )
    shuffled = ad.read_h5ad(run.outdir / "encodings" / "simulated_tp53.shuffled.alt.h5ad")
    assert json.loads(alt.uns["vcbench"])
    variants = [name for name in alt.obs_names if name != "control"]
    rows = {tuple(row) for row in np.round(alt[variants].X, 6)}
    assert {tuple(row) for row in np.round(shuffled[variants].X, 6)} == rows  # same vectors, dealt to others
    assert not np.allclose(shuffled[variants].X, alt[variants].X)
    assert np.abs(diff[variants].X).sum(axis=1).min() > 0  # no variant carries the wild type's vector
    again = harness.run(tmp_path / "launch", *arguments, "--weights", str(tmp_path / "weights"), "-resume")
    assert "ESM2_ENCODE" not in again.submitted()
