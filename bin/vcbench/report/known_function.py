"""Do predicted impacts rank variants as deep mutational scans, AlphaMissense or ClinVar do?"""

from __future__ import annotations

import itertools
import math

from vcbench.report.inputs import Inputs, Row
from vcbench.report.names import Configuration
from vcbench.report.section import Section
from vcbench.report.strip import Marks, Scale, axis, strip
from vcbench.report.text import count, decimals, escape, interval, number, parse

MODULE, TITLE = "vcb_known", "Known function"
#: Models shown of each statistic before the others fold away.
SHOWN = 10
STATISTICS = {
    "auroc": "AUROC: how often a damaging variant is ranked above a harmless one",
    "auprc": "AUPRC: share of damaging variants among the top, averaged over how far one reads",
    "spearman": "Spearman correlation of impact and known value",
}
WHICH = {
    "held_out": "Held-out variants: each predicted by a model that never saw it",
    "unmeasured": "All substitutions that were not measured (atlas)",
}
EXPLANATION = (
    "<p>Impact is the size of the predicted change from unperturbed cells. Does it say what other sources know of a "
    "variant? Models are not told, except the mean over annotated classes, which may be given the very column it is "
    "held against. Only variants of the same fold are compared. Dashed green line: the <b>measured</b> effect, what a "
    "perfect prediction would rank by. Solid orange line: the <b>zero-shot</b> score of a protein language model, "
    "which never saw a cell (column <i>minus zero-shot</i>).</p>"
)


def sections(inputs: Inputs) -> list[Section]:
    """Return one section per dataset, split and kind of variants; none when the run was not asked."""
    rows = inputs.explored.get("known_function", [])
    found = []
    unusable = [row for row in rows if not row["statistic"]]
    keyed = sorted((row for row in rows if row["statistic"]), key=_place)
    for (dataset, split, which), members in itertools.groupby(keyed, key=_place):
        own = list(members)
        boards = "".join(
            _board(inputs, list(part)) for _, part in itertools.groupby(own, key=lambda r: (r["known"], r["statistic"]))
        )
        title = f"{escape(dataset)} · {escape(split)} split" + ("" if which == "held_out" else " · atlas")
        text = f"<p><b>{WHICH.get(which, escape(which))}</b></p>" + EXPLANATION + boards
        found.append(Section(f"vcb_known_{dataset}_{split}_{which}", MODULE, TITLE, title, "html", text))
    if unusable:
        items = sorted({f"<b>{escape(row['known'])}</b> {_where(row)}: {escape(row['reason'])}" for row in unusable})
        html = '<div class="vcb-alert"><ul>' + "".join(f"<li>{item}</li>" for item in items) + "</ul></div>"
        found.append(Section("vcb_known_unusable", MODULE, TITLE, "Columns or classes without use", "html", html))
    return found


def _place(row: Row) -> tuple[str, str, str]:
    return row["dataset"], row["split"], row["variants"]


def _where(row: Row) -> str:
    return f"({escape(row['dataset'])}, {escape(row['split'])} split)" if row["dataset"] else ""


def _board(inputs: Inputs, rows: list[Row]) -> str:
    """Return the rows of one known column and statistic: references first, then models, best first."""
    head = rows[0]
    values = [parse(row["value"]) for row in rows]
    where = Scale.covering(itertools.chain(values, *((parse(r["ci_low"]), parse(r["ci_high"])) for r in rows)))
    places = decimals(values)
    reference = {kind: next((parse(r["value"]) for r in rows if r["class"] == kind), math.nan)
                 for kind in ("zero_shot", "measured")}  # fmt: skip
    first = [row for row in rows if row["class"] in reference]
    models = sorted(
        (r for r in rows if r not in first), key=lambda r: (_rank(r), r["model"], r["encoder"], r["strategy"])
    )
    drawn = [_row(inputs, row, where, places, reference) for row in (*first, *models)]
    shown, folded = drawn[: len(first) + SHOWN], drawn[len(first) + SHOWN :]
    more = (f"<details><summary>Show the other {count(len(folded), 'configuration')}</summary>"
            f'<div class="vcb-board">{"".join(folded)}</div></details>') if folded else ""  # fmt: skip
    positive = f", {head['n_positive']} damaging" if head["n_positive"] else ""
    left = f"; left out: {escape(head['left_out'].replace(';', ', '))}" if head["left_out"] else ""
    chance = max((parse(row["chance"]) for row in rows if row["chance"]), default=math.nan)
    by_chance = f"; chance {number(chance, places)}" if math.isfinite(chance) else ""
    approximate = " Intervals are approximate (fewer than 30 residues)." if head["interval"].startswith("t_") else ""
    return (
        f"<h4>{escape(head['known'])}</h4><p>{STATISTICS.get(head['statistic'], escape(head['statistic']))} "
        f"({count(parse(head['n_expected']), 'variant')}{positive}{left}{by_chance}).{approximate}</p>"
        '<div class="vcb-board"><div class="vcb-row vcb-head"><div class="vcb-name">Ranked by</div>'
        f'<div class="vcb-plot">{axis(where)}</div><div class="vcb-value">value (95 % interval)</div>'
        f'<div class="vcb-gain">minus zero-shot</div></div>{"".join(shown)}</div>{more}'
    )


def _rank(row: Row) -> float:
    value = parse(row["value"])
    return -value if math.isfinite(value) else math.inf


def _name(inputs: Inputs, row: Row) -> str:
    if row["class"] == "measured":
        return "Measured effect"
    if row["class"] == "zero_shot":
        return f"Zero-shot score ({inputs.names.encoder(row['model'])})"
    return inputs.names.configuration(Configuration(row["model"], row["encoder"], row["strategy"]))


def _row(inputs: Inputs, row: Row, where: Scale, places: int, reference: dict[str, float]) -> str:
    value, low, high = (parse(row[name]) for name in ("value", "ci_low", "ci_high"))
    label = escape(_name(inputs, row))
    configuration = Configuration(row["model"], row["encoder"], row["strategy"])
    baseline = row["class"] in ("baseline", "zero_shot")
    kind = "control" if inputs.names.is_control_input(configuration) else "baseline" if baseline else "model"
    known = math.isfinite(value)
    marks = Marks(value, low, high, baseline=reference["zero_shot"], ceiling=reference["measured"], kind=kind,
                  tooltip=f"{_name(inputs, row)}: {number(value, places)}, n = {row['n']}")  # fmt: skip
    text = (f"<b>{number(value, places)}</b> <small>{interval(low, high, places)}</small>" if known
            else f'<small class="vcb-muted">{escape(row["reason"])}</small>')  # fmt: skip
    fewer = (
        "" if row["n"] == row["n_expected"] else f' <small class="vcb-muted">{row["n"]} of {row["n_expected"]}</small>'
    )
    difference = [parse(row[name]) for name in ("zero_shot_difference", "difference_low", "difference_high")]
    gain = ""
    if math.isfinite(difference[0]):
        ends = interval(*difference[1:], places, signed=True)
        gain = f"{number(difference[0], places, signed=True)} <small>{ends}</small>"
    return (
        f'<div class="vcb-row"><div class="vcb-name">{label}{fewer}</div>'
        f'<div class="vcb-plot">{strip(where, marks)}</div>'
        f'<div class="vcb-value">{text}</div><div class="vcb-gain">{gain}</div></div>'
    )
