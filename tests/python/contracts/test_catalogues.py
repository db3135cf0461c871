"""Catalogues, modules, docs and configuration agree with each other."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[3]
MODELS, ENCODERS = (yaml.safe_load((PROJECT / "assets" / f"{name}.yml").read_text()) for name in ("models", "encoders"))


@pytest.mark.parametrize("catalogue", [MODELS, ENCODERS], ids=["models", "encoders"])
def test_groups_name_existing_entries(catalogue: dict) -> None:
    for group, names in catalogue["groups"].items():
        assert set(names) <= set(catalogue["entries"]), group
    assert {name for names in catalogue["groups"].values() for name in names} == set(catalogue["entries"])
    assert not set(catalogue["groups"]) & set(catalogue["entries"])


@pytest.mark.parametrize("name", MODELS["entries"])
def test_model_is_complete(name: str) -> None:
    entry = MODELS["entries"][name]
    assert re.search(r"^MODEL = ", (PROJECT / "bin" / "vcbench" / "models" / f"{name}.py").read_text(), re.M)
    assert (PROJECT / "docs" / "models" / f"{entry.get('page', name)}.md").is_file()
    assert entry.get("needs") in (None, "annotations")
    folder = PROJECT / "modules" / "local" / entry["process"].lower()
    for part in ("train", "predict"):
        process = f"{entry['process']}_{part.upper()}"
        assert f"process {process} {{" in (folder / part / "main.nf").read_text()
        workflow = (PROJECT / "subworkflows" / "local" / part / "main.nf").read_text()
        assert f"include {{ {process}" in workflow
        assert f"({process}(ofProcess(ch_tasks, '{entry['process']}')" in workflow
    assert entry["class"] in ("baseline", "supervised", "foundation")
    assert set(entry["modalities"]) <= {"variant", "gene"}
    assert entry["description"]
    for setting, spec in entry["settings"].items():
        assert {"type", "default", "help"} <= set(spec), setting


@pytest.mark.parametrize("name", ENCODERS["entries"])
def test_encoder_is_complete(name: str) -> None:
    entry = ENCODERS["entries"][name]
    pages = (name, entry["process"].lower().removesuffix("_encode"))  # sizes of one network may share a page
    assert any((PROJECT / "docs" / "encoders" / f"{page}.md").is_file() for page in pages)
    scripts = "".join(path.read_text() for path in (PROJECT / "modules" / "local").glob("*/main.nf"))
    assert f"process {entry['process']} {{" in scripts
    if entry["class"] == "plm":
        assert {"folder", "source", "files"} <= set(entry["weights"])
        assert re.fullmatch(r"[0-9a-f]{40}|", entry["weights"].get("revision", ""))
        assert entry["memory_gb"] > 0
        assert "licence" in entry and "citation" in entry and "noncommercial" in entry


def declaration(path: Path) -> str:
    """Text of a model's module without what is its own: names, labels, image and versions."""
    text = re.sub(r"[A-Z0-9]+_(TRAIN|PREDICT)", r"X_\1", path.read_text())
    own = re.compile(r"^\s*(label|conda|container) |topic: versions")
    return "\n".join(line for line in text.splitlines() if not own.search(line))


def test_encoder_modules_hold_the_same_contract() -> None:
    """Inputs, outputs, script and stub of the processes of all protein language models are the same."""
    processes = {entry["process"] for entry in ENCODERS["entries"].values() if "family" in entry}
    folders = [PROJECT / "modules" / "local" / name.removesuffix("_ENCODE").lower() for name in sorted(processes)]
    assert len(folders) >= 6
    scripts = {re.sub(r"process \w+ |'ghcr\S+'", "", (folder / "main.nf").read_text()) for folder in folders}
    assert len(scripts) == 1
    assert len({(folder / "Dockerfile").read_text().split("\n", 1)[1] for folder in folders}) == 1
    workflow = (PROJECT / "subworkflows" / "local" / "encode" / "main.nf").read_text()
    for process in processes:
        assert f"({process}(ofProcess(ch_new, '{process}'), assets)" in workflow


