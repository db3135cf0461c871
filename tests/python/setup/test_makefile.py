"""The commands the README promises."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def make(*arguments: str) -> str:
    done = subprocess.run(["make", "-C", ROOT, *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def test_help_is_the_default_and_names_every_target() -> None:
    text = make("--no-print-directory")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert targets >= {"setup", "demo", "test", "lint", "clean", "help"}
    assert set(re.findall(r"^  make ([a-z]+)", text, re.M)) == targets


def test_demo_runs_the_pipeline_of_this_folder() -> None:
    commands = make("--dry-run", "--no-print-directory", "demo")
    assert "scripts/nextflow.sh run . -profile test,local --outdir 'results'" in commands


def test_ci_calls_make_test() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert "exec make test" in script.read_text()


def test_scripts_parse_and_are_executable() -> None:
    for script in [*ROOT.glob("scripts/*.sh"), *ROOT.glob("tests/pipeline/docker/*.sh"), *ROOT.glob("benchmarks/*.sh")]:
        subprocess.run(["bash", "-n", script], check=True)
        assert os.access(script, os.X_OK) or script.name == "lib.sh", script


def test_no_machine_path_and_no_private_host_in_setup_files() -> None:
    for path in [
        ROOT / "Makefile",
        *ROOT.glob("scripts/**/*"),
        *ROOT.glob("modules/*/*/Dockerfile"),
        *ROOT.glob(".ci/*"),
    ]:
        if path.is_file() and path.suffix != ".pyc":
            assert not re.search(r"/work/|/root/|https?://(?!maven\.apache\.org/POM)", path.read_text()), path


def test_engine_floor_is_the_same_everywhere() -> None:
    library = (ROOT / "scripts/lib.sh").read_text()
    floor = re.search(r"^NEXTFLOW_FLOOR=(\S+)$", library, re.M)[1]
    assert f"nextflowVersion = '!>={floor}'" in (ROOT / "nextflow.config").read_text()
    pom = (ROOT / "scripts/engine/pom.xml").read_text()
    assert f"<artifactId>nextflow</artifactId>\n      <version>{floor}</version>" in pom
    assert f"nextflow-{floor}.jar" in (ROOT / "scripts/engine/jars.sha256").read_text()


def test_lock_answers_pyproject() -> None:
    """uv sync --locked refuses a lock that is out of step; this says so without a network."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    own = next(package for package in lock["package"] if package["name"] == project["project"]["name"])
    written = {
        re.match(r"[\w.-]+", text)[0]: re.sub(r"^[\w.-]+", "", text) for text in project["project"]["dependencies"]
    }
    assert {
        need["name"]: need.get("specifier", "") for need in own["metadata"]["requires-dist"]
    }.keys() == written.keys()
    for need in own["metadata"]["requires-dist"]:
        assert set(need.get("specifier", "").split(",")) == set(written[need["name"]].split(","))
