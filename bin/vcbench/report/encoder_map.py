"""Maps: perturbations on the two main axes of their vectors, coloured by what is known about them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from vcbench.report import encoder_flags
from vcbench.report.inputs import Inputs, Row
from vcbench.report.perturbations import COLOURS, strata
from vcbench.report.section import Section, table
from vcbench.report.text import count, escape, listing, number, parse

#: A browser draws every point by itself; more are thinned evenly and the text says so.
MOST_POINTS = 800
#: Points of all tabs of a plot together; beyond it, controls are left out.
MOST_IN_ALL = 20_000
NOT_KNOWN = "not known"
SCORE = "zero_shot_llr"


def sections(inputs: Inputs, module: str, module_title: str) -> list[Section]:
    """Return the maps of each dataset by severity and by domain, and the zero-shot LLR in numbers."""
    rows = inputs.encoders.get("map", [])
    found: list[Section | None] = []
    for dataset in sorted({row["dataset"] for row in rows}):
        mine = [row for row in rows if row["dataset"] == dataset]
        severities = _severities(inputs, dataset)
        scores = {row["perturbation"]: parse(row[SCORE]) for row in mine if row[SCORE]}
        colourings: list[tuple[str, Mapping[str, str]]] = [
            ("severity", severities),
            ("domain", {row["perturbation"]: row.get("domain", "") for row in mine}),
        ]
        known = [(name, labels) for name, labels in colourings if len(set(labels.values()) - {""}) > 1]
        for name, labels in known or [("", {})]:
            found.append(_section(inputs, dataset, mine, name, labels, scores, module, module_title))
        found.append(_scores(dataset, severities, scores, module, module_title))
    return [item for item in found if item]


def _severities(inputs: Inputs, dataset: str) -> dict[str, str]:
    groups = strata(inputs.usable(dataset))
    return {member: name for name, members in groups.items() for member in members}


def _section(
    inputs: Inputs,
    dataset: str,
    rows: Sequence[Row],
    colouring: str,
    labels: Mapping[str, str],
    scores: Mapping[str, float],
    module: str,
    module_title: str,
) -> Section:
    groups = _groups(labels, [row["perturbation"] for row in rows])
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(groups)}
    if groups and NOT_KNOWN in colours:
        colours[NOT_KNOWN] = "#bbbbbb"
    tabs, left_out = _tabs(inputs, rows)
    n = max(len(points) for points in tabs.values())
    data, names = [], []
    for (encoder, strategy), points in tabs.items():
        first = points[0]
        x, y = (f"{text} axis ({100 * parse(first[key]):.0f} % of the variance)" for text, key in
                (("First", "x_share"), ("Second", "y_share")))  # fmt: skip
        title = f"{inputs.names.encoder(encoder)}, {strategy}"
        names.append({"name": escape(title), "xlab": x, "ylab": y})
        data.append(
            {
                escape(row["perturbation"]): [_point(row, labels, colours, scores)]
                for row in sorted(_thinned(points), key=lambda row: _rank(groups, labels, row))
            }
        )
    by = f", by {colouring}" if colouring else ""
    text = (
        "Principal components of the vectors: what is near in the map is alike to the model, as far as two axes show "
        "it (their share of the variance stands at the axes). Buttons change the encoder. "
    )
    if colouring:
        text += f"Where colours mix, a nearest-neighbour rule on these vectors cannot know the {colouring}. "
    if any(row["consequence"] == "synonymous" for row in rows):
        text += "Synonymous variants (diamonds) lie where “no change” is. "
    if n > MOST_POINTS:
        text += f"{count(MOST_POINTS, 'perturbation')} of {n:,} are drawn; all are in encoder_map.tsv. "
    if left_out:
        text += f"Not drawn, to keep the page light: {escape(listing(left_out))}. "
    legend = "".join(
        f'<span><span class="vcb-key" style="background:{colours[name]}"></span>{escape(name)}</span>'
        for name in groups
    )
    suffix = f"_{colouring}" if colouring else ""
    return Section(
        id=f"vcb_encoders_map_{dataset}{suffix}",
        module=module,
        module_title=module_title,
        title=f"Map of {escape(dataset)}{by}",
        plot="scatter",
        data=data,
        description=text + (f'<span class="vcb-legend">{legend}</span>' if colouring else ""),
        options={
            "pconfig": {
                "id": f"vcb_encoders_map_{dataset}{suffix}_plot",
                "title": f"Map of {escape(dataset)}{by}",
                **({"xlab": names[0]["xlab"], "ylab": names[0]["ylab"]}),
                "data_labels": names,
                "xsuffix": "",
                "ysuffix": "",
                "marker_size": 9,
                "height": 520,
                "showlegend": False,
                "series_label": False,
                "save_data_file": False,
            }
        },
    )


def _groups(labels: Mapping[str, str], members: Sequence[str]) -> list[str]:
    """Return the labels in their order, the unknown last."""
    known = list(dict.fromkeys(name for name in labels.values() if name))
    return [*known, NOT_KNOWN] if any(not labels.get(member) for member in members) else known


def _rank(groups: Sequence[str], labels: Mapping[str, str], row: Row) -> tuple[int, str]:
    """Draw what is not known first, below the rest."""
    name = labels.get(row["perturbation"]) or NOT_KNOWN
    return (groups.index(name) if name in groups and name != NOT_KNOWN else -1, row["perturbation"])


def _point(
    row: Row, labels: Mapping[str, str], colours: Mapping[str, str], scores: Mapping[str, float]
) -> dict[str, Any]:
    label = labels.get(row["perturbation"]) or NOT_KNOWN
    name = row["perturbation"]
    if labels:
        name += f", {label}"
    if math.isfinite(scores.get(row["perturbation"], math.nan)):
        name += f", LLR {number(scores[row['perturbation']], 2)}"
    synonymous = row.get("consequence") == "synonymous"
    return {
        "x": parse(row["x"]),
        "y": parse(row["y"]),
        "name": escape(name),
        "color": colours.get(label, COLOURS[0]),
        "annotate": False,
        "hide_in_legend": True,
        **({"marker_symbol": "diamond"} if synonymous else {}),
    }


def _tabs(inputs: Inputs, rows: Sequence[Row]) -> tuple[dict[tuple[str, str], list[Row]], list[str]]:
    """Return {(encoder, strategy): rows} in catalogue order, and the encoders left out to keep the page light.

    Negative controls and single numbers have no map worth looking at; without anything else they are drawn.
    """
    entries = inputs.names.encoders
    order = list(entries)
    tabs: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        tabs.setdefault((row["encoder"], row["strategy"]), []).append(row)
    telling = [
        key
        for key in tabs
        if not entries.get(key[0], {}).get("negative_control") and parse(tabs[key][0]["y_share"]) > 0
    ]
    ranked = sorted(
        telling or tabs,
        key=lambda key: (
            encoder_flags.is_control(key[0], inputs),
            order.index(key[0]) if key[0] in order else -1,
            key,
        ),
    )
    kept: dict[tuple[str, str], list[Row]] = {}
    dropped: list[str] = []
    total = 0
    for key in ranked:
        total += min(len(tabs[key]), MOST_POINTS)
        if kept and total > MOST_IN_ALL:
            dropped.append(f"{inputs.names.encoder(key[0])} {key[1]}")
        else:
            kept[key] = tabs[key]
    return kept, dropped


def _thinned(rows: Sequence[Row]) -> list[Row]:
    """Return at most MOST_POINTS rows, evenly spread over the names; the same ones in every tab of a dataset."""
    if len(rows) <= MOST_POINTS:
        return list(rows)
    ordered = sorted(rows, key=lambda row: row["perturbation"])
    return [ordered[i * len(ordered) // MOST_POINTS] for i in range(MOST_POINTS)]


def _scores(
    dataset: str, severities: Mapping[str, str], scores: Mapping[str, float], module: str, module_title: str
) -> Section | None:
    """Return the LLR by severity and, folded, of every variant."""
    if not scores:
        return None
    groups: dict[str, list[float]] = {name: [] for name in _groups(severities, list(scores))}
    for member, value in scores.items():
        groups[severities.get(member) or NOT_KNOWN].append(value)
    rows = [
        [escape(name), f"{len(values)}", f"<b>{number(statistics.median(values), 2)}</b>",
         f"{number(min(values), 2)} to {number(max(values), 2)}"]
        for name, values in groups.items() if values
    ]  # fmt: skip
    single = [
        [escape(name), escape(severities.get(name) or NOT_KNOWN), number(value, 2)]
        for name, value in sorted(scores.items(), key=lambda item: (item[1], item[0]))
    ]
    html = (
        "<p>Log-likelihood ratio of the changed residue against the reference residue, with the position masked "
        "(ESM2): log p(variant) − log p(reference), without any training. Negative: an unlikely variant. "
        "If a single number orders the severities, a whole vector should do better than it.</p>"
        + table(["Severity", "Variants", "Median LLR", "Range"], rows)
        + f"<details><summary>All {count(len(single), 'variant')}, the least likely first</summary>"
        + table(["Variant", "Severity", "LLR"], single)
        + "</details>"
    )
    return Section(
        f"vcb_encoders_llr_{dataset}", module, module_title, f"Zero-shot LLR of {escape(dataset)}", "html", html
    )
