"""The best model in every headline metric: value, chance, ceiling, and differences to both references (10.7)."""

from __future__ import annotations

import math

from vcbench.report.inputs import Inputs, Row
from vcbench.report.names import Configuration, Metric, reasons
from vcbench.report.panel import BEST_BASELINE, Panel
from vcbench.report.section import table
from vcbench.report.text import NO_VALUE, count, decimals, escape, interval, number, p_value, parse

TRAIN_MEAN = "train_mean"
HEADER = [
    "Metric", "Score (95 % interval)", "Minus train mean", "Minus best baseline of this metric", "Chance", "Ceiling",
    "Scaled", "Perturbations", "SD over seeds",
]  # fmt: skip


def html(panel: Panel, inputs: Inputs, best: Configuration) -> tuple[str, str]:
    """Return the conclusion in a sentence and the table of the configuration `best`."""

    def own(row: Row) -> bool:
        keys = ("dataset", "split", "model", "encoder", "strategy")
        return tuple(row[key] for key in keys) == (panel.dataset, panel.split, best.model, best.encoder, best.strategy)

    scores = {(row["metric"], row["gene_set"]): row for row in inputs.leaderboard if own(row)}
    contrasts = {
        (row["metric"], row["gene_set"], row.get("reference", BEST_BASELINE)): row
        for row in inputs.contrasts if own(row)
    }  # fmt: skip
    rows, better, judged = [], 0, 0
    for metric in panel.names.headline():
        row = scores.get((metric.id, metric.gene_set))
        if row is None:
            continue
        against = contrasts.get((metric.id, metric.gene_set, BEST_BASELINE))
        judged += against is not None
        better += against is not None and against.get("verdict") == "better"
        rows.append(_row(metric, row, contrasts.get((metric.id, metric.gene_set, TRAIN_MEAN)), against))
    name = escape(panel.names.configuration(best))
    says = f"{name} is significantly better than the best baseline in {better} of {count(judged, 'headline metric')}."
    text = (
        f"<p>{name}. Only the first metric was declared in advance; the others are exploratory. Scaled: 0 = train "
        "mean, 1 = one half of the cells predicting the other half; empty where the metric cannot tell these two apart "
        "on this dataset. Hover over a name for what it asks.</p>"
    )
    return says, text + table(HEADER, rows)


def _row(metric: Metric, row: Row, train_mean: Row | None, best_baseline: Row | None) -> list[str]:
    """Return the cells of one metric."""
    numbers = {key: parse(row.get(key)) for key in ("value", "ci_low", "ci_high", "null_low", "null_high", "ceiling",
                                                    "scaled", "seed_sd", "n", "n_expected")}  # fmt: skip
    places = decimals([numbers["value"], numbers["ceiling"]])
    known = math.isfinite(numbers["value"])
    value = f"<b>{number(numbers['value'], places)}</b> ({interval(numbers['ci_low'], numbers['ci_high'], places)})"
    arrow = "↓" if metric.lower_is_better else "↑"
    perturbations = f"{numbers['n']:.0f} of {numbers['n_expected']:.0f}"
    if row.get("reasons"):
        perturbations += f"<br><small>{escape(reasons(row['reasons']))}</small>"
    flat = row.get("discriminates", "").lower() == "false"
    return [
        f'<span title="{escape(metric.explanation)}">{escape(metric.full_title)} {arrow}</span>',
        value if known else escape(reasons(row.get("reasons", ""))),
        _difference(train_mean, places),
        _difference(best_baseline, places),
        interval(numbers["null_low"], numbers["null_high"], places),
        number(numbers["ceiling"], places),
        "cannot discriminate" if flat else number(numbers["scaled"], 2),
        perturbations,
        number(numbers["seed_sd"], places),
    ]


def _difference(row: Row | None, places: int) -> str:
    """Return a difference with its interval and corrected p value."""
    if row is None or not math.isfinite(parse(row["difference"])):
        return NO_VALUE
    css = {"better": "vcb-good", "worse": "vcb-bad"}.get(row.get("verdict", ""), "")
    ends = interval(parse(row["ci_low"]), parse(row["ci_high"]), places, signed=True)
    return (
        f'<b class="{css}">{number(parse(row["difference"]), places, signed=True)}</b> '
        f"<small>{ends}; {p_value(parse(row['p_holm']))}</small>"
    )
