"""The light processes in containers, on a real Docker engine, with images built from the project's own Dockerfiles."""

import csv
import math
import subprocess
from collections.abc import Iterator
from pathlib import Path

import harness
import pytest

SCRIPTS = Path(__file__).parent / "docker"


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Docker engine that holds the images; stopped by its own pid afterwards."""
    folder = tmp_path_factory.mktemp("docker")
    done = subprocess.run(
        [SCRIPTS / "images.sh", folder], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    try:
        if done.returncode == 3:
            pytest.skip(f"no Docker engine can be started here: {done.stderr.strip().splitlines()[-1]}")
        assert done.returncode == 0, done.stderr
        yield f"unix://{folder}/docker.sock"
    finally:
        subprocess.run([SCRIPTS / "down.sh", folder], check=False)


def test_light_processes_in_containers(docker: str, small: harness.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same numbers as in the local environment, and nothing taken from it."""
    monkeypatch.setenv("DOCKER_HOST", docker)
    arguments = [word.replace("test,local", "test,docker") for word in harness.SMALL]
    # a folder beside the local run's: Nextflow mounts launch and project folders into the containers
    run = harness.run(small.folder.parent / "docker", *arguments, "--models", "baselines")
    assert run.code == 0, run.output
    assert (run.outdir / "report" / "multiqc_report.html").stat().st_size > 100_000
    assert {row["state"] for row in run.table("plan.tsv")} == {"ok"}

    keys = ("dataset", "split", "model", "encoder", "strategy", "metric", "gene_set")
    local = {tuple(row[key] for key in keys): row["value"] for row in small.table("leaderboard.tsv")}
    rows = run.table("leaderboard.tsv")
    assert {row["model"] for row in rows} >= {"no_change", "train_mean", "nearest", "linear"}
    for row in rows:
        expected = local[tuple(row[key] for key in keys)]
        same = row["value"] == expected or math.isclose(float(row["value"]), float(expected), rel_tol=1e-9)
        assert same, (row, expected)

    [trace] = (run.outdir / "pipeline_info").glob("execution_trace_*.txt")
    with trace.open(newline="") as handle:
        tasks = list(csv.DictReader(handle, delimiter="\t"))
    assert tasks
    # measured with the image's own ps
    assert all(task["peak_rss"] not in {"", "-", "0"} for task in tasks if task["process"].endswith("PREPARE"))
    commands = [path.read_text() for path in (run.folder / "work").glob("*/*/.command.run")]
    assert commands
    assert all("docker run" in command and ".venv" not in command for command in commands)
