"""The leaderboard of one dataset and split: every planned configuration, ranked by the primary metric."""

from __future__ import annotations

import math

from vcbench.report.figure import Figure, Mark, forest
from vcbench.report.names import Configuration, reasons
from vcbench.report.panel import Panel, Score
from vcbench.report.section import Section
from vcbench.report.strip import Marks, Scale, axis, strip
from vcbench.report.text import count, escape, interval, number, p_value

#: Rows shown before the rest folds away; the best of each model is always shown.
SHOWN = 30

#: What stands behind the mark of missing predictions.
NOT_ANSWERED = (
    "Missing predictions count as no skill. Where that is better than what the configuration would have scored on "
    "them, it gains by not answering; a verdict of better rests on them, too."
)

LEGEND = """<p class="vcb-legend">
<span><i class="vcb-key vcb-model"></i>model</span>
<span><i class="vcb-key vcb-control"></i>model on a control input (random, one-hot, ...)</span>
<span><i class="vcb-key vcb-baseline"></i>simple baseline</span>
<span><i class="vcb-key-line vcb-baseline-key"></i>best simple baseline</span>
<span><i class="vcb-key-line vcb-ceiling-key"></i>ceiling: measured cells against measured cells</span>
<span><i class="vcb-key-band"></i>chance: the same predictions scored against shuffled labels</span>
<span>bar = 95 % interval</span></p>"""


def kind(panel: Panel, configuration: Configuration) -> str:
    """Return ``baseline``, ``control`` (a model on a control input) or ``model``."""
    if panel.names.is_baseline(configuration):
        return "baseline"
    return "control" if panel.names.is_control_input(configuration) else "model"


def scale(panel: Panel) -> Scale:
    """Return the axis of the panel's primary metric: all points, intervals, chance bands and the ceiling."""
    scores = [score for (_, key), score in panel.scores.items() if key == panel.primary.key]
    return Scale.covering(
        value
        for score in scores
        for value in (
            score.shown,
            *(() if score.as_no_skill else (score.low, score.high)),
            score.null_low,
            score.null_high,
            score.ceiling,
        )
    )


def section(panel: Panel, module: str, module_title: str) -> Section:
    """Return the section; without baselines and ceiling it says so and prints no score."""
    missing = panel.missing_controls()
    data = f'<div class="vcb-alert">{escape(missing)} Scores are withheld.</div>' if missing else _board(panel)
    figures = () if missing else (drawing(panel),)
    data += "".join(f'<p class="vcb-files">{item.links()}</p>' for item in figures)
    return Section(
        id=f"{panel.id}_leaderboard",
        module=module,
        module_title=module_title,
        title="Leaderboard",
        plot="html",
        data=data,
        figures=figures,
    )


def drawing(panel: Panel) -> Figure:
    """Return the leaderboard for print, every configuration with a value."""
    ranked = [item for item in panel.ranked() if math.isfinite(panel.value(item, panel.primary))]
    marks, rows = [], []
    for item in ranked:
        score = panel.scores[item, panel.primary.key]
        low, high = (math.nan, math.nan) if score.as_no_skill else (score.low, score.high)
        marks.append(Mark(panel.names.configuration(item), score.shown, low, high, kind(panel, item),
                          hollow=score.as_no_skill))  # fmt: skip
        numbers = {"shown": score.shown, "ci_low": low, "ci_high": high, "n": int(score.n), "null_low": score.null_low,
                   "null_high": score.null_high, "ceiling": score.ceiling}  # fmt: skip
        rows.append({"model": item.model, "encoder": item.encoder, "strategy": item.strategy, **numbers})
    columns = ("model", "encoder", "strategy", "shown", "ci_low", "ci_high", "n", "null_low", "null_high", "ceiling")
    lines = {"ceiling": (panel.ceiling(panel.primary), "ceiling")}
    if reference := panel.reference():
        lines = {"best baseline": (panel.value(reference, panel.primary), "baseline"), **lines}
    title = f"{panel.dataset}, {panel.split} split: leaderboard"
    axis = f"{panel.primary.full_title}, 95 % interval (hollow: undefined predictions as no skill)"
    return forest(f"{panel.id}.leaderboard", title, marks, axis, columns, rows, lines)


