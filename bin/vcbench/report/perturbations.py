"""Per-perturbation view: best model minus best baseline, in strata of severity."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping

from vcbench.report.figure import Figure, Line, curves
from vcbench.report.inputs import Inputs, Row
from vcbench.report.panel import Panel
from vcbench.report.section import Section, table
from vcbench.report.text import count, decimals, escape, number, parse

#: Readable for colour-blind people, on light and on dark ground (Okabe-Ito).
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#999999")
#: More different numbers than this are cut into terciles.
MOST_STRATA = 7


def sections(
    panel: Panel,
    inputs: Inputs,
    scores: Mapping[tuple[str, ...], Mapping[str, float]],
    module: str,
    module_title: str,
) -> list[Section]:
    """Return the strip plot and the table of strata; nothing when there is no model to hold against a baseline."""
    reference, competitors = panel.reference(), panel.competitors()
    if panel.missing_controls() or reference is None or not competitors:
        return []
    best = (panel.winners() or competitors)[0].configuration
    model, base = (
        scores.get((panel.dataset, panel.split, item.model, item.encoder, item.strategy), {})
        for item in (best, reference)
    )
    common = sorted(set(model) & set(base))
    if not common:
        text = "The best model and the best baseline have no perturbation on which the scores of both are defined."
        return [
            Section(f"{panel.id}_perturbations", module, module_title, "Perturbation by perturbation", "html", text)
        ]
    groups = strata([row for row in inputs.perturbations.get(panel.dataset, []) if row["perturbation"] in set(common)])
    known = {name for members in groups.values() for name in members}
    rest = [name for name in common if name not in known]
    if rest:
        groups["no severity known" if groups else "all perturbations"] = rest
    labels = [escape(panel.names.configuration(item)) for item in (best, reference)]
    differences = {name: model[name] - base[name] for name in common}
    better = sum(panel.primary.better(value) for value in differences.values())
    places = decimals([*model.values(), *base.values()])
    side = "Below" if panel.primary.lower_is_better else "Above"
    description = (
        f"Each point is one held-out perturbation: score of the best model (<b>{labels[0]}</b>) minus score of the "
        f"best baseline (<b>{labels[1]}</b>). {side} the line the model "
        f"is better: {better} of {count(len(common), 'perturbation')}. Hover over a point for its name."
    )
    hidden = panel.contrasts[best].n - len(common)
    if hidden > 0:
        description += f" {count(hidden, 'perturbation')} with an undefined score cannot be drawn."
    data: dict[str, list[dict[str, object]]] = {}
    for place, (name, members) in enumerate(groups.items()):
        data[escape(name)] = [
            {
                # Golden-ratio steps spread neighbours evenly and need no random numbers.
                "x": round(place + 0.7 * ((rank * 0.6180339887) % 1 - 0.5), 4),
                "y": differences[member],
                "name": escape(member),
                "color": COLOURS[place % len(COLOURS)],
                "hide_in_legend": True,
            }
            for rank, member in enumerate(members)
        ]
    drawing = _drawing(panel, groups, model, base, data)
    description += f' <span class="vcb-files">{drawing.links()}</span>'
    margin = 0.08 * (max(0.0, *differences.values()) - min(0.0, *differences.values()) or 1.0)
    ticks = [f"{escape(name)} ({len(members)})" for name, members in groups.items()]
    return [
        Section(
            id=f"{panel.id}_perturbations",
            module=module,
            module_title=module_title,
            title="Perturbation by perturbation",
            plot="scatter",
            data=data,
            figures=(drawing,),
            description=description,
            options={
                "pconfig": {
                    "id": f"{panel.id}_perturbations_plot",
                    "title": f"{panel.dataset} · {panel.split}",
                    "xlab": "Severity (perturbations)" if len(groups) > 1 else "",
                    "ylab": f"Difference in {escape(panel.primary.title)}",
                    "categories": ticks,
                    "xmin": -0.6,
                    "xmax": len(groups) - 0.4,
                    "ymin": min(0.0, *differences.values()) - margin,
                    "ymax": max(0.0, *differences.values()) + margin,
                    "y_lines": [{"value": 0, "color": "#888888", "width": 2, "dash": "dash"}],
                    "marker_size": 9,
                    "height": 460,
                    "showlegend": False,
                    "series_label": False,
                    "tt_label": f"%{{y:.{places}f}}",
                    "save_data_file": False,
                }
            },
        ),
        Section(
            id=f"{panel.id}_strata",
            module=module,
            module_title=module_title,
            title="By severity" if len(groups) > 1 else "All perturbations together",
            plot="html",
            data=_strata_table(panel, groups, model, base, labels, places),
        ),
    ]


def _drawing(panel, groups, model, base, data) -> Figure:
    """Return the differences for print: one column of points for each stratum."""
    points = [
        Line("", tuple((float(p["x"]), float(p["y"]), math.nan, math.nan) for p in members), "model", joined=False)
        for members in data.values()
    ]
    rows = [
        {"severity": name, "perturbation": member, "model": model[member], "baseline": base[member],
         "difference": model[member] - base[member]} for name, members in groups.items() for member in members
    ]  # fmt: skip
    ticks = [(float(place), f"{name} ({len(members)})") for place, (name, members) in enumerate(groups.items())]
    return curves(
        f"{panel.id}.perturbations", f"{panel.dataset}, {panel.split} split: best model minus best baseline", points,
        "Severity (perturbations)", f"Difference in {panel.primary.full_title}",
        ("severity", "perturbation", "model", "baseline", "difference"), rows, {"no difference": (0.0, "null")}, ticks,
    )  # fmt: skip


def _strata_table(panel, groups, model, base, labels, places) -> str:
    rows = []
    for name, members in groups.items():
        gains = [model[member] - base[member] for member in members]
        rows.append(
            [
                escape(name),
                f"{len(members)}",
                number(statistics.fmean(model[member] for member in members), places),
                number(statistics.fmean(base[member] for member in members), places),
                f"<b>{number(statistics.fmean(gains), places, signed=True)}</b>",
                f"{sum(panel.primary.better(gain) for gain in gains)} of {len(gains)}",
            ]
        )
    header = [
        "Severity",
        "Perturbations",
        f"Mean, {labels[0]}",
        f"Mean, {labels[1]}",
        "Mean difference",
        "Model better",
    ]
    return f"<p>Ceiling {number(panel.ceiling(panel.primary), places)}.</p>" + table(header, rows)


def strata(rows: list[Row]) -> dict[str, list[str]]:
    """Return perturbation ids by severity: classes as annotated, or terciles of a numeric severity.

    Perturbations without a severity are in no group; gene screens therefore have none.
    """
    known = sorted((row for row in rows if row.get("severity")), key=lambda row: row["perturbation"])
    values = sorted({row["severity"] for row in known})
    numeric = all(_is_number(value) for value in values)
    if not numeric or len(values) <= MOST_STRATA:
        values.sort(key=lambda value: (parse(value) if numeric else _class_rank(value), value))
        return {value: [row["perturbation"] for row in known if row["severity"] == value] for value in values}
    known.sort(key=lambda row: (parse(row["severity"]), row["perturbation"]))
    groups = {}
    for part, name in enumerate(("low", "middle", "high")):
        members = known[part * len(known) // 3 : (part + 1) * len(known) // 3]
        span = f"{parse(members[0]['severity']):.2f} to {parse(members[-1]['severity']):.2f}"
        groups[f"{name} ({span})"] = [row["perturbation"] for row in members]
    return groups


def _class_rank(name: str) -> int:
    """Return the place of a severity class: harmless ones first, then by name (I, II, III, IV)."""
    known = ("synonymous", "wt-like", "wild-type-like", "benign", "mild", "intermediate", "moderate")
    return known.index(name.lower()) if name.lower() in known else len(known)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
