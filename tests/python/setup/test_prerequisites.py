"""Set-up says in one line what is missing, and does nothing when nothing changed. Nothing here uses the network."""

import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
# what the scripts themselves are made of; everything else a test adds by hand
TOOLS = ["awk", "bash", "basename", "cat", "chmod", "cp", "cut", "dirname", "env", "ls", "mkdir", "mktemp", "mv"]
TOOLS += ["readlink", "rm", "sed", "sha256sum", "tail", "touch"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project folder with the set-up scripts and lock file only."""
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copytree(ROOT / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("uv.lock", "pyproject.toml", "Makefile"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder to be the whole PATH: basic tools, but no Python, Java, Maven, uv or Nextflow."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in TOOLS:
        path = shutil.which(name)
        assert path, name
        (folder / name).symlink_to(path)
    return folder


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


def python(folder: Path) -> None:
    (folder / "python3.11").symlink_to(Path(os.sys.base_prefix) / "bin" / "python3.11")


def run(project: Path, script: str, tools: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [project / "scripts" / script],
        env={"PATH": str(tools), "HOME": str(project.parent)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def refused(done: subprocess.CompletedProcess[str], pattern: str) -> None:
    assert done.returncode == 1
    assert re.fullmatch(rf"set-up: {pattern}\n", done.stderr), done.stderr


def test_no_python(project: Path, tools: Path) -> None:
    refused(run(project, "python.sh", tools), r"Python 3\.11 was not found: install it .*")


def test_python_of_another_version_is_not_used(project: Path, tools: Path) -> None:
    program(tools, "python3", "exit 1")
    refused(run(project, "python.sh", tools), r"Python 3\.11 was not found: install it .*")


def test_no_java(project: Path, tools: Path) -> None:
    refused(run(project, "engine.sh", tools), r"Java was not found: install Java 17 or later .*")


def test_old_java(project: Path, tools: Path) -> None:
    program(tools, "java", """echo 'openjdk version "11.0.22" 2024-01-16' >&2""")
    refused(run(project, "engine.sh", tools), r"Java is 11\.0\.22, Nextflow needs 17 or later .*")


def test_no_maven(project: Path, tools: Path) -> None:
    program(tools, "java", """echo 'openjdk version "17.0.15" 2025-04-15' >&2""")
    refused(run(project, "engine.sh", tools), r"neither Nextflow >= 25\.04\.0 nor Maven was found: install one .*")


def test_old_nextflow_is_named(project: Path, tools: Path) -> None:
    program(tools, "nextflow", "echo nextflow version 24.10.9.5938")
    done = run(project, "engine.sh", tools)
    refused(done, r"Java was not found: .*; .*/nextflow is not used: its version is 24\.10\.9\.5938")


@pytest.mark.parametrize("version", ["25.04.0.5944", "25.10.2.10555", "26.04.1-edge.1"])
def test_nextflow_on_path_that_meets_the_floor_is_used(project: Path, tools: Path, version: str) -> None:
    calls = project.parent / "calls"
    program(tools, "nextflow", f"echo called >>{calls}\necho nextflow version {version}")
    for _ in range(2):
        done = run(project, "engine.sh", tools)
        assert (done.returncode, done.stdout) == (0, f"{tools}/nextflow\n")
    assert calls.read_text() == "called\n"  # its answer is kept: asking costs a Java start
    program(tools, "nextflow", "echo nextflow version 22.10.1  # replaced")
    assert run(project, "engine.sh", tools).returncode == 1


def test_no_pip_and_no_uv(project: Path, tools: Path) -> None:
    real = Path(os.sys.base_prefix) / "bin" / "python3.11"
    program(tools, "python3.11", f'[ "$1" = -m ] && exit 1\nexec {real} "$@"')
    done = run(project, "python.sh", tools)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("set-up: this Python 3.11 has no pip: install uv, or pip")


def test_failing_maven_leaves_nothing_behind(project: Path, tools: Path) -> None:
    python(tools)
    program(tools, "java", """echo 'openjdk version "17.0.15" 2025-04-15' >&2""")
    program(tools, "mvn", "echo no route to the repository\nexit 1")
    program(tools, "uv", "echo uv 0.13.8")
    done = run(project, "engine.sh", tools)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[-2:-1] == ["no route to the repository"]
    assert re.fullmatch(r"set-up: fetching Nextflow's jars with Maven failed \(full output: .*\)", lines[-1])
    assert not (project / ".engine/bin").exists()


def test_altered_jar_is_refused(project: Path, tools: Path) -> None:
    """Maven that brings other bytes under the pinned names must not get them run."""
    python(tools)
    (tools / "tr").symlink_to(shutil.which("tr"))
    program(tools, "java", """echo 'openjdk version "17.0.15" 2025-04-15' >&2""")
    names = [line.split()[1] for line in (ROOT / "scripts/engine/jars.sha256").read_text().splitlines()]
    touch = "\n".join(f'echo altered >"$out/{name}"' for name in names)
    program(
        tools,
        "mvn",
        f'for a in "$@"; do case $a in -DoutputDirectory=*) out=${{a#*=}};; esac; done\nmkdir -p "$out"\n{touch}',
    )
    program(tools, "uv", "echo uv 0.13.8")
    done = run(project, "engine.sh", tools)
    assert done.returncode == 1
    assert "jars.sha256 pins" in done.stderr
    assert not (project / ".engine/bin").exists()


def test_folder_with_a_blank(project: Path, tools: Path) -> None:
    spaced = project.rename(project.parent / "my project")
    refused(run(spaced, "engine.sh", tools), r"Nextflow's launcher cannot start from a folder with a blank .*")


def fake_uv(tools: Path, log: Path, sync: str = "") -> None:
    """A uv that makes an environment with a working interpreter and logs how it was called."""
    real = Path(os.sys.base_prefix) / "bin" / "python3.11"
    program(
        tools,
        "uv",
        f'if [ "$1" = --version ]; then echo uv 0.13.8; exit; fi\n'
        f'echo "$1 $2 index=$UV_DEFAULT_INDEX" >>{log}\n{sync}\n'
        f'mkdir -p "$UV_PROJECT_ENVIRONMENT/bin"\n[ -e "$UV_PROJECT_ENVIRONMENT/bin/python" ] || '
        f'{shutil.which("ln")} -s {real} "$UV_PROJECT_ENVIRONMENT/bin/python"',
    )


def test_environment_is_made_once_and_again_when_the_lock_changes(project: Path, tools: Path) -> None:
    python(tools)
    log = project.parent / "uv.log"
    fake_uv(tools, log)
    for _ in range(2):
        done = run(project, "python.sh", tools)
        assert done.returncode == 0, done.stderr
    assert len(log.read_text().splitlines()) == 1
    with (project / "uv.lock").open("a") as lock:
        lock.write("\n# changed\n")
    assert run(project, "python.sh", tools).returncode == 0
    assert len(log.read_text().splitlines()) == 2


def test_interrupted_environment_is_made_afresh(project: Path, tools: Path) -> None:
    python(tools)
    log = project.parent / "uv.log"
    fake_uv(
        tools,
        log,
        sync='mkdir -p "$UV_PROJECT_ENVIRONMENT"; echo half >"$UV_PROJECT_ENVIRONMENT/half"; kill -9 $PPID; exit 1',
    )
    assert run(project, "python.sh", tools).returncode != 0
    assert (project / ".venv/half").exists()
    fake_uv(tools, log)
    done = run(project, "python.sh", tools)
    assert done.returncode == 0, done.stderr
    assert not (project / ".venv/half").exists()


def test_moved_project_gets_its_own_environment(project: Path, tools: Path) -> None:
    python(tools)
    log = project.parent / "uv.log"
    fake_uv(tools, log)
    assert run(project, "python.sh", tools).returncode == 0
    (project / ".venv/old").touch()
    moved = project.rename(project.parent / "moved")
    assert run(moved, "python.sh", tools).returncode == 0
    assert not (moved / ".venv/old").exists()  # its scripts would still name the old folder


def test_pips_private_index_reaches_uv(project: Path, tools: Path) -> None:
    python(tools)
    log = project.parent / "uv.log"
    fake_uv(tools, log)
    done = subprocess.run(
        [project / "scripts/python.sh"],
        env={"PATH": str(tools), "HOME": str(project.parent), "PIP_INDEX_URL": "http://127.0.0.1:9/simple"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    calls = log.read_text().splitlines()
    # not `sync`: it would refuse a lock that names another index, and use the lock's addresses
    assert [call.split()[:2] for call in calls] == [["export", "--frozen"], ["pip", "sync"]]
    assert all(call.endswith("index=http://127.0.0.1:9/simple") for call in calls)


def test_manifest_jar_names_every_pinned_jar(tmp_path: Path) -> None:
    """The class path must survive the manifest's 72-byte lines."""
    import hashlib
    import sys

    library = tmp_path / "lib"
    library.mkdir()
    names = [f"a-rather-long-name-of-a-jar-{number:02d}.jar" for number in range(30)]
    for name in names:
        (library / name).write_text(name)
    pins = tmp_path / "jars.sha256"
    pins.write_text("".join(f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n" for name in names))
    out = tmp_path / "one.jar"
    subprocess.run([sys.executable, ROOT / "scripts/engine/pack.py", pins, library, out], check=True)
    text = zipfile.ZipFile(out).read("META-INF/MANIFEST.MF")
    assert max(len(line) for line in text.split(b"\r\n")) <= 70
    joined = text.replace(b"\r\n ", b"").decode()
    assert f"Class-Path: {' '.join(f'lib/{name}' for name in names)}\r\n" in joined
