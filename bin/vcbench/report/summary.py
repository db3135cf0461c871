"""The first screen: what was run, which models beat the best baseline and by how much, the ceiling, what failed."""

from __future__ import annotations

import math
from collections import Counter

from vcbench.core.catalogue import EXTERNAL
from vcbench.report import encoder_flags, leaderboard, trust, verdict
from vcbench.report.inputs import Inputs
from vcbench.report.panel import Contrast, Panel
from vcbench.report.section import Section
from vcbench.report.strip import Marks, strip
from vcbench.report.text import count, escape, listing, number, parse, shortened

MODULE, TITLE = "vcb_summary", "Result"


def section(inputs: Inputs, panels: list[Panel], css: str) -> Section:
    """Return the summary; it carries the style sheet of all sections."""
    cards = "\n".join(card(panel) for panel in panels)
    primary = inputs.names.primary()
    better = "Lower is better" if primary.lower_is_better else "Higher is better"
    html = f"""<style>{css}</style>
{headline(panels)}
{facts(inputs)}
{caveats(inputs)}
{failures(inputs)}
{vectors(inputs)}
{trust.line(inputs, panels)}
<div class="vcb-cards">
{cards}
</div>
<p class="vcb-note"><b>Score: {escape(primary.full_title)}.</b> {escape(primary.explanation)} {better}.
The <b>best baseline</b> is the best of the simple rules (nearest neighbours, linear regression, averages); the
<b>ceiling</b> is what one half of the measured cells scores when it “predicts” the other half. A model “beats” the
baseline when the paired difference over perturbations stays significant (corrected p &lt; 0.05, Holm over all
configurations of the dataset and split). A prediction that is missing or undefined counts as no skill, which may be
better than its score would have been: configurations with missing predictions are marked in the leaderboard. The lead
of the best of many configurations is a little too large, because it was picked on the data that are shown.</p>"""
    return Section(id="vcb_result", module=MODULE, module_title=TITLE, title=TITLE, plot="html", data=html)


def headline(panels: list[Panel]) -> str:
    """Return the whole result in one sentence."""
    judged = [panel for panel in panels if not panel.missing_controls() and panel.competitors()]
    if not judged:
        return '<p class="vcb-headline">No model could be judged against a baseline in this run.</p>'
    won = [panel for panel in judged if panel.winners()]
    where = f"{len(judged)} {'comparison' if len(judged) == 1 else 'comparisons'} (dataset and split)"
    if not won:
        return f'<p class="vcb-headline">No model beats the best simple baseline in any of {where}.</p>'
    models = sorted({panel.names.model(item.configuration.model) for panel in won for item in panel.winners()})
    verb = "beats" if len(models) == 1 else "beat"
    partly = sorted({panel.names.model(item.configuration.model) for panel in won for item in panel.winners()
                     if item.n_missing})  # fmt: skip
    mind = f" With missing predictions, which may be a gain: {escape(listing(partly, 4))}." if partly else ""
    return (
        f'<p class="vcb-headline">{escape(listing(models, 4))} {verb} the best simple baseline in '
        f"{len(won)} of {where}.{mind}</p>"
    )


def caveats(inputs: Inputs) -> str:
    """Return what keeps this run from being evidence about the models: simulated data, settings, foreign models."""
    given = inputs.run.get("params", {})
    texts = []
    if str(given.get("simulate", "false")) == "true":
        texts.append("The data are simulated: they show how the benchmark works, not what a model can do.")
    if given.get("model_settings"):
        texts.append("Models did not run with their published settings (see the parameter model_settings).")
    entries = inputs.names.models
    external = sorted({row["model"] for row in inputs.plan if entries.get(row["model"], {}).get("class") == EXTERNAL})
    if external:
        texts.append(
            f"Predictions made elsewhere: {listing(external)}. That they saw no test cell is their maker's word; "
            "the benchmark cannot check it."
        )
    return f'<p class="vcb-caveat"><b>{escape(" ".join(texts))}</b></p>' if texts else ""


def facts(inputs: Inputs) -> str:
    """Return what was run, as one row of numbers."""
    datasets = inputs.datasets()
    usable = {dataset: inputs.usable(dataset) for dataset in datasets}
    genes = {row.get("consequence") == "gene" for rows in usable.values() for row in rows}
    noun = "perturbation" if True in genes else "variant"
    n_perturbations = sum(len(rows) for rows in usable.values())
    cells = sum(_cells(inputs, dataset) for dataset in datasets)
    unique = {
        key: {row[key] for row in inputs.plan} - {"none"} for key in ("split", "fold", "model", "encoder", "seed")
    }
    beyond = [name for name in unique["model"] if inputs.names.models.get(name, {}).get("class") != "baseline"]
    splits = listing(sorted(unique["split"]))
    tiles = [
        (count(len(datasets), "dataset"), listing(datasets, 3)),
        (count(n_perturbations, noun), f"{count(cells, 'cell')} with controls"),
        (count(len(unique["split"]), "split"), f"{splits}; {count(len(unique['fold']), 'fold')} each"),
        (
            count(len(unique["model"]), "model"),
            f"{count(len(unique['model']) - len(beyond), 'simple baseline')}"
            + (f", {listing([inputs.names.model(name) for name in sorted(beyond)], 4)}" if beyond else ""),
        ),
        (
            count(len(unique["encoder"]), "encoder"),
            listing([inputs.names.encoder(name) for name in inputs.names.encoders if name in unique["encoder"]], 6),
        ),
    ]
    return (
        '<div class="vcb-facts">'
        + "".join(f"<div><b>{escape(big)}</b><span>{escape(small)}</span></div>" for big, small in tiles)
        + "</div>"
    )


