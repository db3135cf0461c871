"""Runs the real pipeline on the real engine, from a copy of the project when a test edits it."""

from __future__ import annotations

import csv
import hashlib
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]

#: The smallest run that has every stage: one dataset, one split, two folds, both kinds of model.
SMALL = (
    *("-profile", "test,local"),
    *("--simulate_variants", "16", "--simulate_cells", "40", "--simulate_genes", "400"),
    *("--encoders", "onehot,random", "--strategies", "alt", "--splits", "variant", "--folds", "2"),
    *("--min_cells_per_perturbation", "10", "--bootstrap", "200"),
)

RESULTS = ("leaderboard.tsv", "contrasts.tsv", "plan.tsv", "scores.parquet")
ENCODER_TABLES = tuple(f"encoder_{name}.tsv" for name in ("quality", "similarity", "map", "provenance"))

_TASK = re.compile(r"\[[0-9a-f]{2}/[0-9a-f]{6}\] (Submitted|Cached) process > (?:\w+:)*(\w+)(?: \(([^)]*)\))?")


@dataclass
class Run:
    """What a run of the pipeline printed and left behind."""

    folder: Path
    outdir: Path
    code: int
    output: str
    seconds: float
    tasks: dict[str, list[tuple[str, str]]] = field(init=False)

    def __post_init__(self) -> None:
        self.tasks = {"Submitted": [], "Cached": []}
        for how, process, tag in _TASK.findall(self.output):
            self.tasks[how].append((process, tag))

    def submitted(self) -> set[str]:
        """Names of the processes that really ran."""
        return {process for process, _ in self.tasks["Submitted"]}

    def table(self, name: str) -> list[dict[str, str]]:
        """Rows of one of the TSV files of `tables/`."""
        with open(self.outdir / "tables" / name, newline="") as handle:
            return list(csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE))

    def hashes(self, names: tuple[str, ...] = ()) -> dict[str, str]:
        """SHA-256 of the tables (default: all) that must not depend on when or where a run happened."""
        names = names or (*RESULTS, *ENCODER_TABLES)
        return {name: hashlib.sha256((self.outdir / "tables" / name).read_bytes()).hexdigest() for name in names}

    def errors(self) -> list[str]:
        """Our own one-line errors, as a user sees them."""
        return [line.strip() for line in self.output.splitlines() if "vcb: error: " in line]


def command(project: Path, *arguments: str) -> list[str]:
    """Return the command line of a run, with the engine the project itself brings."""
    return [str(PROJECT / "scripts" / "nextflow.sh"), "run", str(project), "-ansi-log", "false", *arguments]


def environment() -> dict[str, str]:
    """Return an environment without variables that would change a run."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("NXF_WORK", "PYTEST"))}


def run(folder: Path, *arguments: str, project: Path = PROJECT, outdir: str = "results", timeout: int = 1200) -> Run:
    """Run the pipeline in `folder` and wait; standard output and error are kept together."""
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    done = subprocess.run(
        command(project, *arguments, "--outdir", outdir),
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Run(folder, folder / outdir, done.returncode, done.stdout, time.monotonic() - start)


def run_and_kill(folder: Path, pattern: str, *arguments: str, project: Path = PROJECT, timeout: int = 600) -> str:
    """Start a run, kill -9 it and all it started once `pattern` shows in its output; return the output so far."""
    folder.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        command(project, *arguments, "--outdir", "results"),
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    seen = []
    deadline = time.monotonic() + timeout
    for line in process.stdout:
        seen.append(line)
        if re.search(pattern, line) or time.monotonic() > deadline:
            break
    _kill_tree(process.pid)
    process.wait()
    return "".join(seen)


def _kill_tree(pid: int) -> None:
    """Kill -9 a process and its descendants, whatever session they are in."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split() if Path(f"/proc/{pid}").exists() else []
    for child in children:
        _kill_tree(int(child))
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def copy_project(folder: Path) -> Path:
    """Return a copy of the project whose files a test may edit; environments are linked, not copied."""
    ignored = shutil.ignore_patterns(
        ".git", ".venv", ".engine", ".nextflow*", "work", "results*", "tests", "docs", "__pycache__"
    )
    copy = folder / "project"
    shutil.copytree(PROJECT, copy, ignore=ignored)
    for name in (".venv", ".engine"):
        if (PROJECT / name).exists():
            (copy / name).symlink_to(PROJECT / name)
    return copy


def add_model(project: Path, name: str, sources: dict[str, str], entries: str) -> None:
    """Add models that share `<NAME>_TRAIN` and `<NAME>_PREDICT`, step by step as docs/adding_a_model.md says.

    `sources` maps module names to Python text, `entries` is the YAML block for `assets/models.yml`.
    """
    for module, source in sources.items():  # 1. the Python file
        (project / "bin" / "vcbench" / "models" / f"{module}.py").write_text(source)
    folder = project / "modules" / "local" / name  # 2. the module, copied from a model that exists
    shutil.copytree(project / "modules" / "local" / "sclambda", folder)
    for part in ("train", "predict"):
        script = folder / part / "main.nf"
        script.write_text(script.read_text().replace("SCLAMBDA", name.upper()))
    catalogue = project / "assets" / "models.yml"  # 3. the catalogue entry
    catalogue.write_text(catalogue.read_text().rstrip("\n") + "\n" + entries)
    for part in ("train", "predict"):  # 4. one include and one line in the train and the predict subworkflow
        workflow = project / "subworkflows" / "local" / part / "main.nf"
        text = workflow.read_text()
        include = next(line for line in text.splitlines() if line.startswith("include { SCLAMBDA"))
        call = next(line for line in text.splitlines() if "(SCLAMBDA_" in line)
        for line in (include, call):
            text = text.replace(line, f"{line}\n{line.replace('SCLAMBDA', name.upper()).replace('sclambda', name)}")
        workflow.write_text(text)
