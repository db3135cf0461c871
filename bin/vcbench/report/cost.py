"""Run time and memory per model."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict

from vcbench.report.inputs import Inputs, Row
from vcbench.report.section import Section
from vcbench.report.text import escape, parse

MODULE, TITLE = "vcb_cost", "Run time and memory"

#: Column: (heading, explanation, number format, colours).
COLUMNS: dict[str, tuple[str, str, str, str | bool]] = {
    "units": ("Units", "Units with a recorded time", "{:,.0f}", False),
    "device": ("Device", "Where the units ran", "{}", False),
    "train": ("Training, mean s", "Mean seconds of training per unit", "{:,.2f}", "Blues"),
    "train_total": ("Training, total s", "Seconds of training, all units", "{:,.1f}", False),
    "predict": ("Prediction, mean s", "Mean seconds of prediction per unit", "{:,.2f}", "Oranges"),
    "predict_total": ("Prediction, total s", "Seconds of prediction, all units", "{:,.1f}", False),
    "memory": ("Peak memory, MB", "Largest resident memory of a task (1 MB = 10^6 bytes)", "{:,.0f}", "Greens"),
}


def sections(inputs: Inputs) -> list[Section]:
    """Return the bar chart of seconds per unit and the table with memory; nothing when no unit has a time."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in inputs.plan:
        if row.get("trained_on"):  # the learning curve's smaller training sets would look like speed
            continue
        if math.isfinite(parse(row.get("train_seconds"))) or math.isfinite(parse(row.get("predict_seconds"))):
            groups[row["model"]].append(row)
    if not groups:
        return []
    order = [name for name in inputs.names.models if name in groups] + sorted(set(groups) - set(inputs.names.models))
    bars: dict[str, dict[str, float]] = {}
    data: dict[str, dict[str, float | str]] = {}
    for name in order:
        label = escape(inputs.names.model(name))
        train, predict, memory = (
            [value for row in groups[name] if math.isfinite(value := parse(row.get(column)))]
            for column in ("train_seconds", "predict_seconds", "peak_memory_mb")
        )
        bars[label] = {"train": statistics.fmean(train or [0.0]), "predict": statistics.fmean(predict or [0.0])}
        data[label] = {
            "units": len(groups[name]),
            "device": escape(", ".join(sorted({row.get("device", "") for row in groups[name]} - {""}))),
        }
        for column, values in (("train", train), ("predict", predict)):
            if values:
                data[label][column] = statistics.fmean(values)
                data[label][f"{column}_total"] = math.fsum(values)
        if memory:
            data[label]["memory"] = max(memory)
    headers = {
        key: {"title": title, "description": text, "format": form, "scale": scale, "min": 0}
        for key, (title, text, form, scale) in COLUMNS.items()
    }
    return [
        Section(
            id="vcb_cost_bars",
            module=MODULE,
            module_title=TITLE,
            title="Seconds per unit",
            plot="bargraph",
            data=bars,
            description="Mean wall time of one unit (one model, encoder, fold and seed).",
            options={
                "categories": {
                    "train": {"name": "Training", "color": "#0072b2"},
                    "predict": {"name": "Prediction", "color": "#e69f00"},
                },
                "pconfig": {
                    "id": "vcb_cost_bars_plot",
                    "title": "Mean seconds per unit",
                    "ylab": "Seconds",
                    "cpswitch": False,
                    "sort_samples": False,
                    "series_label": False,
                    "tt_decimals": 2,
                    "logswitch": True,
                    "save_data_file": False,
                },
            },
        ),
        Section(
            id="vcb_cost_table",
            module=MODULE,
            module_title=TITLE,
            title="Totals and memory",
            plot="table",
            data=data,
            description="Small units share a task, so their peak memory is that of the task.",
            options={
                "headers": headers,
                "pconfig": {
                    "id": "vcb_cost_table_plot",
                    "title": "Run time and memory per model",
                    "col1_header": "Model",
                    "sort_rows": False,
                    "no_violin": True,
                    "rows_are_samples": False,
                },
            },
        ),
    ]
