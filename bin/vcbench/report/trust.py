"""Can I trust this number? What stands behind the scores of each dataset and split, answered with this run's facts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from vcbench.core.catalogue import EXTERNAL
from vcbench.core.units import NO_ENCODER
from vcbench.report.inputs import Inputs, Row
from vcbench.report.names import Configuration
from vcbench.report.panel import Contrast, Panel
from vcbench.report.section import Section
from vcbench.report.statistics import ALIKE, mine, taus
from vcbench.report.text import count, escape, interval, listing, number, p_value, parse

MODULE, TITLE = "vcb_trust", "Can I trust this number?"
#: Below this many independent clusters intervals are approximate (metrics.md 10.2).
FEW_CLUSTERS = 30
GOOD, MIND, BAD = "good", "mind", "bad"
_SIGNS = {GOOD: "✓", MIND: "!", BAD: "✗"}
_WORDS = {GOOD: "fine", MIND: "mind", BAD: "problem"}
#: Scores closer than this are the same score.
_SAME = 1e-6


@dataclass(frozen=True)
class Check:
    """A question, its answer in plain words (HTML, escaped), and how it went: good, mind or bad; `topic` in a word."""

    topic: str
    question: str
    answer: str
    state: str


def section(inputs: Inputs, panels: list[Panel]) -> Section:
    """Return the page of checks: the run as a whole, then each dataset and split."""
    whole = _run(inputs)
    html = [
        "<p>A score is worth as much as what it is compared with. These are the questions a careful reader would ask, "
        "answered from the tables of this run. ✓ fine, ! keep in mind, ✗ problem.</p>",
        _table(whole),
    ]
    for panel in panels:
        found = checks(panel, inputs)
        is_open = " open" if len(panels) == 1 else ""
        html.append(
            f'<details class="vcb-fold"{is_open}><summary><b>{escape(panel.dataset)} · {escape(panel.split)} split:'
            f"</b> {tally(found)}</summary>{_table(found)}</details>"
        )
    return Section("vcb_trust_checks", MODULE, TITLE, TITLE, "html", "\n".join(html))


def line(inputs: Inputs, panels: list[Panel]) -> str:
    """Return one line for the first screen: how many checks went how, with a link."""
    found = _run(inputs) + [check for panel in panels for check in checks(panel, inputs)]
    return f'<p class="vcb-note"><a href="#{MODULE}"><b>{TITLE}</b></a> {tally(found)}</p>'


def tally(found: list[Check]) -> str:
    """Return how many checks are fine, and what the others are about."""
    good = sum(check.state == GOOD for check in found)
    text = f"{good} of {count(len(found), 'check')} fine"
    for state, css, words in ((BAD, "vcb-bad", "problem"), (MIND, "", "mind")):
        topics = list(dict.fromkeys(check.topic for check in found if check.state == state))
        if topics:
            text += f'; <span class="{css}">{words}: {escape(listing(topics))}</span>'
    return text + "."


def checks(panel: Panel, inputs: Inputs) -> list[Check]:
    """Return the checks of a dataset and split; only the reason when its scores are withheld."""
    missing = panel.missing_controls()
    if missing:
        return [Check("controls", "Can the scores be judged at all?", f"No. {escape(missing)}", BAD)]
    asked: tuple[Callable[[Panel, Inputs], Check | None], ...] = (
        _baselines,
        _range,
        _chance,
        _enough,
        _predicted,
        _leakage,
        _encoder,
        _baseline_encoder,
        _doubles,
        _lucky,
        _metrics,
        _training,
    )
    return [check for ask in asked if (check := ask(panel, inputs))]


def _table(found: list[Check]) -> str:
    rows = "".join(
        f'<div class="vcb-check vcb-check-{check.state}"><span title="{_WORDS[check.state]}">{_SIGNS[check.state]}'
        f"</span><b>{check.question}</b><div>{check.answer}</div></div>"
        for check in found
    )
    return f'<div class="vcb-checks">{rows}</div>'


def leading(panel: Panel) -> Contrast | None:
    """Return the contrast of the best model, None when no model has one."""
    return next(iter(panel.winners() or panel.competitors()), None)


def _name(panel: Panel, configuration: Configuration) -> str:
    return escape(panel.names.configuration(configuration))


def _run(inputs: Inputs) -> list[Check]:
    """Return the checks of the run as a whole."""
    given = inputs.run.get("params") or {}
    found = []
    if str(given.get("simulate", "false")) == "true":
        answer = "No, simulated. Scores show how the benchmark works, not what a model can do on real cells."
        found.append(Check("simulated data", "Are the data real?", answer, MIND))
    if given.get("model_settings"):
        answer = "No: model_settings changed them. A score says nothing about the published model."
        found.append(Check("settings", "Did models run as published?", answer, MIND))
    entries = inputs.names.models
    external = sorted({row["model"] for row in inputs.plan if entries.get(row["model"], {}).get("class") == EXTERNAL})
    if external:
        answer = (
            f"{escape(listing(external))}: that they saw no test cell is their maker's word; it cannot be checked here."
        )
        found.append(Check("imported predictions", "Were all predictions made here?", answer, MIND))
    bad = sum(row["state"] != "ok" for row in inputs.plan)
    answer = f"{len(inputs.plan) - bad} of {count(len(inputs.plan), 'planned unit')} did" + (
        f'; <a href="#vcb_failed">{bad} did not, each is listed with its reason</a>.' if bad else "."
    )
    found.append(Check("failures", "Did everything that was planned give a result?", answer, MIND if bad else GOOD))
    agreed = _panels(inputs)
    return [*found, agreed] if agreed else found


def _panels(inputs: Inputs) -> Check | None:
    """Return whether datasets and splits order the configurations alike; None with one of them only."""
    rows = [row for row in inputs.agreement if row["compared"] == "panels" and math.isfinite(parse(row["tau"]))]
    if not rows:
        return None
    middle = statistics.median(parse(row["tau"]) for row in rows)
    worst = min(rows, key=lambda row: (parse(row["tau"]), row["dataset"], row["split"]))
    pair = " and ".join(f"{worst[f'{o}dataset']} ({worst[f'{o}split']})" for o in ("", "other_"))
    answer = (
        f"Median Kendall's tau of the order of configurations between datasets and splits: {number(middle, 2)} "
        f"(1 = same order); least alike: {escape(pair)}, {number(parse(worst['tau']), 2)}."
    )
    state = GOOD if middle >= ALIKE else MIND
    return Check("other datasets", "Do datasets and splits agree on who is better?", answer, state)


def _baselines(panel: Panel, inputs: Inputs) -> Check:
    reference, places = panel.reference(), panel.places()
    models = {item.model for item in panel.baselines()}
    if reference is None:
        return Check("baselines", "Compared with what?", "No baseline has a defined score of the primary metric.", BAD)
    answer = (
        f"{count(len(models), 'simple rule')} that every model must beat. Best: {_name(panel, reference)}, "
        f"{number(panel.value(reference, panel.primary), places)}. It is picked with hindsight, so beating it is hard "
        "on purpose."
    )
    return Check("baselines", "Compared with what?", answer, GOOD if len(models) >= 3 else MIND)


def _range(panel: Panel, inputs: Inputs) -> Check:
    places, ceiling = panel.places(), panel.ceiling(panel.primary)
    base = Configuration("train_mean", NO_ENCODER, NO_ENCODER)
    floor = panel.value(base, panel.primary)
    answer = f"One half of the cells predicts the other half at {number(ceiling, places)}"
    answer += f"; the train mean scores {number(floor, places)}. " if math.isfinite(floor) else ". "
    said = {
        row.get("discriminates", "")
        for row in mine(panel, inputs.leaderboard)
        if (row["metric"], row["gene_set"]) == (panel.primary.id, panel.primary.gene_set)
    }
    if "False" in said or "false" in said:
        return Check(
            "range of the metric",
            "Can this metric tell good from bad here?",
            answer
            + "The gap is within its own error: <b>on this dataset the primary metric cannot tell models apart.</b>",
            BAD,
        )
    if "True" in said or "true" in said:
        answer += "The gap is well above its error"
        low = [
            row
            for row in mine(panel, inputs.ceilings)
            if (row["metric"], row["gene_set"]) == (panel.primary.id, panel.primary.gene_set)
            and row["status"] == "low_range"
        ]
        if low:
            answer += (
                f", but small: a replicate covers {100 * parse(low[0]['drf']):.0f} % of the way to a perfect score "
                "(median over perturbations). Most of what the metric asks for is noise that nobody can predict."
            )
        return Check(
            "range of the metric",
            "Can this metric tell good from bad here?",
            answer if low else answer + ".",
            MIND if low else GOOD,
        )
    return Check(
        "range of the metric",
        "Can this metric tell good from bad here?",
        answer + "Whether the gap exceeds its error is not known.",
        MIND,
    )


def _chance(panel: Panel, inputs: Inputs) -> Check | None:
    best = leading(panel)
    configuration = best.configuration if best else panel.reference()
    score = panel.score(configuration, panel.primary) if configuration else None
    if score is None or not math.isfinite(score.null_low):
        return Check("chance", "Could it be chance?", "Not known: nothing was scored against shuffled labels.", MIND)
    places = panel.places()
    end = score.null_low if panel.primary.lower_is_better else score.null_high
    above = panel.primary.better(score.shown - end)
    answer = (
        f"With the labels of the perturbations shuffled, the predictions of {_name(panel, configuration)} score "
        f"{interval(score.null_low, score.null_high, places)}; with the true labels {number(score.shown, places)}"
        + (", outside of what chance gives." if above else ". <b>Chance would do as well.</b>")
    )
    return Check("chance", "Could it be chance?", answer, GOOD if above else BAD)


def _enough(panel: Panel, inputs: Inputs) -> Check | None:
    best, places = leading(panel), panel.places()
    if best is None:
        return None
    clusters = best.n_clusters if math.isfinite(best.n_clusters) else best.n
    few = clusters < FEW_CLUSTERS
    answer = f"{count(best.n, 'perturbation')} in {count(clusters, 'independent group')} (residues or genes). "
    answer += (
        "With fewer than 30 groups intervals are approximate: a 95 % interval holds the truth in about 91 % of cases "
        "when scores are skewed. "
        if few
        else "In simulations 95 % intervals of so many groups hold the truth in 92 to 95 % of cases. "
    )
    unresolved = best.verdict == "unresolved"
    if math.isfinite(best.detectable):
        answer += (
            f"A true difference of {number(best.detectable, places)} would be found four times out of five; the best "
            f"model differs by {number(best.difference, places, signed=True)}"
            + (f", too little to be resolved.{_needed(best)}" if unresolved else ".")
        )
    return Check(
        "number of perturbations", "Are there enough perturbations?", answer, MIND if few or unresolved else GOOD
    )


def _needed(contrast: Contrast) -> str:
    """Return how many perturbations would resolve a difference of the size observed: errors shrink with sqrt(n)."""
    if not contrast.difference or contrast.detectable <= abs(contrast.difference):
        return ""
    needed = contrast.n * (contrast.detectable / contrast.difference) ** 2
    many = f"about {needed:,.0f}" if needed < 10_000 else "more than 10,000"
    return f" If it is real, {many} perturbations would be needed to find it four times out of five."


def _predicted(panel: Panel, inputs: Inputs) -> Check:
    best = leading(panel)
    configuration = best.configuration if best else panel.reference()
    score = panel.score(configuration, panel.primary) if configuration else None
    scored = [s for (item, key), s in panel.scores.items() if key == panel.primary.key and item in panel.scored()]
    partly = sum(s.incomplete for s in scored)
    nothing = len(panel.configurations) - len(panel.scored())
    whole = score is not None and not score.incomplete
    answer = ""
    if score is not None:
        answer = (
            f"{_name(panel, configuration)} has a defined score for {score.n:.0f} of {score.n_expected:.0f} "
            "perturbations. "
        )
    answer += (
        f"{count(partly, 'other configuration' if not whole else 'configuration')} of {len(scored)} miss some, "
        "which counts as no skill: where predictions are missing, that may be a gain."
        if partly - (not whole) > 0
        else "No other configuration misses any."
    )
    if nothing:
        answer += f' {count(nothing, "configuration")} gave <a href="#vcb_failed">nothing at all</a>.'
    return Check(
        "missing predictions", "Is a score over all perturbations?", answer, GOOD if whole and not nothing else MIND
    )


def _leakage(panel: Panel, inputs: Inputs) -> Check:
    rows = mine(panel, inputs.leakage)
    if not rows:
        return Check("leakage", "Has training seen the test?", "Not known: no table of folds was given.", MIND)
    shared = sum(parse(row.get("n_sequence_shared")) for row in rows if row.get("n_sequence_shared"))
    tested = sum(parse(row["n_test"]) for row in rows if row.get("n_test"))
    seen = sum(parse(row["n_test_position_seen"]) for row in rows if row.get("n_test_position_seen"))
    if shared:
        return Check(
            "leakage",
            "Has training seen the test?",
            f"<b>Yes: {count(shared, 'test protein')} also in training.</b>",
            BAD,
        )
    answer = "No test protein occurs in training; half of the control cells was kept for evaluation only. "
    if seen:
        answer += (
            f"But {100 * seen / tested:.0f} % of test perturbations lie at a residue that training has seen with "
            "another exchange: this split asks for less than an unseen residue (the position split)."
        )
        return Check("leakage", "Has training seen the test?", answer, MIND)
    answer += (
        "No test residue occurs in training either." if any(row.get("n_test_position_seen") for row in rows) else ""
    )
    return Check("leakage", "Has training seen the test?", answer, GOOD)


def _adds(panel: Panel, contrast: Contrast, topic: str, question: str) -> Check:
    """Return whether a configuration does better than itself on its best control input."""
    who, control = _name(panel, contrast.configuration), escape(panel.names.encoder(contrast.reference.encoder))
    gain = (
        f"{number(contrast.difference, panel.places(), signed=True)} "
        f"({interval(contrast.low, contrast.high, panel.places(), signed=True)}; corrected {p_value(contrast.p_holm)})"
    )
    if contrast.verdict == "better":
        return Check(topic, question, f"Yes: {who} gains {gain} over the same model on {control} vectors.", GOOD)
    return Check(
        topic,
        question,
        f"<b>Not shown:</b> {who} is no better than the same model on {control} vectors, which say nothing about the "
        f"perturbation: {gain}.",
        MIND,
    )


def _encoder(panel: Panel, inputs: Inputs) -> Check | None:
    best, topic, question = leading(panel), "encoder", "Is it the encoder that helps the best model?"
    if best is None or best.configuration.encoder == NO_ENCODER:
        return None
    if panel.names.is_control_input(best.configuration):
        answer = f"No: the best model, {_name(panel, best.configuration)}, runs on a control input."
        return Check(topic, question, answer, MIND)
    contrast = panel.control_inputs.get(best.configuration)
    if contrast is None or not math.isfinite(contrast.difference):
        answer = (
            "Not known: the model was not run on random or shuffled vectors (<code>--encoders "
            "...,random,shuffled</code>)."
        )
        return Check(topic, question, answer, MIND)
    return _adds(panel, contrast, topic, question)


def _baseline_encoder(panel: Panel, inputs: Inputs) -> Check | None:
    reference = panel.reference()
    contrast = panel.control_inputs.get(reference) if reference else None
    if contrast is None or not math.isfinite(contrast.difference):
        return None
    return _adds(panel, contrast, "baseline's vectors", "Does the best baseline use its vectors?")


def doubles(panel: Panel) -> list[str]:
    """Return the encoders whose strategies alt and diff give the same score with every model that has both."""
    same: dict[str, list[bool]] = {}
    for item in panel.configurations:
        other = Configuration(item.model, item.encoder, "diff")
        one, two = panel.value(item, panel.primary), panel.value(other, panel.primary)
        if item.strategy == "alt" and math.isfinite(one) and math.isfinite(two):
            same.setdefault(item.encoder, []).append(abs(one - two) <= _SAME * max(1.0, abs(one)))
    return sorted(encoder for encoder, found in same.items() if all(found))


def _doubles(panel: Panel, inputs: Inputs) -> Check | None:
    found = doubles(panel)
    if not any(item.strategy == "diff" for item in panel.configurations):
        return None
    if not found:
        return Check(
            "doubles", "Is every configuration a different one?", "Yes: alt and diff give different scores.", GOOD
        )
    named = escape(listing(panel.names.encoder(name) for name in found))
    return Check(
        "doubles",
        "Is every configuration a different one?",
        f"Not quite: alt and diff of {named} give the same scores. With one reference protein diff is alt with the "
        "sign turned and a constant added, which many models do not notice. Count these rows once.",
        MIND,
    )


def _lucky(panel: Panel, inputs: Inputs) -> Check | None:
    best = leading(panel)
    if best is None:
        return None
    question, places, parts = "Is the best one just the luckiest?", panel.places(), []
    state = GOOD
    for row in mine(panel, inputs.selection):
        own = (row["metric"], row["gene_set"], row["model"])
        if own == (panel.primary.id, panel.primary.gene_set, best.configuration.model) and row["value"]:
            optimism = parse(row["optimism"])
            parts.append(
                f"{escape(panel.names.model(row['model']))} scores {number(parse(row['value']), places)} when encoder "
                f"and strategy are chosen by validation, and {number(parse(row['naive']), places)} with hindsight."
            )
            if best.verdict == "better" and row["verdict"] != "better":
                state = MIND
                parts.append("<b>Without hindsight its lead over the best baseline is not significant.</b>")
            elif optimism > abs(best.difference) / 2:
                state = MIND
    for row in mine(panel, inputs.ranks):
        if Configuration(row["model"], row["encoder"], row["strategy"]) == best.configuration and row["winner_share"]:
            parts.append(
                f"It has the best score of all configurations in {100 * parse(row['winner_share']):.0f} % of "
                "resampled sets of "
                "perturbations."
            )
    return Check("luck of the best", question, " ".join(parts), state) if parts else None


def _metrics(panel: Panel, inputs: Inputs) -> Check | None:
    found = taus(panel, inputs)
    known = {
        metric.full_title: found[panel.primary.key, metric.key]
        for metric in panel.names.headline()
        if math.isfinite(found.get((panel.primary.key, metric.key), math.nan))
    }
    if not known:
        return None
    middle = statistics.median(known.values())
    worst = min(known, key=lambda title: (known[title], title))
    answer = (
        f"The order of configurations agrees with that of {count(len(known), 'other headline metric')} at a median "
        "Kendall's tau "
        f"of {number(middle, 2)} (1 = same order); least with {escape(worst)} ({number(known[worst], 2)})."
    )
    return Check("other metrics", "Would another metric say the same?", answer, GOOD if middle >= ALIKE else MIND)


def _training(panel: Panel, inputs: Inputs) -> Check | None:
    best = leading(panel)
    if best is None:
        return None

    def own(row: Row) -> bool:
        return (row["model"], row["encoder"], row["strategy"], row["metric"], row["gene_set"]) == (
            best.configuration.model,
            best.configuration.encoder,
            best.configuration.strategy,
            panel.primary.id,
            panel.primary.gene_set,
        )

    row = next((row for row in mine(panel, inputs.leaderboard) if own(row)), {})
    seeds, spread = parse(row.get("n_seeds")), parse(row.get("seed_sd"))
    places, parts = panel.places(), []
    if seeds > 1 and math.isfinite(spread):
        parts.append(
            f"{seeds:.0f} training seeds; scores of the best model vary between them by {number(spread, places)} (SD)."
        )
    else:
        parts.append("Not known from seeds: one training run for each fold (<code>--seeds 0,1,2</code> would tell).")
    across = math.isfinite(best.fold_low) and math.isfinite(best.fold_high)
    holds = across and (best.fold_low > 0 or best.fold_high < 0)
    if across:
        parts.append(
            "Between folds the difference to the best baseline has the interval "
            f"{interval(best.fold_low, best.fold_high, places, signed=True)}, which counts the luck of training, too"
            + (
                "."
                if holds or best.verdict == "unresolved"
                else "; it includes zero, so with other training data it might vanish."
            )
        )
    good = seeds > 1 and (holds or best.verdict == "unresolved")
    return Check("training runs", "Would another training run say the same?", " ".join(parts), GOOD if good else MIND)
