"""Heat maps of the predicted impact of every substitution of a protein."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from vcbench.report import figure
from vcbench.report.figure import Figure
from vcbench.report.inputs import Inputs, Row
from vcbench.report.names import Configuration
from vcbench.report.section import Section, table
from vcbench.report.text import count, decimals, escape, number, parse

MODULE, TITLE = "vcb_atlas", "Atlas of all substitutions"
#: Residues by kind: small, hydrophobic, aromatic, polar, acid, basic.
RESIDUES = "GAPVLIMCFWYSTNQDEKRH"
#: Most positions side by side before the map goes on below, and the size of a cell in pixels.
ACROSS, WIDE, HIGH = 140, 6.0, 8.0
#: Steps of the colour scale.
STEPS = 16
TOP = 20


def sections(inputs: Inputs) -> list[Section]:
    """Return one section per configuration and protein; none when the run made no atlas."""
    rows = inputs.explored.get("atlas", [])
    key = lambda row: (row["dataset"], row["split"], row["model"], row["encoder"], row["strategy"], row["gene"])  # noqa: E731
    return [_section(inputs, *of, list(members)) for of, members in itertools.groupby(sorted(rows, key=key), key=key)]


def _section(
    inputs: Inputs, dataset: str, split: str, model: str, encoder: str, strategy: str, gene: str, rows: list[Row]
) -> Section:
    label = inputs.names.configuration(Configuration(model, encoder, strategy))
    rows.sort(key=lambda row: (int(row["position"]), row["alt"]))
    seen = sum(row["seen"] == "true" for row in rows)
    models = max((int(row["n_models_all"]) for row in rows), default=0)
    title = f"{dataset}, {gene}: impact predicted by {label}"
    drawing = _map(f"{dataset}_{split}.atlas_{model}_{encoder}_{strategy}_{gene}", title, rows)
    text = (
        f"<p>Predicted impact of {count(len(rows), 'substitution')} of {escape(gene)}: mean of the models of "
        f"{count(models, 'fold and seed', 'folds and seeds')} that have not seen the variant. "
        f"{count(seen, 'substitution')} of the screen (dots): other folds <b>have seen</b> them in training, so that "
        "only the models of their test fold count there. Grey: the reference residue. All others are extrapolations: "
        "nothing in this run can say how right they are, except what held-out variants say (leaderboard, known "
        "function).</p>"
    )
    return Section(
        id=f"vcb_atlas_{dataset}_{split}_{model}_{encoder}_{strategy}_{gene}",
        module=MODULE,
        module_title=TITLE,
        title=f"{escape(dataset)} · {escape(gene)} · {escape(label)}",
        plot="html",
        data=text + drawing.html() + _strongest(rows),
        figures=(drawing,),
    )


def _strongest(rows: list[Row]) -> str:
    """Return the strongest predicted substitutions that were not measured."""
    new = sorted((row for row in rows if row["seen"] != "true" and row["impact"]), key=lambda r: -parse(r["impact"]))[
        :TOP
    ]
    if not new:
        return ""
    places = decimals([parse(row["impact"]) for row in new])
    body = [
        [escape(row["perturbation"]), number(parse(row["impact"]), places), number(parse(row["impact_sd"]), places),
         number(parse(row["zero_shot_llr"]), 2)]
        for row in new
    ]  # fmt: skip
    header = ["Substitution", "Impact", "SD between models", "Zero-shot LLR"]
    return f"<details><summary>Strongest substitutions not measured</summary>{table(header, body)}</details>"


def _map(id_: str, title: str, rows: Sequence[Row]) -> Figure:
    """Return the map: positions across, residues down, in blocks of positions one below the other."""
    positions = sorted({int(row["position"]) for row in rows})
    references = {int(row["position"]): row["ref"] for row in rows}
    values = [parse(row["impact"]) for row in rows]
    finite = sorted(value for value in values if math.isfinite(value)) or [0.0]
    low, high = finite[len(finite) // 50], finite[-1 - len(finite) // 50]  # the outermost 2 % share the end colours
    place = {position: at for at, position in enumerate(positions)}
    n_blocks = max(1, -(-len(positions) // ACROSS))
    across = -(-len(positions) // n_blocks)
    left, gap = 24.0, 34.0
    block = HIGH * len(RESIDUES) + gap

    def corner(position: int, residue: str) -> tuple[float, float]:
        at = place[position]
        return left + WIDE * (at % across), block * (at // across) + 6 + HIGH * RESIDUES.index(residue)

    shapes: list[list[str]] = [[] for _ in range(STEPS)]
    grey, dots = [], []
    for row, value in zip(rows, values, strict=True):
        x, y = corner(int(row["position"]), row["alt"])
        if math.isfinite(value):
            share = min(1.0, max(0.0, (value - low) / ((high - low) or 1.0)))
            shapes[round(share * (STEPS - 1))].append(f"M{x:.0f} {y:.0f}h{WIDE:.0f}v{HIGH:.0f}h-{WIDE:.0f}z")
        if row["seen"] == "true":
            dots.append(f'<circle cx="{x + WIDE / 2:.0f}" cy="{y + HIGH / 2:.0f}" r="1.8" fill="#d55e00">'
                        f"<title>{escape(row['perturbation'])}: {value:.4g}</title></circle>")  # fmt: skip
    for position, residue in references.items():
        if residue in RESIDUES:
            x, y = corner(position, residue)
            grey.append(f"M{x:.0f} {y:.0f}h{WIDE:.0f}v{HIGH:.0f}h-{WIDE:.0f}z")
    parts = [
        f'<path d="{"".join(shape)}" fill="#0072b2" fill-opacity="{0.04 + 0.9 * step / (STEPS - 1):.3f}"/>'
        for step, shape in enumerate(shapes) if shape
    ]  # fmt: skip
    parts += [f'<path d="{"".join(grey)}" fill="#999999"/>', *dots]
    for number_of in range(n_blocks):
        for at, residue in enumerate(RESIDUES):
            y = block * number_of + 6 + HIGH * (at + 1) - 1
            style = 'style="font-family:Helvetica,Arial,sans-serif;font-size:8px;fill:currentColor"'
            parts.append(f'<text x="{left - 6:.0f}" y="{y:.0f}" text-anchor="end" {style}>{residue}</text>')
    for position in positions:
        if place[position] % 10 == 0:
            x, y = corner(position, RESIDUES[-1])
            parts.append(figure.text(x, y + HIGH + 14, str(position)))
    bottom = block * n_blocks + 6
    for step in range(STEPS):
        parts.append(f'<rect x="{left + 12 * step:.0f}" y="{bottom:.0f}" width="12" height="10" fill="#0072b2" '
                     f'fill-opacity="{0.04 + 0.9 * step / (STEPS - 1):.3f}"/>')  # fmt: skip
    parts.append(figure.text(left + 12 * STEPS + 8, bottom + 10, f"impact {low:.3g} to {high:.3g}; dots: measured"))
    width = left + WIDE * across + 30
    drawing = figure.svg(max(width, 420), bottom + 20, parts, title)
    return Figure(id_, title, drawing, tuple(rows[0]), tuple(rows))
