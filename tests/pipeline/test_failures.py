"""Models that fail in every way leave a report that names them, and everything else completes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import harness
import pytest

MODEL = '''
"""A model of the test: the train mean, {what}."""

from vcbench.models.train_mean import MODEL as TrainMean


class Toy(TrainMean):
{body}


MODEL = Toy
'''

BODIES = {
    "toy_crash": '    def fit(self, data, seed, device):\n        raise RuntimeError("the toy broke <b>here</b>")',
    "toy_memory": (
        "    def fit(self, data, seed, device):\n"
        "        import resource\n\n"
        "        resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32))\n"
        "        self.hoard = [bytearray(1 << 30) for _ in range(64)]"
    ),
    "toy_slow": "    def fit(self, data, seed, device):\n        import time\n\n        time.sleep(600)",
    "toy_nan": (
        "    def predict(self, request, seed, device):\n"
        "        prediction = super().predict(request, seed, device)\n"
        "        prediction.values[0, 0] = float('nan')\n"
        "        return prediction"
    ),
    "toy_wrong": (
        "    def predict(self, request, seed, device):\n"
        "        prediction = super().predict(request, seed, device)\n"
        "        prediction.labels[0] = 'TP53~A1V'\n"
        "        return prediction"
    ),
}

ENTRY = """
  {name}:
    title: {title}
    class: supervised
    process: TOY_RIDGE
    encoder: false
    modalities: [variant, gene]
    batch: 1
    description: A model of the test.
    settings: {{}}
