"""The code digest of a task covers exactly what it can import: Nextflow's view against Python's own parser."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import harness
import pytest

BIN = harness.PROJECT / "bin"


def imported(entries: list[str], seen: set[str] | None = None) -> set[str]:
    """Return the bin/-relative files that `entries` import, found with Python's parser."""
    seen = set() if seen is None else seen
    for entry in entries:
        path = BIN / entry
        if entry in seen or not path.is_file():
            continue
        seen.add(entry)
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{entry}: relative imports are invisible to the digest"
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                parts = name.split(".")
                if parts[0] != "vcbench":
                    continue
                packages = ["/".join([*parts[: depth + 1], "__init__.py"]) for depth in range(len(parts))]
                imported(["/".join(parts) + ".py", *packages], seen)
    return seen


@pytest.fixture(scope="module")
def by_nextflow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Files of each scope as the pipeline's own function sees them."""
    folder = tmp_path_factory.mktemp("scopes")
    project = harness.copy_project(folder)
    entries = [path.name for path in sorted(BIN.glob("vcb_*.py"))]
    for kind in ("models", "encoders"):
        entries += [str(path.relative_to(BIN)) for path in sorted((BIN / "vcbench" / kind).rglob("*.py"))]
    (project / "main.nf").write_text(
        "include { importedFiles } from './subworkflows/local/utils_variantcellbench/code'\n"
        "workflow {\n"
        f"    def scopes = {json.dumps(entries)}.collectEntries {{ key -> [key, importedFiles([key]).toSorted()] }}\n"
        "    println('SCOPES ' + groovy.json.JsonOutput.toJson(scopes))\n"
        "}\n"
    )
    done = harness.run(folder / "launch", project=project)
    assert done.code == 0, done.output
    return json.loads(re.search(r"SCOPES (.*)", done.output).group(1))


def test_digest_sees_what_python_imports(by_nextflow: dict[str, list[str]]) -> None:
    assert len(by_nextflow) > 20
    for entry, files in by_nextflow.items():
        assert set(files) == imported([entry]), entry


def test_scopes_are_narrow() -> None:
    """Editing a plot must not retrain a model; editing one model must not touch another."""
    assert not [name for name in imported(["vcb_train.py"]) if "/report/" in name or "/metrics/" in name]
    assert "vcbench/models/sclambda.py" not in imported(["vcb_train.py", "vcbench/models/linear.py"])
    family = imported(["vcb_encode.py", "vcbench/encoders/plm/encoder.py", "vcbench/encoders/esm2/network.py"])
    assert "vcbench/encoders/esm2/tokens.py" in family
    assert not [name for name in family if "/t5/" in name or "/esm_msa/" in name or "/models/" in name]
    assert "vcbench/models/sclambda.py" in imported(["vcb_train.py", "vcbench/models/sclambda.py"])
    assert not [name for name in imported(["vcb_score.py"]) if "/models/" in name]
    assert not [
        name
        for name in imported(["vcb_plan.py"])
        if not name.startswith(("vcb_plan", "vcbench/core", "vcbench/__init__"))
    ]


def test_dynamic_imports_are_only_those_the_workflow_names() -> None:
    """`importlib` hides a module from the digest; the two registries are added by name in Nextflow."""
    found = {
        str(path.relative_to(BIN))
        for path in BIN.rglob("*.py")
        if re.search(r"import_module\(|__import__\(", Path(path).read_text())
    }
    assert found <= {
        "vcbench/models/registry.py",
        "vcbench/encoders/base.py",
        "vcbench/encoders/plm/weights.py",  # a family's network, named by `networkCode` in the encode subworkflow
        "vcbench/core/check_weights.py",
    }, found