def _board(panel: Panel) -> str:
    ranked = panel.ranked()
    first = {configuration.model: configuration for configuration in reversed(ranked)}
    shown = [item for place, item in enumerate(ranked) if place < SHOWN or first[item.model] == item]
    folded = [item for item in ranked if item not in shown]
    if len(folded) <= 5:  # not worth a click
        shown, folded = ranked, []
    places = panel.places()
    where = scale(panel)
    rows = {item: _row(panel, item, ranked.index(item) + 1, where, places) for item in ranked}
    better = "lower is better" if panel.primary.lower_is_better else "higher is better"
    html = [
        f"<p><b>{escape(panel.primary.full_title)}</b> ({better}). {escape(panel.primary.explanation)} "
        f"{ceiling_text(panel, places)}{_approximate(panel)} "
        "Hollow points: undefined predictions counted as no skill.</p>",
        LEGEND,
        '<div class="vcb-board">',
        '<div class="vcb-row vcb-head"><div class="vcb-name">Model · encoder · strategy</div>'
        f'<div class="vcb-plot">{axis(where)}</div><div class="vcb-value">score (95 % interval)</div>'
        '<div class="vcb-gain">minus best baseline</div></div>',
        *(rows[item] for item in shown),
        "</div>",
    ]
    if folded:
        html.append(
            f"<details><summary>Show the other {count(len(folded), 'configuration')}</summary>"
            f'<div class="vcb-board">{"".join(rows[item] for item in folded)}</div></details>'
        )
    return "\n".join(html)


def ceiling_text(panel: Panel, places: int) -> str:
    """Return the ceiling in a sentence."""
    half, full = panel.ceiling(panel.primary), panel.ceiling(panel.primary, full=True)
    text = f"Ceiling {number(half, places)}: half of the measured cells “predicting” the other half"
    return text + (f"; two full repeats would agree at about {number(full, places)}." if math.isfinite(full) else ".")


def _approximate(panel: Panel) -> str:
    """Return a warning when intervals rest on few perturbations."""
    methods = {score.method for (_, key), score in panel.scores.items() if key == panel.primary.key}
    return (
        " Intervals that rest on fewer than 30 clusters of perturbations are approximate (Student t)."
        if any("t_" in m for m in methods)
        else ""
    )


def _row(panel: Panel, configuration: Configuration, place: int, where: Scale, places: int) -> str:
    score, reference = panel.score(configuration, panel.primary), panel.reference()
    label = escape(panel.names.configuration(configuration))
    value = panel.value(configuration, panel.primary)
    known = score is not None and math.isfinite(value)
    sure = known and not score.as_no_skill
    marks = Marks(
        value=value,
        low=score.low if sure else math.nan,
        high=score.high if sure else math.nan,
        null_low=score.null_low if score else math.nan,
        null_high=score.null_high if score else math.nan,
        baseline=panel.value(reference, panel.primary) if reference else math.nan,
        ceiling=panel.ceiling(panel.primary),
        kind=kind(panel, configuration),
        hollow=known and not sure,
        tooltip=_tooltip(panel, configuration, places),
    )
    if known:
        detail = interval(score.low, score.high, places) if sure else escape(partly(score, places))
        text = f"<b>{number(value, places)}</b> <small>{detail}</small>"
    else:
        text = f'<small class="vcb-muted">{escape(_why(panel, configuration))}</small>'
    return (
        f'<div class="vcb-row"><div class="vcb-name"><span class="vcb-rank">{place if known else "–"}</span> {label} '
        f'{_badges(panel, configuration)}</div><div class="vcb-plot">{strip(where, marks)}</div>'
        f'<div class="vcb-value">{text}</div><div class="vcb-gain">{_gain(panel, configuration, places)}</div></div>'
    )