def _cells(inputs: Inputs, dataset: str) -> float:
    """Return the cells of a dataset, controls included; without a quality table those of the perturbations."""
    for row in inputs.quality.get(dataset, []):
        if row["metric"] == "n_cells":
            return parse(row["value"])
    return sum(parse(row["n_cells"]) for row in inputs.usable(dataset))


def failures(inputs: Inputs) -> str:
    """Return one line on what failed."""
    states = Counter(row["state"] for row in inputs.plan)
    total, ok = states.total(), states["ok"]
    if ok == total:
        return f'<p class="vcb-ok">All {count(total, "unit")} succeeded.</p>'
    bad = ", ".join(f"{count(n, state, state)}" for state, n in sorted(states.items()) if state != "ok")
    causes = Counter(
        (row["stage"], row["reason"] or "no reason recorded") for row in inputs.plan if row["state"] != "ok"
    )
    common = sorted(causes.items(), key=lambda item: (-item[1], item[0]))
    worst = listing((f"{n} × {stage}: {shortened(reason)}" for (stage, reason), n in common), 3)
    return (
        f'<div class="vcb-alert"><b>{ok} of {count(total, "unit")} succeeded; {escape(bad)}.</b> '
        f'{escape(worst)}. <a href="#vcb_failed">See what failed and why</a>.</div>'
    )


def vectors(inputs: Inputs) -> str:
    """Return one line on encoders whose vectors have a fault."""
    faults: dict[str, list[str]] = {}
    for row in inputs.encoders.get("quality", []):
        for flag, on_purpose in encoder_flags.of(row, inputs):
            if flag.fault and not on_purpose and flag.name not in faults.setdefault(row["encoder"], []):
                faults[row["encoder"]].append(flag.name)
    texts = [f"{inputs.names.encoder(name)}: {listing(flags)}" for name, flags in sorted(faults.items()) if flags]
    if not texts:
        return ""
    return (
        f'<div class="vcb-alert"><b>{count(len(texts), "encoder")} with a fault.</b> {escape("; ".join(texts))}. '
        '<a href="#vcb_encoders">See what that means</a>.</div>'
    )


def card(panel: Panel) -> str:
    """Return the verdict on one dataset and split."""
    head = f'<div class="vcb-where">{escape(panel.dataset)} · {escape(panel.split)} split</div>'
    missing = panel.missing_controls()
    if missing:
        return f'<div class="vcb-card vcb-card-bad">{head}<h4>No verdict</h4><p>{escape(missing)}</p></div>'
    winners, others = panel.winners(), panel.competitors()
    best = (winners or others)[0] if others else None
    css = "vcb-card-good" if winners else "vcb-card-none"
    return f'<div class="vcb-card {css}">{head}{verdict.html(panel)}{_strips(panel, best)}</div>'


def _strips(panel: Panel, best: Contrast | None) -> str:
    """Return the three numbers of the verdict on one scale."""
    reference, where = panel.reference(), leaderboard.scale(panel)
    ceiling = panel.ceiling(panel.primary)
    lines = [("Best model", best.configuration, "model")] if best else []
    if best and leaderboard.kind(panel, best.configuration) == "control":
        lines = [("Best model", best.configuration, "control")]
    if reference:
        lines.append(("Best baseline", reference, "baseline"))
    places = panel.places()
    html = []
    for text, configuration, kind in lines:
        score = panel.score(configuration, panel.primary)
        if score is None:
            continue
        label = panel.names.configuration(configuration)
        baseline = panel.value(reference, panel.primary) if reference else math.nan
        marks = Marks(
            value=score.shown,
            low=math.nan if score.as_no_skill else score.low,
            high=math.nan if score.as_no_skill else score.high,
            null_low=score.null_low,
            null_high=score.null_high,
            baseline=baseline,
            ceiling=ceiling,
            kind=kind,
            tooltip=label,
            hollow=score.as_no_skill,
        )
        value = number(panel.value(configuration, panel.primary), places)
        html.append(f'<div class="vcb-mini"><span>{text}</span>{strip(where, marks)}<b>{value}</b></div>')
    marks = Marks(value=math.nan, ceiling=ceiling, tooltip="Ceiling")
    html.append(
        f'<div class="vcb-mini"><span>Ceiling</span>{strip(where, marks)}<b>{number(ceiling, places)}</b></div>'
    )
    return "".join(html)
