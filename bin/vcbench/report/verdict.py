"""The verdict on one dataset and split, in words."""

from __future__ import annotations

import math

from vcbench.report.panel import Contrast, Panel
from vcbench.report.text import count, escape, interval, listing, number, p_value


def html(panel: Panel) -> str:
    """Return a title and a sentence: who beats the best baseline by how much, or that nobody does."""
    if not panel.competitors():
        return _without_models(panel)
    return _winners(panel) if panel.winners() else _no_winner(panel)


def _name(panel: Panel, contrast: Contrast) -> str:
    return escape(panel.names.configuration(contrast.configuration))


def _against(panel: Panel, contrast: Contrast) -> str:
    """Return the difference with interval, corrected p and the baseline it refers to."""
    places = panel.places()
    ends = interval(contrast.low, contrast.high, places, signed=True)
    return (
        f"<b>{number(contrast.difference, places, signed=True)}</b> "
        f"(95 % interval {ends}; corrected {p_value(contrast.p_holm)}) "
        f"against {escape(panel.names.configuration(contrast.reference))}"
    )


def _without_models(panel: Panel) -> str:
    planned = [item for item in panel.configurations if not panel.names.is_baseline(item)]
    if not planned:
        return (
            "<h4>Only baselines were run</h4><p>There is no model to judge; the leaderboard compares the baselines.</p>"
        )
    title = "No model could be compared" if set(planned) & panel.scored() else "No model gave a result"
    return f"<h4>{title}</h4><p>{count(len(planned), 'configuration')} planned; see what failed and why.</p>"


def _no_winner(panel: Panel) -> str:
    others = panel.competitors()
    closest = others[0]
    worse = [item for item in others if item.verdict == "worse"]
    text = f"Closest: {_name(panel, closest)}, {_against(panel, closest)}."
    if worse:
        text += f" {len(worse)} of {count(len(others), 'configuration')} significantly worse."
    if math.isfinite(closest.detectable):
        text += (
            f" With {count(closest.n, 'perturbation')} a difference below "
            f"{number(closest.detectable, panel.places())} would often be missed."
        )
    text += of_reference(panel)
    return f"<h4>No model beats the best simple baseline</h4><p>{text}</p>"


def unanswered(panel: Panel, winners: list[Contrast]) -> str:
    """Return a warning about winners with missing predictions, whose lead may come from them; empty without one."""
    partly = [item for item in winners if item.n_missing]
    if not partly:
        return ""
    named = "; ".join(f"{_name(panel, item)}: {item.n_missing} of {item.n:.0f}" for item in partly[:3])
    more = f" and {len(partly) - 3} more" if len(partly) > 3 else ""
    return (
        f" <b>Mind:</b> missing predictions ({named}{more}) count as no skill, which may be better than what these "
        "configurations would have scored: they may gain by not answering."
    )


def of_reference(panel: Panel) -> str:
    """Return a warning about missing predictions of the best baseline, on which every verdict rests; or nothing."""
    most = max(panel.competitors(), key=lambda item: item.n_missing_reference)
    if not most.n_missing_reference:
        return ""
    named = escape(panel.names.configuration(most.reference))
    return (
        f" <b>Mind:</b> the best baseline ({named}) did not predict {most.n_missing_reference} of {most.n:.0f} "
        "perturbations, which count as no skill in every comparison with it; what it would have scored is not known."
    )


def _winners(panel: Panel) -> str:
    winners, names = panel.winners(), panel.names
    best = winners[0]
    models = sorted({names.model(item.configuration.model) for item in winners})
    title = f"{escape(listing(models, 3))} {'beats' if len(models) == 1 else 'beat'} the best simple baseline"
    text = f"{_name(panel, best)}: {_against(panel, best)}."
    score = panel.score(best.configuration, panel.primary)
    if score and score.incomplete:
        text += f" It has results for {score.n:.0f} of {score.n_expected:.0f} perturbations only."
    text += f" {len(winners)} of {count(len(panel.competitors()), 'configuration')} beat it."
    text += unanswered(panel, winners) + of_reference(panel)
    control = [item for item in winners if names.is_control_input(item.configuration)]
    if control:
        gain = number(control[0].difference, panel.places(), signed=True)
        text += (
            f" <b>Mind:</b> {len(control)} of them {'runs' if len(control) == 1 else 'run'} on a control input "
            f"(best: {_name(panel, control[0])}, {gain}), so the gain need not come from the encoder."
        )
    return f"<h4>{title}</h4><p>{text}</p>"
