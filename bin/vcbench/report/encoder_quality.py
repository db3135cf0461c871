"""The vectors in numbers: one table per dataset, each number explained."""

from __future__ import annotations

import math
import re

from vcbench.report import encoder_flags
from vcbench.report.inputs import Inputs, Row
from vcbench.report.section import Section, table
from vcbench.report.text import NO_VALUE, count, escape, number, parse

#: Column of the table and what its number means.
EXPLAINED = {
    "Vectors": "Perturbations that change something × width of their vectors.",
    "Length": "Euclidean norm: median, and the range of the middle 90 %. Models that do not rescale their input treat "
    "encoders of different length differently.",
    "Spread": "Distance from the mean vector as a share of the length. Near 0, all vectors are nearly the same.",
    "Directions": "Effective rank: exp of the entropy of the singular values of the centred vectors (Roy & Vetterli "
    "2007), of the largest possible number. Perturbations differ in about this many independent ways.",
    "First axis": "Share of the variance on the first principal component.",
    "Equal": "Perturbations whose vector equals that of another one in every digit.",
    "Beyond own reference": "Share of variants whose nearest neighbour, among all variants and all references, is not "
    "their own reference. 0 %: the vector says where the variant is rather than what it changes.",
    "Same position, severity, domain": "How often the nearest neighbour shares the label; below it, what permuted "
    "labels give (mean ± standard deviation). Bold: more than two standard deviations above. Only there can "
    "a nearest-neighbour rule work.",
}
HEADER = [
    "Encoder", "What is wrong", "Vectors", "Length", "Spread", "Directions", "First axis", "Equal",
    "Beyond own reference", "Same position", "Same severity", "Same domain",
]  # fmt: skip
LABELS = ("position", "severity", "domain")


def sections(inputs: Inputs, module: str, module_title: str) -> list[Section]:
    """Return the section with one table per dataset and the meaning of every column."""
    rows = inputs.encoders["quality"]
    order = list(inputs.names.encoders)
    html = ""
    for dataset in sorted({row["dataset"] for row in rows}):
        mine = sorted(
            (row for row in rows if row["dataset"] == dataset),
            key=lambda row: (
                order.index(row["encoder"]) if row["encoder"] in order else -1,
                row["encoder"],
                row["strategy"],
            ),
        )
        html += f"<h5>{escape(dataset)}</h5>" + table(HEADER, [_cells(row, inputs) for row in mine], "vcb-vectors")
        html += _empty(mine, inputs)
    meanings = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in EXPLAINED.items())
    html += f'<dl class="vcb-meanings">{meanings}</dl>'
    return [Section("vcb_encoders_quality", module, module_title, "The vectors in numbers", "html", html)]


def _cells(row: Row, inputs: Inputs) -> list[str]:
    low, middle, high = (parse(row[f"norm_{name}"]) for name in ("q05", "median", "q95"))
    interval = f"{_short(low)} to {_short(high)}".replace(" ", "\u00a0")
    span = f"<br><small>{interval}</small>" if math.isfinite(low) else ""
    largest = parse(row["effective_rank_max"])
    rank = parse(row["effective_rank"])
    return [
        f"<b>{escape(inputs.names.encoder(row['encoder']))}</b><br>{escape(row['strategy'])}",
        "<br>".join(_flag(flag, on_purpose) for flag, on_purpose in encoder_flags.of(row, inputs)) or "nothing found",
        f"{int(row['n']):,} × {int(row['dimensions']):,}",
        _short(middle) + span,
        _percent(parse(row["relative_spread"])),
        f"{number(rank, 1)}<br><small>of {largest:,.0f}</small>" if math.isfinite(rank) else NO_VALUE,
        _percent(parse(row["pc1_share"])),
        f"{int(row['n_duplicates']):,}",
        _percent(parse(row["not_own_reference"])),
        *(_agreement(row, label) for label in LABELS),
    ]


def _flag(flag: encoder_flags.Flag, on_purpose: bool) -> str:
    name = escape(flag.name)
    if on_purpose:
        return f'<span class="vcb-muted" title="{escape(flag.meaning)}">{name} (control)</span>'
    css = "vcb-bad" if flag.fault else "vcb-caution"
    return f'<b class="{css}" title="{escape(flag.meaning)}">{name}</b>'


def _agreement(row: Row, label: str) -> str:
    share, chance, spread = (parse(row[f"{label}_{name}"]) for name in ("agreement", "chance", "chance_sd"))
    if not math.isfinite(share):
        return NO_VALUE
    text = _percent(share)
    places = 0 if chance >= 0.1 else 1
    if share > chance + 2 * spread:
        text = f"<b>{text}</b>"
    return f"{text}<br><small>{number(100 * chance, places)} ± {number(100 * spread, places)} %</small>"


def _empty(rows: list[Row], inputs: Inputs) -> str:
    """Return why cells are empty, folded: reason by reason, the encodings it holds for."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        for part in filter(None, row["undefined"].split("; ")):
            column, _, why = part.partition(": ")
            reasons.setdefault(f"{_column(column)}: {why}", []).append(
                f"{inputs.names.encoder(row['encoder'])} {row['strategy']}"
            )
    shown = {why: names for why, names in reasons.items() if "a property of" not in why}
    if not shown:
        return ""
    items = "".join(
        f"<li>{escape(why)} ({count(len(names), 'table row')}"
        f"{': ' + escape(', '.join(names)) if len(names) < len(rows) else ', all'})</li>"
        for why, names in sorted(shown.items())
    )
    return f"<details><summary>Why cells are empty</summary><ul>{items}</ul></details>"


def _column(name: str) -> str:
    """Return the heading of a column of the quality table."""
    names = {
        "relative_spread": "Spread", "effective_rank": "Directions", "pc1_share": "First axis",
        "not_own_reference": "Beyond own reference", "synonymous_diff_zero": "Check of synonymous variants",
    }  # fmt: skip
    if re.fullmatch(r"norm_\w+", name):
        return "Length"
    label = name.removesuffix("_agreement")
    return f"Same {label}" if label in LABELS else names.get(name, name)


def _percent(value: float) -> str:
    if not math.isfinite(value):
        return NO_VALUE
    places = 0 if value >= 0.1 or value == 0 else 1 if value >= 0.001 else 3
    return f"{number(100 * value, places)}\u00a0%"


def _short(value: float) -> str:
    if not math.isfinite(value):
        return NO_VALUE
    return number(value, max(0, 2 - math.floor(math.log10(value))) if 0 < value < 100 else 0)
