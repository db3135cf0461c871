"""How to read the report: every metric, baseline, control and split in one line."""

from __future__ import annotations

from vcbench.report.inputs import Inputs
from vcbench.report.names import SPLITS, STRATEGIES
from vcbench.report.section import Section, table
from vcbench.report.text import escape

MODULE, TITLE = "vcb_reading", "How to read this"


def sections(inputs: Inputs) -> list[Section]:
    """Return the metrics and the list of models, encoders, strategies and splits of this run."""
    names = inputs.names
    present = {(row["metric"], row["gene_set"]) for row in inputs.leaderboard}
    metrics = [
        item for item in [*names.headline(), *names.bench_compat(present)] if (item.id, item.gene_set) in present
    ]
    rows = [
        [
            f"<b>{escape(item.full_title)}</b><br><code>{escape(item.id)}</code> <code>{escape(item.gene_set)}</code>",
            "lower" if item.lower_is_better else "higher",
            escape(item.explanation),
        ]
        for item in metrics
    ]
    things = []
    for column, entries, title in (
        ("model", names.models, names.model),
        ("encoder", names.encoders, names.encoder),
    ):
        used = {row[column] for row in inputs.plan} - {"none"}
        for name in [*(item for item in entries if item in used), *sorted(used - set(entries))]:
            entry = entries.get(name, {})
            text = entry.get("description") or entry.get("citation") or ""
            things.append([column, f"<b>{escape(title(name))}</b>", escape(entry.get("class", "")), escape(text)])
    for column, meanings in (("strategy", STRATEGIES), ("split", SPLITS)):
        for name in sorted({row[column] for row in inputs.plan} - {"none"}):
            things.append([column, f"<b>{escape(name)}</b>", "", escape(meanings.get(name, "")).capitalize()])
    parts = table(["", "Name", "Class", "What it is"], things)
    sections = [Section("vcb_reading_parts", MODULE, TITLE, "Models, encoders, strategies, splits", "html", parts)]
    if rows:
        html = table(["Metric", "Better", "Question it answers"], rows)
        sections.insert(0, Section("vcb_reading_metrics", MODULE, TITLE, "Metrics", "html", html))
    return sections
