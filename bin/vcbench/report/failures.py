"""What failed, what was blocked by it, and why: one row per cause, every unit named."""

from __future__ import annotations

from collections import defaultdict

from vcbench.report.inputs import Inputs
from vcbench.report.names import Configuration
from vcbench.report.section import Section, table
from vcbench.report.text import count, escape

#: States in words.
STATES = {
    "failed": "failed",
    "blocked": "blocked: something it needs failed",
    "missing": "missing: no trace of it",
}


def section(inputs: Inputs) -> Section:
    """Return the section; it says so when everything succeeded."""
    bad = [row for row in inputs.plan if row["state"] != "ok"]
    groups: dict[tuple[str, ...], list[dict[str, str]]] = defaultdict(list)
    for row in bad:
        label = inputs.names.configuration(Configuration(row["model"], row["encoder"], row["strategy"]))
        groups[(row["dataset"], row["split"], label, row["state"], row["stage"], row["reason"])].append(row)
    if not bad:
        html = f'<p class="vcb-ok">All {count(len(inputs.plan), "unit")} succeeded.</p>'
    else:
        rows = []
        for (dataset, split, label, state, stage, reason), members in sorted(groups.items()):
            folds = ", ".join(sorted({f"fold {row['fold']}" for row in members}))
            seeds = ", ".join(sorted({row["seed"] for row in members}, key=int))
            rows.append(
                [
                    f"{escape(dataset)}<br>{escape(split)} split",
                    f"<b>{escape(label)}</b><br><small>{escape(folds)}; seed {escape(seeds)}</small>",
                    f'<span class="vcb-state vcb-{escape(state)}">{escape(STATES.get(state, state))}</span>',
                    escape(stage),
                    escape(reason) or "no reason recorded",
                    f"{len(members)}",
                ]
            )
        units = "".join(f"<li><code>{escape(row['unit'])}</code>: {escape(row['reason'])}</li>" for row in bad)
        html = (
            f"<p>{count(len(bad), 'unit')} of {len(inputs.plan)} gave no result. "
            "A unit is one model with one encoder on one fold.</p>"
            + table(["Dataset", "Unit", "State", "Stage", "Reason", "Units"], rows)
            + f"<details><summary>Every one of the {count(len(bad), 'unit')}</summary><ul>{units}</ul></details>"
        )
    return Section(
        id="vcb_failures", module="vcb_failed", module_title="What failed", title="What failed", plot="html", data=html
    )
