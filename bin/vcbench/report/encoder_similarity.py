"""Heat maps: how alike encoders see the perturbations (CKA)."""

from __future__ import annotations

import math

from vcbench.report.inputs import Inputs, Row
from vcbench.report.section import HEATMAP, Section
from vcbench.report.text import escape, listing, parse


def sections(inputs: Inputs, module: str, module_title: str) -> list[Section]:
    """Return one heat map per dataset and strategy with two encoders or more."""
    rows = inputs.encoders.get("similarity", [])
    groups = sorted({(row["dataset"], row["strategy"]) for row in rows})
    found = []
    for dataset, strategy in groups:
        mine = [row for row in rows if (row["dataset"], row["strategy"]) == (dataset, strategy)]
        found.append(_section(inputs, dataset, strategy, mine, module, module_title))
    return found


def _section(inputs: Inputs, dataset: str, strategy: str, rows: list[Row], module: str, module_title: str) -> Section:
    values = {frozenset((row["encoder_a"], row["encoder_b"])): parse(row["cka"]) for row in rows}
    order = list(inputs.names.encoders)
    names = sorted(
        {row[side] for row in rows for side in ("encoder_a", "encoder_b")},
        key=lambda name: (order.index(name) if name in order else -1, name),
    )
    shown = [name for name in names if any(math.isfinite(values[pair]) for pair in values if name in pair)]
    place = (f"vcb_encoders_cka_{dataset}_{strategy}", module, module_title)
    title = f"How alike: {escape(dataset)}, {escape(strategy)}"
    hidden = "".join(f"<li>{escape(text)}</li>" for text in _reasons(inputs, rows, set(names) - set(shown)))
    left_out = f"<p>Not shown:</p><ul>{hidden}</ul>" if hidden else ""
    if len(shown) < 2:
        return Section(*place, title, "html", left_out)
    matrix = [[1.0 if a == b else _cell(values.get(frozenset((a, b)), math.nan)) for b in shown] for a in shown]
    lowest = min(value for row in matrix for value in row if value is not None)
    labels = [escape(inputs.names.encoder(name)) for name in shown]
    return Section(
        *place,
        title,
        "heatmap",
        matrix,
        description=(
            "Linear CKA with the unbiased estimator (Song et al. 2012). 1: the distances between perturbations are the "
            "same up to scale and rotation, so that the two encoders hold the same information for a linear or "
            "nearest-neighbour model. 0: what independent vectors give; a little below 0 is noise." + left_out
        ),
        options={
            "xcats": labels,
            "ycats": labels,
            "pconfig": {
                "id": f"vcb_encoders_cka_{dataset}_{strategy}_plot",
                "title": f"CKA · {escape(dataset)} · {escape(strategy)}",
                "xlab": "Encoder",
                "ylab": "Encoder",
                "zlab": "CKA",
                "min": min(0.0, lowest),
                "max": 1,
                "colstops": [[0, "#f7f4ea"], [0.5, "#9cc9d6"], [1, "#1f5f8b"]],
                "tt_decimals": 2,
                **HEATMAP,
            },
        },
    )


def _cell(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _reasons(inputs: Inputs, rows: list[Row], hidden: set[str]) -> list[str]:
    """Return why encoders are not shown, each with the encoders it holds for."""
    found: dict[str, set[str]] = {}
    for row in rows:
        for side in ("encoder_a", "encoder_b"):
            if row[side] in hidden and row["undefined"]:
                found.setdefault(row["undefined"].rpartition(": ")[2], set()).add(row[side])
    return [
        f"{listing(sorted(inputs.names.encoder(name) for name in names))}: {reason}"
        for reason, names in sorted(found.items())
    ]