def partly(score: Score, places: int) -> str:
    """Return what stands behind a number in which undefined predictions count as no skill."""
    if not math.isfinite(score.value):
        return f"{reasons(score.reasons)}; counted as no skill"
    there = f"{number(score.value, places)} on the {score.n:.0f} of {score.n_expected:.0f} with a defined score"
    return f"{there}; undefined predictions count as no skill"


def _why(panel: Panel, configuration: Configuration) -> str:
    """Return why a configuration has no primary value."""
    score = panel.score(configuration, panel.primary)
    if configuration in panel.scored():
        return reasons(score.reasons) if score else "not scored"
    states = panel.states[configuration]
    bad = ", ".join(f"{n} {state}" for state, n in sorted(states.items()) if state != "ok")
    return f"no result: {bad or 'not scored'}"


def _badges(panel: Panel, configuration: Configuration) -> str:
    badges = []
    if panel.names.is_baseline(configuration):
        badges.append(("baseline", "A simple rule that every model must beat"))
    if configuration == panel.reference():
        badges.append(("best baseline", "Every model is compared with this one"))
    if panel.names.is_control_input(configuration):
        badges.append(("control input", "The encoder is a control, not a protein language model"))
    score = panel.score(configuration, panel.primary)
    if score and math.isfinite(score.shown) and score.incomplete:
        badges.append((f"{score.n:.0f} of {score.n_expected:.0f} perturbations", "Some are missing or undefined"))
    if score and math.isfinite(score.shown) and score.n_missing:
        badges.append((f"{score.n_missing} not predicted: may gain by not answering", NOT_ANSWERED))
    failed = sum(n for state, n in panel.states[configuration].items() if state != "ok")
    if failed:
        badges.append((f"{failed} of {panel.states[configuration].total()} units without result", "See What failed"))
    return " ".join(
        f'<span class="vcb-badge vcb-badge-{text.split()[-1]}" title="{escape(tip)}">{escape(text)}</span>'
        for text, tip in badges
    )


def _gain(panel: Panel, configuration: Configuration, places: int) -> str:
    contrast = panel.contrasts.get(configuration)
    if contrast is None or not math.isfinite(contrast.difference):
        return ""
    css = {"better": "vcb-good", "worse": "vcb-bad"}.get(contrast.verdict, "")
    tip = contrast.verdict
    if contrast.n_missing:
        tip += f", with {count(contrast.n_missing, 'missing prediction')} at no skill"
    mark = ""
    if contrast.n_missing_reference:
        of_reference = count(contrast.n_missing_reference, "missing prediction")
        tip += f", with {of_reference} of the baseline at no skill"
        mark = f"; baseline: {contrast.n_missing_reference} not predicted"
    if math.isfinite(contrast.detectable):
        tip += f"; a true difference of {number(contrast.detectable, places)} would be found four times out of five"
    return (
        f'<b class="{css}" title="{escape(tip)}">{number(contrast.difference, places, signed=True)}</b> '
        f"<small>{interval(contrast.low, contrast.high, places, signed=True)}; "
        f"corrected {p_value(contrast.p_holm)}{mark}</small>"
    )


def _tooltip(panel: Panel, configuration: Configuration, places: int) -> str:
    score, label = panel.score(configuration, panel.primary), panel.names.configuration(configuration)
    if score is None or not math.isfinite(score.shown):
        return f"{label}: {_why(panel, configuration)}"
    if score.as_no_skill:
        return f"{label}: {number(score.shown, places)}; {partly(score, places)}"
    return (
        f"{label}: {number(score.value, places)} (95 % interval {interval(score.low, score.high, places)}), "
        f"n = {score.n:.0f}; chance {number(score.null_mean, places)}; ceiling {number(score.ceiling, places)}"
    )
