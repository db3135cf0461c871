"""Folds and leakage: what each fold trains and tests on, and what of the test set training has seen."""

from __future__ import annotations

import math

from vcbench.report.inputs import Inputs
from vcbench.report.names import SPLITS
from vcbench.report.section import Section
from vcbench.report.text import escape, parse

#: Column: (heading, explanation, number format).
COLUMNS = {
    "n_train": ("Training", "Perturbations the models learn from", "{:,.0f}"),
    "n_valid": ("Validation", "Perturbations that stop training early and choose encoder and strategy", "{:,.0f}"),
    "n_test": ("Test", "Held-out perturbations that are scored", "{:,.0f}"),
    "n_test_position_seen": ("Test residues seen", "Test perturbations at a residue of a training one", "{:,.0f}"),
    "share_test_position_seen": ("Share seen", "Share of test perturbations at a residue of a training one", "{:.0%}"),
    "n_test_gene_seen": ("Test genes seen", "Test perturbations of a gene that occurs in training", "{:,.0f}"),
    "n_sequence_shared": ("Same sequence", "Test proteins that also occur in training; must be 0", "{:,.0f}"),
}


def section(inputs: Inputs) -> Section | None:
    """Return the table of folds, None when no leakage table was given."""
    data: dict[str, dict[str, float]] = {}
    for row in sorted(inputs.leakage, key=lambda row: (row["dataset"], row["split"], int(row["fold"].lstrip("f")))):
        label = f"{escape(row['dataset'])} · {escape(row['split'])} split · fold {escape(row['fold'].lstrip('f'))}"
        values = {column: parse(row.get(column)) for column in COLUMNS}
        data[label] = {column: value for column, value in values.items() if math.isfinite(value)}
    if not data:
        return None
    splits = sorted({row["split"] for row in inputs.leakage})
    meaning = "".join(
        f"<li><b>{escape(name)} split</b>: {SPLITS.get(name, 'held-out perturbations')}</li>" for name in splits
    )
    headers = {
        column: {
            "title": title,
            "description": text,
            "format": form,
            "scale": "Oranges" if column in ("share_test_position_seen", "n_sequence_shared") else False,
            "min": 0,
            **({"max": 1} if column == "share_test_position_seen" else {}),
        }
        for column, (title, text, form) in COLUMNS.items()
    }
    return Section(
        id="vcb_folds_table",
        module="vcb_folds",
        module_title="Folds and leakage",
        title="Folds and leakage",
        plot="table",
        data=data,
        description=f"<ul>{meaning}</ul>",
        options={
            "headers": headers,
            "pconfig": {
                "id": "vcb_folds_plot",
                "title": "Folds and leakage",
                "col1_header": "Fold",
                "sort_rows": False,
                "no_violin": True,
                "rows_are_samples": False,
            },
        },
    )
