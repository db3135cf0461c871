"""Score against number of training perturbations: would measuring more help?"""

from __future__ import annotations

import itertools
import math

from vcbench.report.figure import Line, curves
from vcbench.report.inputs import Inputs, Row
from vcbench.report.names import Configuration
from vcbench.report.section import Section, table
from vcbench.report.text import count, decimals, escape, interval, number, parse

MODULE, TITLE = "vcb_curve", "Learning curve"
ENDS = ("value", "ci_low", "ci_high")
#: Colours of the curves drawn, the best configuration of each model first.
KINDS = ("model", "bad", "other", "control", "null")


def sections(inputs: Inputs) -> list[Section]:
    """Return one section per dataset and split with a curve of the primary metric; none when the run has none."""
    primary = inputs.names.primary()
    rows = [
        r
        for r in inputs.explored.get("learning_curve", [])
        if (r["metric"], r["gene_set"]) == (primary.id, primary.gene_set)
    ]
    keyed = sorted(rows, key=lambda row: (row["dataset"], row["split"]))
    return [
        _section(inputs, dataset, split, list(members))
        for (dataset, split), members in itertools.groupby(keyed, key=lambda row: (row["dataset"], row["split"]))
    ]


def _of(row: Row) -> Configuration:
    return Configuration(row["model"], row["encoder"], row["strategy"])


def _section(inputs: Inputs, dataset: str, split: str, rows: list[Row]) -> Section:
    names, primary = inputs.names, inputs.names.primary()
    points: dict[Configuration, list[Row]] = {}
    for row in rows:
        points.setdefault(_of(row), []).append(row)
    for of in points.values():
        of.sort(key=lambda row: (parse(row["n_train"]), row["trained_on"] == "all"))
    sign = 1 if primary.lower_is_better else -1
    end = {
        item: next((parse(r["value"]) for r in of if r["trained_on"] == "all"), math.nan) for item, of in points.items()
    }
    ranked = sorted(points, key=lambda item: (sign * end[item] if math.isfinite(end[item]) else math.inf, item))
    best_of = {item.model: item for item in reversed(ranked)}
    drawn = [item for item in ranked if best_of[item.model] == item][: len(KINDS)]
    sizes = [parse(row["n_train"]) for item in drawn for row in points[item] if row["n_train"]]
    apart = 0.008 * (max(sizes, default=1.0) - min(sizes, default=0.0))  # bars of several curves do not hide each other
    lines = [
        Line(names.configuration(item), tuple(
            (parse(row["n_train"]) + apart * (at - (len(drawn) - 1) / 2), *(parse(row[key]) for key in ENDS))
            for row in points[item]
        ), kind)
        for at, (item, kind) in enumerate(zip(drawn, KINDS, strict=False))
    ]  # fmt: skip
    baseline = Configuration(rows[0]["baseline_model"], rows[0]["baseline_encoder"], rows[0]["baseline_strategy"])
    levels = {}
    if baseline.model:
        levels[f"best simple baseline, all data ({names.configuration(baseline)})"] = (
            parse(rows[0]["baseline"]),
            "baseline",
        )
    columns = tuple(rows[0])
    title = f"{dataset}, {split} split: {primary.full_title} against training perturbations"
    drawing = curves(
        f"{dataset}_{split}.learning_curve", title, lines, "training perturbations (mean over folds)",
        primary.full_title, columns, sorted(rows, key=lambda r: (_of(r), parse(r["n_train"]))), levels,
    )  # fmt: skip
    return Section(
        id=f"vcb_curve_{dataset}_{split}",
        module=MODULE,
        module_title=TITLE,
        title=f"{escape(dataset)} · {escape(split)} split",
        plot="html",
        data=_reading(inputs, points, drawn) + drawing.html() + _table(inputs, points, ranked),
        figures=(drawing,),
    )


def _reading(inputs: Inputs, points: dict[Configuration, list[Row]], drawn: list[Configuration]) -> str:
    """Return what the curve says of the best configuration: did the last step of more data still help?"""
    text = (
        "<p>Every point is trained on a part of its fold's training perturbations, larger parts holding the smaller "
        "ones, and scored on the same test perturbations; undefined predictions count as no skill. Validation "
        "perturbations are always the same. Bars are 95 % intervals over test perturbations.</p>"
    )
    if not drawn:
        return text
    parts = [row for row in points[drawn[0]] if row["trained_on"] != "all" and math.isfinite(parse(row["gain_to_all"]))]
    if not parts:
        return text
    last = parts[-1]
    gain, low, high = (parse(last[name]) for name in ("gain_to_all", "gain_low", "gain_high"))
    verdict = (
        "the gain is resolved: more measured perturbations would probably help further" if low > 0
        else "training on more made it worse" if high < 0
        else "no gain is resolved: this curve gives no reason to expect much from more perturbations of this kind, "
        "nor does it exclude gains inside the interval"
    )  # fmt: skip
    places = decimals([gain, low, high])
    return (
        f"<p><b>{escape(inputs.names.configuration(drawn[0]))}</b>, best with everything: from "
        f"{count(parse(last['n_train']), 'training perturbation')} to all, {number(gain, places, signed=True)} "
        f"({interval(low, high, places, signed=True)}); {verdict}.</p>" + text
    )


def _table(inputs: Inputs, points: dict[Configuration, list[Row]], ranked: list[Configuration]) -> str:
    values = [parse(row["value"]) for of in points.values() for row in of]
    places = decimals(values)
    rows = [
        [
            escape(inputs.names.configuration(item)), escape(row["trained_on"]), number(parse(row["n_train"]), 1),
            f"<b>{number(parse(row['value']), places)}</b>",
            interval(parse(row["ci_low"]), parse(row["ci_high"]), places),
            interval(parse(row["gain_low"]), parse(row["gain_high"]), places, signed=True),
            f"{escape(row['units_ok'])} of {escape(row['units_planned'])}",
        ]
        for item in ranked for row in points[item]
    ]  # fmt: skip
    header = ["Configuration", "Trained on", "Perturbations", "Score", "95 % interval", "Gain to all", "Units"]
    return f"<details><summary>All numbers</summary>{table(header, rows)}</details>"
