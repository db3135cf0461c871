"""Methods text with citations, and the facts of the run."""

from __future__ import annotations

from pathlib import Path
from string import Template

import yaml

from vcbench.core.errors import InputError
from vcbench.report.inputs import RUN_FACTS, Inputs
from vcbench.report.section import Section, table
from vcbench.report.text import escape, listing

MODULE, TITLE = "vcb_methods", "Methods"


def sections(inputs: Inputs, assets: Path) -> list[Section]:
    """Return the methods text (assets/methods_description_template.yml, filled in) and the run's facts."""
    path = assets / "methods_description_template.yml"
    if not path.is_file():
        raise InputError("template not found", where=str(path))
    template = yaml.safe_load(path.read_text())
    try:
        text = Template(template["data"]).substitute(_values(inputs))
    except (KeyError, ValueError) as error:
        raise InputError("unknown placeholder", where=str(path), found=error) from error
    return [
        Section("vcb_methods_text", MODULE, TITLE, "Methods text", "html", text),
        Section("vcb_methods_run", MODULE, TITLE, "This run", "html", _run(inputs)),
    ]


def _values(inputs: Inputs) -> dict[str, str]:
    names, primary = inputs.names, inputs.names.primary()
    used = {
        key: {row[key] for row in inputs.plan} - {"none"}
        for key in ("model", "encoder", "strategy", "split", "seed", "fold")
    }
    companion = (names.groups.get("companion") or [""])[0]
    params = inputs.run.get("params") or {}
    values = {
        **{key: _fact(inputs, key) for key in RUN_FACTS},
        "datasets": listing(inputs.datasets()),
        "models": listing(names.model(name) for name in names.models if name in used["model"]),
        "encoders": listing(names.encoder(name) for name in names.encoders if name in used["encoder"]),
        "strategies": listing(sorted(used["strategy"])),
        "splits": listing(sorted(used["split"])),
        "n_folds": str(len(used["fold"])),
        "n_seeds": str(len(used["seed"])),
        "n_units": str(len(inputs.plan)),
        "bootstrap": str(params.get("bootstrap", "2000")),
        "primary": primary.full_title,
        "companion": names.metrics.get(companion, {}).get("title", "none"),
    }
    escaped = {key: escape(value) for key, value in values.items()}
    return {**escaped, "citations": citations(inputs)}


def _fact(inputs: Inputs, key: str) -> str:
    return str(inputs.run.get(key) or "not recorded")


def citations(inputs: Inputs) -> str:
    """Return the works behind the models and encoders of this run, as HTML list items."""
    names = inputs.names
    items = []
    for column, entries in (("model", names.models), ("encoder", names.encoders)):
        used = {row[column] for row in inputs.plan}
        for name, entry in entries.items():
            if name in used and entry.get("citation"):
                items.append(f"<li>{escape(entry['title'])}: {escape(entry['citation'])}</li>")
    return "".join(items)


def _run(inputs: Inputs) -> str:
    rows = [[escape(title), f"<code>{escape(_fact(inputs, key))}</code>"] for key, title in RUN_FACTS.items()]
    params = inputs.run.get("params") or {}
    settings = [
        [escape(key), f"<code>{escape(value)}</code>"]
        for key, value in sorted(params.items())
        if value not in (None, "")
    ]
    html = table(["Fact", "Value"], rows, "vcb-facts-table")
    if settings:
        parameters = table(["Parameter", "Value"], settings)
        html += f"<details><summary>All {len(settings)} parameters</summary>{parameters}</details>"
    return html