"""


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> harness.Run:
    folder = tmp_path_factory.mktemp("broken")
    project = harness.copy_project(folder)
    sources = {name: MODEL.format(what=name, body=body) for name, body in BODIES.items()}
    entries = "".join(ENTRY.format(name=name, title=name.replace("_", " ")) for name in BODIES)
    guide = (harness.PROJECT / "docs" / "adding_a_model.md").read_text()
    sources["toy_ridge"] = re.search(r"```python\n(.*?)```", guide, re.S).group(1)
    entries += re.search(r"```yaml\n(.*?)```", guide, re.S).group(1)
    harness.add_model(project, "toy_ridge", sources, entries)
    with open(project / "conf" / "test.config", "a") as config:
        config.write("process { withName: TOY_RIDGE_TRAIN { time = { meta.id.contains('toy_slow') ? 15.s : 1.h } } }\n")
    return harness.run(
        folder / "launch", *harness.SMALL, "--models", f"baselines,toy_ridge,{','.join(BODIES)}", project=project
    )


def states(run: harness.Run) -> dict[str, set[tuple[str, str]]]:
    found: dict[str, set[tuple[str, str]]] = {}
    for row in run.table("plan.tsv"):
        found.setdefault(row["model"], set()).add((row["state"], row["stage"].upper()))
    return found


def test_added_model_runs_beside_the_others(broken: harness.Run) -> None:
    """The guide docs/adding_a_model.md, followed step by step with its own example, gives a model with scores."""
    assert broken.code == 0, broken.output
    scored = {
        row["encoder"]: row["value"]
        for row in broken.table("leaderboard.tsv")
        if row["model"] == "toy_ridge" and row["metric"] == "mse"
    }
    assert set(scored) == {"onehot", "random"}
    assert all(float(value) > 0 for value in scored.values())


def test_each_failure_is_named_and_nothing_else_is_lost(broken: harness.Run) -> None:
    found = states(broken)
    assert found["toy_crash"] == {("failed", "TRAIN")}
    assert found["toy_memory"] == {("failed", "TRAIN")}
    assert found["toy_slow"] == {("failed", "TRAIN")}
    assert found["toy_nan"] == {("failed", "PREDICT")}
    assert found["toy_wrong"] == {("failed", "PREDICT")}
    for model in ("no_change", "train_mean", "position_mean", "nearest", "linear", "toy_ridge"):
        assert {state for state, _ in found[model]} == {"ok"}, model


def test_reasons_say_what_happened(broken: harness.Run) -> None:
    reasons = {row["model"]: row["reason"] for row in broken.table("plan.tsv") if row["state"] != "ok"}
    assert "the toy broke" in reasons["toy_crash"]
    assert "memory" in reasons["toy_memory"]
    assert "time limit" in reasons["toy_slow"]
    assert "NaN" in reasons["toy_nan"] or "finite" in reasons["toy_nan"]
    assert "TP53~A1V" in reasons["toy_wrong"] or "perturbation" in reasons["toy_wrong"]


def test_out_of_memory_and_timeout_were_tried_again(broken: harness.Run) -> None:
    attempts = [tag for process, tag in broken.tasks["Submitted"] if process == "TOY_RIDGE_TRAIN"]
    retried = broken.output.count("Re-submitted process")
    assert retried >= 4, (attempts, retried)  # two folds each


def test_report_names_the_failures_and_escapes_their_text(broken: harness.Run) -> None:
    page = (broken.outdir / "report" / "multiqc_report.html").read_text()
    for name in ("toy crash", "toy memory", "toy slow", "toy nan", "toy wrong"):
        assert name in page, name
    assert "the toy broke <b>here</b>" not in page


def test_strict_run_stops(broken: harness.Run) -> None:
    project = broken.folder.parent / "project"
    strict = harness.run(
        broken.folder,
        *harness.SMALL,
        "--models",
        "train_mean,toy_crash",
        "--fail_on",
        "any",
        project=project,
        outdir="strict",
    )
    assert strict.code != 0
    assert "the toy broke" in strict.output


def test_too_few_successes_fail_the_run_but_keep_the_report(broken: harness.Run) -> None:
    project = broken.folder.parent / "project"
    run = harness.run(
        broken.folder, *harness.SMALL, "-resume", "--models", "train_mean,toy_crash", "--min_success", "0.9",
        project=project, outdir="few",
    )  # fmt: skip
    assert run.code != 0
    assert any("min_success" in line for line in run.errors()), run.output
    assert (run.outdir / "report" / "multiqc_report.html").is_file()


def test_failed_encoder_blocks_its_units_only(tmp_path: Path) -> None:
    """An encoder that hits its time limit: its units are blocked by name, everything else completes."""
    write_checkpoint(tmp_path / "weights")
    limit = tmp_path / "limit.config"
    limit.write_text("process { withName: ESM2_ENCODE { time = 1.s } }\n")
    run = harness.run(
        tmp_path / "launch",
        *harness.SMALL,
        *("--models", "train_mean,nearest", "--encoders", "esm2_650m,onehot"),
        *("--weights", str(tmp_path / "weights"), "-c", str(limit)),
    )
    assert run.code == 0, run.output
    found = {(row["model"], row["encoder"], row["state"]) for row in run.table("plan.tsv")}
    assert found == {("train_mean", "none", "ok"), ("nearest", "onehot", "ok"), ("nearest", "esm2_650m", "blocked")}
    reasons = {row["reason"] for row in run.table("plan.tsv") if row["state"] == "blocked"}
    assert all("esm2_650m" in reason and "time limit" in reason for reason in reasons), reasons


def write_checkpoint(weights: Path) -> None:
    """Write a tiny ESM2 checkpoint in the official layout."""
    make = harness.PROJECT / "tests" / "python" / "encoders" / "make_esm2.py"
    subprocess.run([sys.executable, str(make), str(weights)], check=True)


def test_wrong_weights_stop_the_run_before_training(tmp_path: Path) -> None:
    """A tensor of another shape than config.json says: one line that names it, and nothing is trained."""
    write_checkpoint(tmp_path / "weights")
    config = tmp_path / "weights" / "esm2_650m" / "config.json"
    facts = json.loads(config.read_text())
    facts["intermediate_size"] *= 2
    config.write_text(json.dumps(facts))
    run = harness.run(
        tmp_path / "launch",
        *harness.SMALL,
        *("--models", "train_mean,nearest", "--encoders", "esm2_650m,onehot", "--weights", str(tmp_path / "weights")),
    )
    assert run.code != 0
    assert not [process for process in run.submitted() if process.endswith("_TRAIN")]
    lines = {line[line.index("vcb: error: ") :] for line in run.errors()}
    assert len(lines) == 1, run.output
    assert "shape" in lines.pop()