@pytest.mark.parametrize("part", ["train", "predict"])
def test_model_modules_hold_the_same_contract(part: str) -> None:
    """Inputs, outputs, script and stub of every model's process are the same."""
    scripts = sorted((PROJECT / "modules" / "local").glob(f"*/{part}/main.nf"))
    assert len(scripts) >= 2
    assert len({declaration(path) for path in scripts}) == 1, [str(path) for path in scripts]


def test_every_process_has_image_label_and_versions() -> None:
    without_versions = {"AGGREGATE", "REPORT", "MULTIQC"}  # they run after the versions were collected
    for path in (PROJECT / "modules").rglob("main.nf"):
        text = path.read_text()
        process = re.search(r"process (\w+) \{", text).group(1)
        assert re.search(r"^    container '[a-z0-9./_-]+:[0-9.]+'$", text, re.M), process
        assert re.search(r"^    label '", text, re.M), process
        # the software of an encoder comes with its vectors, and DERIVE passes it on
        silent = process in without_versions or process.endswith("_ENCODE") or "storeDir" in text
        assert ("topic: versions" in text) != silent, process
        assert re.search(r"^    stub:", text, re.M) or process == "PLAN", process


def test_every_parameter_is_in_schema_and_config() -> None:
    schema = json.loads((PROJECT / "nextflow_schema.json").read_text())
    described = {name: spec for group in schema["$defs"].values() for name, spec in group["properties"].items()}
    block = re.search(r"^params \{(.*?)^\}", (PROJECT / "nextflow.config").read_text(), re.M | re.S).group(1)
    configured = dict(re.findall(r"^    (\w+)\s+= (.*)$", block, re.M))
    assert set(configured) == set(described)
    for name, spec in described.items():
        default = configured[name].strip("'")
        if name != "trace_report_suffix":
            expected = spec.get("default")
            text = expected if isinstance(expected, str) else json.dumps(expected)
            assert default == text, name


def test_groups_of_metrics_are_those_of_the_parameter() -> None:
    """--metrics takes the groups of metrics.yml: named in the schema, checked at launch, given to TRUTH and SCORE."""
    metrics = yaml.safe_load((PROJECT / "assets" / "metrics.yml").read_text())
    groups = {entry.get("group", "default") for entry in metrics["entries"].values()} - {"default"}
    assert set(metrics["on_request"]) == groups | {"lm"}
    assert set(metrics["log_of_mean"]) <= set(metrics["entries"])
    schema = json.loads((PROJECT / "nextflow_schema.json").read_text())["$defs"]["evaluation_options"]["properties"]
    assert all(name in schema["metrics"]["description"] for name in metrics["on_request"])
    assert (
        "catalogue('metrics').on_request"
        in (PROJECT / "subworkflows" / "local" / "utils_variantcellbench" / "main.nf").read_text()
    )
    modules = (PROJECT / "conf" / "modules.config").read_text()
    for process in ("TRUTH", "SCORE"):
        arguments = re.search(rf"withName: {process} {{.*?}}\n    }}", modules, re.S)
        assert arguments and "--metrics ${params.metrics" in arguments[0], process


def test_no_code_reads_a_catalogue_from_where_the_project_lies() -> None:
    """On clusters only bin/ travels with a task: catalogues come with --assets."""
    for path in sorted((PROJECT / "bin" / "vcbench").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load":
                owner = getattr(node.func.value, "id", "")
                wanted = {"catalogue": 2, "registry": 1}.get(owner, 0)
                assert len(node.args) + len(node.keywords) >= wanted, f"{path}:{node.lineno}"


def test_no_model_is_called_as_rows_of_the_evaluator() -> None:
    """Every name of the evaluator is reserved; the catalogue keeps clear of them and refuses files called so."""
    from vcbench.core import evaluators
    from vcbench.core.catalogue import external_name
    from vcbench.core.errors import InputError
    from vcbench.metrics import contract

    names = {value for key, value in vars(evaluators).items() if key.isupper() and isinstance(value, str)}
    assert names == set(evaluators.RESERVED) and len(names) == len(evaluators.RESERVED)
    assert names.isdisjoint({*MODELS["groups"], *MODELS["entries"]})
    for name in names:
        with pytest.raises(InputError, match="is the name of a model"):
            external_name(f"{name}.h5ad", "--predictions", MODELS)
    assert contract.EVALUATORS is evaluators.EVALUATORS
