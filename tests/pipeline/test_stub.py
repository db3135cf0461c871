"""-stub runs the whole graph in seconds, without torch."""

from __future__ import annotations

from pathlib import Path

import harness


def test_stub_runs_every_stage(tmp_path: Path) -> None:
    weights = tmp_path / "weights" / "esm2_650m"
    weights.mkdir(parents=True)
    for name in ("config.json", "vocab.txt", "model.safetensors"):
        (weights / name).touch()
    run = harness.run(
        tmp_path,
        *("-profile", "test,local", "-stub", "--encoders", "esm2_650m,onehot,shuffled", "--splits", "variant"),
        *("--folds", "2", "--weights", str(tmp_path / "weights")),
        *("--saturation", "--learning_curve", "0.5", "--known_function", "severity"),
    )
    assert run.code == 0, run.output
    expected = {
        *(
            "SIMULATE",
            "PLAN",
            "PREPARE",
            "SPLIT",
            "CONTROLS_ENCODE",
            "REQUESTS",
            "CONVERT_WEIGHTS",
            "ESM2_ENCODE",
            "DERIVE",
            "ENCODER_QC",
            "EXPLORE",
            "SUBSTITUTIONS",
            "BASELINES_TRAIN",
            "BASELINES_PREDICT",
        ),
        *("SCLAMBDA_TRAIN", "SCLAMBDA_PREDICT", "TRUTH", "SCORE", "AGGREGATE", "REPORT", "MULTIQC"),
    }
    assert run.submitted() == expected
    print(f"\nstub: {run.seconds:.0f} s")
