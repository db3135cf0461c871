"""Data quality: what came in, what was kept, what was left out and why."""

from __future__ import annotations

from vcbench.report.inputs import Inputs
from vcbench.report.section import Section, table
from vcbench.report.text import NO_VALUE, count, escape, parse

MODULE, TITLE = "vcb_quality", "Data quality"

#: Facts of quality.tsv in words; others are shown under their own name.
FACTS = {
    "n_cells_read": "Cells read",
    "n_cells": "Cells kept, controls included",
    "n_genes_read": "Genes read",
    "n_genes_detected": "Genes detected in enough cells",
    "n_genes": "Genes kept",
    "n_control": "Control cells",
    "n_control_a": "Control cells, half for evaluation",
    "n_control_b": "Control cells, half for training",
    "n_labels_read": "Labels read",
    "n_perturbations": "Perturbations found",
    "n_perturbations_used": "Perturbations used",
    "n_batches": "Batches",
    "target_sum": "Counts per cell after scaling",
    "share_zero": "Share of zeros in the matrix",
    "masked_genes": "Genes removed (perturbed genes)",
    "perturbed_genes_not_measured": "Perturbed genes that were not measured",
    "n_cells_over_cap": "Cells not kept: more than the largest number per perturbation",
    "n_cells_excluded": "Cells of perturbations left out",
    "n_annotations_unknown": "Annotated labels that are not in the data",
    "annotations_unknown": "Names of these labels",
}
EXCLUDED = "excluded:"


def sections(inputs: Inputs) -> list[Section]:
    """Return the facts of the datasets, the cells per perturbation, and the labels left out."""
    found = [_facts(inputs), _cells(inputs), _left_out(inputs)]
    return [item for item in found if item]


def _facts(inputs: Inputs) -> Section | None:
    datasets = sorted(inputs.quality)
    values = {name: {row["metric"]: row["value"] for row in inputs.quality[name]} for name in datasets}
    metrics = dict.fromkeys(row["metric"] for name in datasets for row in inputs.quality[name])
    rows = [
        [
            escape(FACTS.get(metric, metric.replace("_", " "))),
            *(_cell(values[name].get(metric, "")) for name in datasets),
        ]
        for metric in metrics
        if not metric.startswith(EXCLUDED) and any(values[name].get(metric) for name in datasets)
    ]
    if not rows:
        return None
    html = table(["Fact", *(escape(name) for name in datasets)], rows)
    return Section("vcb_quality_facts", MODULE, TITLE, "Datasets", "html", html)


def _cell(text: str) -> str:
    """Return a fact: numbers with thousands separators, other text as it is."""
    if not text:
        return NO_VALUE
    try:
        value = float(text)
    except ValueError:
        return escape(text)
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}" if abs(value) < 100 else f"{value:,.1f}"


def _cells(inputs: Inputs) -> Section | None:
    data = {
        escape(dataset): sorted(parse(row["n_cells"]) for row in inputs.usable(dataset))
        for dataset in sorted(inputs.perturbations)
    }
    data = {name: values for name, values in data.items() if values}
    if not data:
        return None
    return Section(
        id="vcb_quality_cells",
        module=MODULE,
        module_title=TITLE,
        title="Cells per perturbation",
        plot="box",
        data=data,
        description="Few cells mean a noisy truth and a low ceiling. One point per perturbation.",
        options={
            "pconfig": {
                "id": "vcb_quality_cells_plot",
                "title": "Cells per perturbation",
                "xlab": "Cells",
                "boxpoints": "all",
                "sort_samples": False,
                "series_label": False,
                "save_data_file": False,
            }
        },
    )


def _left_out(inputs: Inputs) -> Section | None:
    rows = []
    for dataset in sorted(set(inputs.perturbations) | set(inputs.quality)):
        perturbations = [row for row in inputs.perturbations.get(dataset, []) if not parse(row["n_cells"]) > 0]
        for row in perturbations:
            label = row.get("labels") or row["perturbation"]
            reason = row.get("reason") or "no cells were kept"
            rows.append([escape(item) for item in (dataset, label, row["status"], reason)])
        # Labels dropped on request are no perturbations; only the quality table knows them.
        named = {f"{EXCLUDED}{row['perturbation']}" for row in perturbations}
        for row in inputs.quality.get(dataset, []):
            if row["metric"].startswith(EXCLUDED) and row["metric"] not in named:
                label = row["metric"].removeprefix(EXCLUDED)
                rows.append([escape(item) for item in (dataset, label, "dropped", row["value"])])
    if not rows:
        return None
    html = f"<p>{count(len(rows), 'label')} of the input {'is' if len(rows) == 1 else 'are'} not in the benchmark.</p>"
    html += table(["Dataset", "Label", "Status", "Reason"], rows)
    return Section("vcb_quality_left_out", MODULE, TITLE, "Left out", "html", html)
