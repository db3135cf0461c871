"""Heat maps model x encoder of the primary metric, one per strategy."""

from __future__ import annotations

import math

from vcbench.core.units import NO_ENCODER
from vcbench.report import figure
from vcbench.report.names import STRATEGIES, Configuration
from vcbench.report.panel import Panel
from vcbench.report.section import HEATMAP, Section
from vcbench.report.text import escape, listing, number


def sections(panel: Panel, module: str, module_title: str) -> list[Section]:
    """Return one heat map per strategy; none when scores are withheld or there is a single cell only."""
    if panel.missing_controls():
        return []
    using = [item for item in panel.configurations if item.encoder != NO_ENCODER]
    found = [_section(panel, strategy, using, module, module_title) for strategy in sorted({u.strategy for u in using})]
    return [item for item in found if item]


def _section(panel: Panel, strategy: str, using: list[Configuration], module: str, module_title: str) -> Section | None:
    names = panel.names
    mine = [item for item in using if item.strategy == strategy]
    models = [name for name in names.models if any(item.model == name for item in mine)]
    models += sorted({item.model for item in mine} - set(models))
    encoders = [name for name in names.encoders if any(item.encoder == name for item in mine)]
    encoders += sorted({item.encoder for item in mine} - set(encoders))
    matrix = [[panel.value(Configuration(m, e, strategy), panel.primary) for e in encoders] for m in models]
    finite = [value for row in matrix for value in row if math.isfinite(value)]
    if len(models) * len(encoders) < 2 or not finite:
        return None
    places = panel.places()
    empty = [
        names.configuration(Configuration(m, e, strategy))
        for m, row in zip(models, matrix, strict=True)
        for e, value in zip(encoders, row, strict=True)
        if math.isnan(value)
    ]
    reference = panel.reference()
    context = f"Ceiling {number(panel.ceiling(panel.primary), places)}"
    if reference:
        context += (
            f", best baseline {number(panel.value(reference, panel.primary), places)} "
            f"({escape(names.configuration(reference))})"
        )
    blank = f" Empty cells have no value: {escape(listing(empty, 5))}." if empty else ""
    what = STRATEGIES.get(strategy, strategy)
    rows = [
        {"model": m, "encoder": e, "strategy": strategy, "value": value}
        for m, line in zip(models, matrix, strict=True)
        for e, value in zip(encoders, line, strict=True)
    ]
    drawing = figure.matrix(
        f"{panel.id}.heatmap_{strategy}", f"{panel.dataset}, {panel.split} split: model × encoder, {strategy}", matrix,
        [names.encoder(name) for name in encoders], [names.model(name) for name in models], panel.primary.full_title,
        ("model", "encoder", "strategy", "value"), rows, max(finite) if panel.primary.lower_is_better else min(finite),
        min(finite) if panel.primary.lower_is_better else max(finite), places,
    )  # fmt: skip
    return Section(
        figures=(drawing,),
        id=f"{panel.id}_heatmap_{strategy}",
        module=module,
        module_title=module_title,
        title=f"Model × encoder, strategy {escape(strategy)}",
        plot="heatmap",
        data=[[value if math.isfinite(value) else None for value in row] for row in matrix],
        description=f"{escape(panel.primary.full_title)}; the encoder gives {what}. {context}.{blank} "
        f'<span class="vcb-files">{drawing.links()}</span>',
        options={
            "xcats": [escape(names.encoder(name)) for name in encoders],
            "ycats": [escape(names.model(name)) for name in models],
            "pconfig": {
                "id": f"{panel.id}_heatmap_{strategy}_plot",
                "title": f"{panel.dataset} · {panel.split} · {escape(strategy)}",
                "xlab": "Encoder",
                "ylab": "Model",
                "zlab": escape(panel.primary.title),
                "min": min(finite),
                "max": max(finite) if max(finite) > min(finite) else min(finite) + 1e-6,
                "reverse_colors": panel.primary.lower_is_better,
                "colstops": [[0, "#f3e9d2"], [0.5, "#7fb6c6"], [1, "#1f5f8b"]],
                "tt_decimals": places,
                **HEATMAP,
            },
        },
    )
