"""All headline metrics of one dataset and split as an interactive table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from vcbench.report.leaderboard import partly
from vcbench.report.names import Metric, reasons
from vcbench.report.panel import Panel
from vcbench.report.section import Section
from vcbench.report.text import NO_VALUE, decimals, escape, interval, listing, number


def section(
    panel: Panel, module: str, module_title: str, metrics: Sequence[Metric], suffix: str, title: str
) -> Section | None:
    """Return the table of these metrics: value and interval of every configuration, ceiling and chance above them.

    A metric without a ceiling is named below the title and not shown (no score without its ceiling); None when nothing
    can be shown.
    """
    if panel.missing_controls():
        return None
    scored = {key for (_, key), score in panel.scores.items() if math.isfinite(score.shown)}
    # VariantCellBench's own formulas have no ceiling by definition; they stand beside ours for comparison only.
    shown = [m for m in metrics if m.key in scored and (m.compat or math.isfinite(panel.ceiling(m)))]
    if not shown:
        return None
    left_out = [metric for metric in metrics if metric not in shown]
    headers: dict[str, Any] = {
        "kind": {"title": "Kind", "description": "Baseline, control input or model", "scale": False}
    }
    data: dict[str, dict[str, Any]] = {"Ceiling": {"kind": "ceiling"}}
    ranked = [item for item in panel.ranked() if item in panel.scored()]
    for item in ranked:
        data[escape(panel.names.configuration(item))] = {"kind": _kind(panel, item)}
    for metric in shown:
        _column(panel, metric, headers, data)
    return Section(
        id=f"{panel.id}_{suffix}",
        module=module,
        module_title=module_title,
        title=title,
        plot="table",
        data=data,
        description=_description(panel, shown, left_out),
        options={
            "headers": headers,
            "pconfig": {
                "id": f"{panel.id}_{suffix}_table",
                "title": f"{panel.dataset}, {panel.split} split: {title.lower()}",
                "col1_header": "Model · encoder · strategy",
                "sort_rows": False,
                "no_violin": True,
                "rows_are_samples": False,
                "save_file": False,
            },
        },
    )


def _kind(panel: Panel, configuration) -> str:
    if configuration == panel.reference():
        return "best baseline"
    if panel.names.is_baseline(configuration):
        return "baseline"
    return "control input" if panel.names.is_control_input(configuration) else "model"


def _column(panel: Panel, metric: Metric, headers: dict[str, Any], data: dict[str, dict[str, Any]]) -> None:
    """Add the value, interval and chance columns of a metric."""
    values = [panel.value(item, metric) for item in panel.configurations]
    places = decimals([*values, panel.ceiling(metric)])
    finite = [value for value in [*values, panel.ceiling(metric)] if math.isfinite(value)]
    arrow = "↓" if metric.lower_is_better else "↑"
    headers[metric.key] = {
        "title": f"{escape(metric.full_title)} {arrow}",
        "description": escape(metric.explanation),
        "format": f"{{:,.{places}f}}",
        "scale": "Blues-rev" if metric.lower_is_better else "Blues",
        "min": min(0.0, *finite),
        "max": max(finite),
    }
    headers[f"{metric.key}_interval"] = {
        "title": "95 % interval",
        "description": f"{escape(metric.full_title)}: bootstrap over perturbations, "
        "or what stands behind a number with undefined predictions",
        "scale": False,
    }
    headers[f"{metric.key}_null"] = {
        "title": "Chance",
        "description": f"{escape(metric.full_title)}: the same predictions scored against shuffled labels",
        "scale": False,
        "hidden": metric.key != panel.primary.key,
    }
    rows = iter(data.values())
    ceiling = panel.ceiling(metric)
    if math.isfinite(ceiling):
        next(rows)[metric.key] = ceiling
    else:
        next(rows)[f"{metric.key}_interval"] = "not defined"
    for item, row in zip((item for item in panel.ranked() if item in panel.scored()), rows, strict=True):
        score = panel.score(item, metric)
        if score is None or not math.isfinite(score.shown):
            row[f"{metric.key}_interval"] = escape(reasons(score.reasons) if score else "no value")
            continue
        row[metric.key] = score.shown
        text = partly(score, places) if score.as_no_skill else interval(score.low, score.high, places)
        if score.incomplete and not score.as_no_skill:
            text += f" (n = {score.n:.0f} of {score.n_expected:.0f})"
        row[f"{metric.key}_interval"] = escape(text)
        null = number(score.null_mean, places)
        row[f"{metric.key}_null"] = (
            null if null == NO_VALUE else f"{null} ({interval(score.null_low, score.null_high, places)})"
        )


def _description(panel: Panel, shown: Sequence[Metric], left_out: Sequence[Metric]) -> str:
    lines = [
        f"<li><b>{escape(metric.full_title)}</b> ({'lower' if metric.lower_is_better else 'higher'} is better): "
        f"{escape(metric.explanation)}</li>"
        for metric in shown
    ]
    note = ""
    if left_out:
        names = escape(listing(metric.full_title for metric in left_out))
        note = f"<p>Not shown, because undefined here or without a ceiling: {names} (see tables/leaderboard.tsv).</p>"
    return (
        "<p>Sorted by the primary metric; click a heading to sort by another one.</p>"
        f"<details><summary>What each column means</summary><ul>{''.join(lines)}</ul></details>{note}"
    )
