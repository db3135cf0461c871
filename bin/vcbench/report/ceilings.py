"""What each metric can show on a dataset: its controls, its dynamic range, and whether it can rank models at all."""

from __future__ import annotations

import math

from vcbench.report.inputs import Inputs, Row
from vcbench.report.names import Metric
from vcbench.report.panel import Panel
from vcbench.report.section import Section, table
from vcbench.report.statistics import mine
from vcbench.report.text import NO_VALUE, escape, number, parse

TITLE = "What each metric can show here"
USABLE = "usable"
#: What a status of ceilings.tsv means to a reader.
STATUSES = {
    USABLE: "yes",
    "low_range": "hardly: a replicate measurement is little or not better than the base",
    "not_discriminating": "no: the replicate does not beat the train mean beyond its error",
    "no_ceiling": "unknown: no replicate could be made",
    "no_base": "unknown: its base was not run",
    "no_direction": "nothing to rank by",
}
_BASES = {"train_mean": "train mean", "no_change": "no change"}


def section(panel: Panel, inputs: Inputs, module: str, module_title: str) -> Section | None:
    """Return the table of the headline metrics; None without the table of ceilings or when scores are withheld."""
    if panel.missing_controls():
        return None
    found = {(row["metric"], row["gene_set"]): row for row in mine(panel, inputs.ceilings)}
    shown = [(m, found[m.id, m.gene_set]) for m in inputs.names.headline() if (m.id, m.gene_set) in found]
    if not shown:
        return None
    cross = any(row.get("cross_line") for _, row in shown)
    header = ["Metric", "Can it rank models?", "Genes (fewest)", "Base", "Replicate (half)",
              "Two full replicates", "Without noise",
              "Shrunken replicate", "Mean of the test perturbations (looks at them)",
              *(["Other cell line"] if cross else []), "Dynamic range"]  # fmt: skip
    return Section(
        id=f"{panel.id}_ceilings",
        module=module,
        module_title=module_title,
        title=TITLE,
        plot="html",
        data=summary(shown) + table(header, [_row(metric, row, cross) for metric, row in shown]) + _explanation(cross),
    )


def summary(shown: list[tuple[Metric, Row]]) -> str:
    """Return one sentence: which headline metrics can rank models on this dataset, and which cannot."""
    good = [metric for metric, row in shown if row["status"] == USABLE]
    bad = [metric.full_title for metric, row in shown if row["status"] != USABLE]
    text = f"<b>{len(good)} of {len(shown)} headline metrics can rank models on this dataset.</b>"
    if bad:
        text += f" Read differences in the others with care: {escape('; '.join(bad))}."
    return f"<p>{text}</p>"


def _row(metric: Metric, row: Row, cross: bool) -> list[str]:
    def value(name: str) -> str:
        return number(parse(row.get(name)), 3)

    base = f"{value('base_value')} <small>({escape(_BASES.get(row['base'], row['base']))})</small>"
    words = escape(STATUSES.get(row["status"], row["status"]))
    other = [f"{value('cross_line')} <small>({escape(row.get('cross_line_dataset', ''))})</small>"] if cross else []
    return [
        escape(metric.full_title),
        f"<b>{words}</b>" if row["status"] != USABLE else words,
        genes(row),
        base if row["base"] else NO_VALUE,
        value("tech_duplicate"),
        value("full_vs_full"),
        value("noise_free"),
        value("interpolated_duplicate"),
        value("ce2_context_mean"),
        *other,
        bar(parse(row["drf"]), parse(row["drf_low"]), parse(row["drf_high"])),
    ]


def genes(row: Row) -> str:
    """Return the median number of genes behind a value, and the smallest where it differs."""
    middle, fewest = (parse(row[f"n_genes_{name}"]) for name in ("median", "min"))
    return number(middle, 0) + (f" ({number(fewest, 0)})" if fewest < middle else "")


def bar(middle: float, low: float, high: float) -> str:
    """Return a dynamic range (-1 to 1) as number and a small drawing with its interval; a dash without one."""
    if not math.isfinite(middle):
        return NO_VALUE
    width, height = 120, 14

    def at(value: float) -> float:
        return (value + 1) / 2 * width

    ends = ""
    if math.isfinite(low) and math.isfinite(high):
        ends = f'<line x1="{at(low):.1f}" x2="{at(high):.1f}" y1="7" y2="7" stroke="#0072b2" stroke-width="2"/>'
    svg = (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{middle:.2f}">'
        f'<line x1="0" x2="{width}" y1="7" y2="7" stroke="currentColor" stroke-opacity=".2"/>'
        f'<line x1="{width / 2}" x2="{width / 2}" y1="1" y2="13" stroke="currentColor" stroke-opacity=".5"/>'
        f'{ends}<circle cx="{at(middle):.1f}" cy="7" r="3.5" fill="#0072b2"/></svg>'
    )
    return f'{number(middle, 2)} <span title="{number(low, 2)} to {number(high, 2)}">{svg}</span>'


def _explanation(cross: bool) -> str:
    text = (
        "<b>Replicate</b>: one half of the cells predicts the other half. <b>Two full replicates</b> and a prediction "
        "<b>without noise</b> follow from it where a formula exists; a good model may exceed the replicate, because "
        "it need not repeat its noise. <b>Shrunken replicate</b>: one half, drawn towards the train mean where it "
        "shows no effect. <b>Mean of the test perturbations</b>: the average measured response of the perturbations "
        "that are to be predicted, for each of them; it looks at the test perturbations, so it is no baseline and "
        "nothing is chosen or tested against it. A model below it has not found even what they have in common. "
        "<b>Dynamic range</b>: where the replicate stands between the base (0) and a perfect score (1), median over "
        "perturbations with its interval; below 0 the base beats a real measurement. A metric can rank models when "
        "that is above 0.2, its interval excludes 0, and replicate and train mean differ by three standard errors."
    )
    if cross:
        text += " <b>Other cell line</b>: the same perturbations measured there, their change added to this control."
    return f'<p class="vcb-note">{text} All metrics: tables/ceilings.tsv.</p>'
