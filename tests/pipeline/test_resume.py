"""Resume, edits and kill -9: what runs again, and that the tables come out byte for byte the same."""

from __future__ import annotations

from pathlib import Path

import harness

PER_RUN = {"REPORT", "MULTIQC"}  # the report states the run's name and date


def resume(run: harness.Run, *arguments: str, outdir: str = "results") -> harness.Run:
    project = run.folder.parent / "project"
    again = harness.run(run.folder, *harness.SMALL, "-resume", *arguments, project=project, outdir=outdir)
    assert again.code == 0, again.output
    return again


def edit(run: harness.Run, name: str) -> None:
    """Append a comment to a Python file of the run's own copy of the project."""
    path = run.folder.parent / "project" / "bin" / "vcbench" / name
    path.write_text(path.read_text() + "\n# edited\n")


def test_resume_computes_nothing_twice(small: harness.Run) -> None:
    before = small.hashes()
    again = resume(small)
    assert again.submitted() <= PER_RUN, again.tasks["Submitted"]
    assert again.hashes() == before


def test_edited_report_runs_only_the_report(small: harness.Run) -> None:
    edit(small, "report/__init__.py")
    assert resume(small).submitted() <= PER_RUN


def test_edited_model_runs_only_that_model(small: harness.Run) -> None:
    before = small.hashes()
    edit(small, "models/sclambda.py")
    again = resume(small)
    assert {"SCLAMBDA_TRAIN", "SCLAMBDA_PREDICT"} <= again.submitted()
    scored = {tag for process, tag in again.tasks["Submitted"] if process == "SCORE"}
    assert scored <= {"simulated_tp53.variant.sclambda"}
    assert again.submitted() <= {"SCLAMBDA_TRAIN", "SCLAMBDA_PREDICT", "SCORE", "AGGREGATE", *PER_RUN}
    assert again.hashes() == before


def test_another_choice_of_models_keeps_what_exists(small: harness.Run) -> None:
    again = resume(small, "--models", "train_mean,sclambda", outdir="fewer")
    assert not [tag for process, tag in again.tasks["Submitted"] if process == "SCLAMBDA_TRAIN"]


def test_killed_run_resumes_to_the_same_bytes(small: harness.Run, tmp_path: Path) -> None:
    """Killed twice at different places in another folder, then resumed: same seed, same tables."""
    project = small.folder.parent / "project"
    for pattern in (r"Submitted process > .*SCLAMBDA_TRAIN", r"Submitted process > .*SCORE"):
        seen = harness.run_and_kill(tmp_path, pattern, *harness.SMALL, "-resume", project=project)
        assert "Submitted process" in seen
    run = harness.run(tmp_path, *harness.SMALL, "-resume", project=project)
    assert run.code == 0, run.output
    assert run.tasks["Cached"]
    assert run.hashes() == small.hashes()
