"""Statistics of one dataset and split: who differs from whom, honest selection, what matters, do metrics agree."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vcbench.report import leaderboard, metric_by_metric
from vcbench.report.figure import Figure, Mark, forest, matrix
from vcbench.report.inputs import Inputs, Row
from vcbench.report.names import Configuration
from vcbench.report.panel import Panel
from vcbench.report.section import Section, table
from vcbench.report.text import count, escape, interval, listing, number, p_value, parse

#: Rows drawn; the best of each model is drawn in any case, and the data file has all.
SHOWN = 20
#: A factor that explains at least this much is worth a sentence.
_EFFECTS = {"model": "the model", "encoder": "the encoder", "strategy": "the strategy"}
#: Kendall's tau in words: from this value on two orders are alike.
ALIKE = 0.5


def sections(panel: Panel, inputs: Inputs, module: str, module_title: str) -> list[Section]:
    """Return the critical-difference view and the folded statistics; nothing when scores are withheld."""
    if panel.missing_controls():
        return []
    found = [_ranks(panel, inputs, module, module_title)]
    parts = [
        part
        for part in (
            _metric_by_metric(panel, inputs),
            _selection(panel, inputs),
            _factors(panel, inputs),
            _families(panel, inputs),
            _agreement(panel, inputs),
        )
        if part
    ]
    if parts:
        html = "".join(
            f'<details class="vcb-fold"><summary><b>{title}</b> {says}</summary>{body}</details>'
            for title, says, body, _ in parts
        )
        figures = tuple(drawing for *_, drawings in parts for drawing in drawings)
        found.append(
            Section(f"{panel.id}_statistics", module, module_title, "Statistics", "html", html, figures=figures)
        )
    return [item for item in found if item]


def mine(panel: Panel, rows: Sequence[Row]) -> list[Row]:
    """Return the rows of a table that belong to a panel."""
    return [row for row in rows if (row["dataset"], row["split"]) == (panel.dataset, panel.split)]


def of(row: Row) -> Configuration:
    """Return the configuration of a row."""
    return Configuration(row["model"], row["encoder"], row["strategy"])


def knows_nothing(panel: Panel, item: Configuration) -> bool:
    """Return whether a configuration is a negative control, or runs on vectors that say nothing of the perturbation."""
    entries = (panel.names.models.get(item.model, {}), panel.names.encoders.get(item.encoder, {}))
    return any(entry.get("negative_control") for entry in entries)


def _ranks(panel: Panel, inputs: Inputs, module: str, module_title: str) -> Section | None:
    rows = sorted(mine(panel, inputs.ranks), key=lambda row: int(row["place"]))
    if len(rows) < 2:
        return None
    first = {row["model"]: row for row in reversed(rows)}
    shown = [row for row in rows if int(row["place"]) <= SHOWN or first[row["model"]] is row]
    marks = [
        Mark(
            f"{row['place']}. {panel.names.configuration(of(row))}",
            parse(row["mean_rank"]),
            parse(row["rank_low"]),
            parse(row["rank_high"]),
            leaderboard.kind(panel, of(row)),
        )
        for row in shown
    ]
    drawing = forest(
        f"{panel.id}.ranks",
        f"{panel.dataset}, {panel.split} split: mean ranks, {panel.primary.full_title}",
        marks,
        f"Mean rank over {rows[0]['n_blocks']} perturbations (1 = best), 95 % interval",
        tuple(rows[0]),
        rows,
        groups=_bars(shown),
        zero=False,
    )
    best = rows[0]
    with_best = [row for row in rows[1:] if set(row["groups"].split(";")) & set(best["groups"].split(";")) - {""}]
    text = (
        f"<p>Configurations ranked within each perturbation by {escape(panel.primary.full_title)}. "
        "<b>Bars at the right join configurations that could not be told apart</b> (paired sign flips, Holm over all "
        f"pairs). {escape(panel.names.configuration(of(best)))} ranks first on average"
    )
    text += (
        f", but {count(len(with_best), 'other')} cannot be told apart from it"
        if with_best
        else " and differs from all others"
    )
    if knows_nothing(panel, of(best)):
        text += ". <b>It is a negative control: its input says nothing about the perturbation</b>"
    winner = max(rows, key=lambda row: (parse(row["winner_share"]), -int(row["place"])))
    share = parse(winner["winner_share"])
    if math.isfinite(share):
        text += (
            f". Would it win again? {escape(panel.names.configuration(of(winner)))} has the best score in "
            f"<b>{100 * share:.0f} %</b> of resampled sets of perturbations"
        )
    text += ".</p>"
    nemenyi = (
        f'<p class="vcb-note">All rank alike: {p_value(parse(best["p"]))} (Friedman, Iman-Davenport). Nemenyi critical '
        f"difference {number(parse(best['critical_difference']), 2)} for {best['n_configurations']} configurations. "
        "Both take perturbations as independent, so they describe rather than prove.</p>"
    )
    rest = len(rows) - len(shown)
    more = f'<p class="vcb-note">{count(rest, "more configuration")} in the data file.</p>' if rest else ""
    return Section(
        f"{panel.id}_ranks",
        module,
        module_title,
        "Who differs from whom",
        "html",
        text + drawing.html() + more + nemenyi,
        figures=(drawing,),
    )


def _bars(rows: Sequence[Row]) -> list[tuple[int, int]]:
    """Return the bars over the rows drawn: those with at least two of them, longest run first in order of place."""
    members: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        for name in filter(None, row["groups"].split(";")):
            members.setdefault(name, []).append(place)
    found = sorted({(min(places), max(places)) for places in members.values() if len(places) > 1})
    return [
        bar for bar in found if not any(other != bar and other[0] <= bar[0] and bar[1] <= other[1] for other in found)
    ]


Part = tuple[str, str, str, tuple[Figure, ...]]


def _metric_by_metric(panel: Panel, inputs: Inputs) -> Part | None:
    """Return title, conclusion and body on the best model in every headline metric."""
    best = next(iter(panel.winners() or panel.competitors()), None)
    if best is None:
        return None
    says, body = metric_by_metric.html(panel, inputs, best.configuration)
    return "Best model, metric by metric:", says, body, ()


def _selection(panel: Panel, inputs: Inputs) -> Part | None:
    """Return title, conclusion and body on models whose encoder and strategy were chosen by validation."""
    of_primary = [
        row
        for row in mine(panel, inputs.selection)
        if (row["metric"], row["gene_set"]) == (panel.primary.id, panel.primary.gene_set)
    ]
    rows = [row for row in of_primary if math.isfinite(parse(row["value"]))]
    unchosen = [row["model"] for row in of_primary if row["status"] == "no_validation"]
    sign = 1 if panel.primary.lower_is_better else -1
    rows.sort(key=lambda row: (sign * parse(row["value"]), row["model"]))
    if not any(int(row["n_configurations"]) > 1 for row in rows):
        return None
    places, names = panel.places(), panel.names

    def kind(row: Row) -> str:
        return "baseline" if names.is_baseline(Configuration(row["model"], "none", "none")) else "model"

    marks = [
        Mark(
            names.model(row["model"]),
            parse(row["value"]),
            parse(row["ci_low"]),
            parse(row["ci_high"]),
            kind(row),
            second=parse(row["naive"]),
        )
        for row in rows
    ]
    reference = panel.reference()
    lines = {"ceiling": (panel.ceiling(panel.primary), "ceiling")}
    if reference:
        lines["best baseline, in hindsight"] = (panel.value(reference, panel.primary), "baseline")
    drawing = forest(
        f"{panel.id}.selection",
        f"{panel.dataset}, {panel.split} split: encoder and strategy chosen by validation",
        marks,
        f"{panel.primary.full_title}, 95 % interval; hollow: best in hindsight",
        tuple(rows[0]),
        rows,
        lines,
    )
    models = [row for row in rows if kind(row) == "model"]
    best = (models or rows)[0]
    says = (
        f"{escape(names.model(best['model']))} scores {number(parse(best['value']), places)}; picked in hindsight it "
        f"would look like {number(parse(best['naive']), places)}."
    )
    body = (
        "<p>The best of many configurations looks better than it is. Here encoder and strategy were chosen for each "
        f"fold on its validation perturbations (at least {rows[0]['n_validation']}, never trained on), and judged on "
        "its test perturbations, which had no say. With few validation perturbations the choice is noisy, not the "
        "judgement.</p>" + drawing.html()
    )
    if unchosen:
        body += (
            f"<p>Without a choice, because no validation perturbation was predicted and has enough cells: "
            f"{', '.join(escape(names.model(name)) for name in unchosen)}.</p>"
        )
    cells = [
        [
            f"<b>{escape(names.model(row['model']))}</b>",
            f"{int(row['n_configurations'])}",
            f"{number(parse(row['value']), places)} ({interval(parse(row['ci_low']), parse(row['ci_high']), places)})",
            number(parse(row["naive"]), places),
            number(parse(row["optimism"]), places, signed=True),
            f"{number(parse(row['difference']), places, signed=True)}; {p_value(parse(row['p_holm']))}"
            if row["difference"]
            else "–",
            escape(row["chosen"].replace(";", ", ")) if int(row["n_configurations"]) > 1 else "–",
        ]
        for row in rows
    ]
    header = [
        "Model",
        "Candidates",
        "Score, chosen by validation",
        "Best in hindsight",
        "Too high by",
        "Minus best baseline; corrected p",
        "Chosen (fold:encoder.strategy)",
    ]
    return "Chosen by validation:", says, body + table(header, cells), (drawing,)


def _factors(panel: Panel, inputs: Inputs) -> Part | None:
    rows = mine(panel, inputs.factors)
    effects = sorted((row for row in rows if not row["level"]), key=lambda row: (-parse(row["size"]), row["effect"]))
    if not effects:
        return None
    places = panel.places()
    levels = sorted(
        (row for row in rows if row["level"]), key=lambda row: (row["effect"], -parse(row["estimate"]), row["level"])
    )

    def title(row: Row) -> str:
        named = {"model": panel.names.model, "encoder": panel.names.encoder}.get(row["effect"], str)
        return f"{row['effect']}: {named(row['level'])}"

    marks = [
        Mark(
            title(row),
            parse(row["estimate"]),
            parse(row["ci_low"]),
            parse(row["ci_high"]),
            {"model": "model", "encoder": "ceiling"}.get(row["effect"], "control"),
        )
        for row in levels
    ]
    ordered = sorted(rows, key=lambda row: (row["effect"].count(":"), row["effect"], row["level"]))
    drawing = forest(
        f"{panel.id}.factors",
        f"{panel.dataset}, {panel.split} split: levels of model, encoder and strategy",
        marks,
        f"{panel.primary.full_title}: level minus mean of all, 95 % interval",
        tuple(rows[0]),
        ordered,
    )
    real = [row for row in effects if parse(row["p_holm"]) < 0.05]
    top = [f"{_words(row['effect'])} ({100 * parse(row['share']):.0f} % of the variation)" for row in real[:2]]
    says = f"{listing(top)}." if top else "no effect of model, encoder or strategy is significant."
    cells = [
        [
            f"<b>{escape(_words(row['effect']))}</b>",
            number(parse(row["size"]), places),
            interval(parse(row["size_low"]), parse(row["size_high"]), places),
            number(parse(row["size_debiased"]), places),
            f"{100 * parse(row['share']):.0f} %",
            p_value(parse(row["p_holm"])),
        ]
        for row in effects
    ]
    left_out = (
        f" Left out to keep the crossing full: {escape(rows[0]['left_out'].replace(';', ', '))}."
        if rows[0]["left_out"]
        else ""
    )
    body = (
        f"<p>Full crossing of {escape(rows[0]['levels'])}, perturbations as blocks, control inputs left out.{left_out} "
        "Size: by how much scores typically differ because of it (root mean square, in units of the metric).</p>"
        + table(["Effect of", "Size", "95 % interval", "Without noise", "Share of variation", "Corrected p"], cells)
        + (drawing.html() if marks else "")
    )
    return "What matters:", says, body, (drawing,)


def _words(effect: str) -> str:
    """Return ``model:encoder`` in words."""
    parts = effect.split(":")
    return _EFFECTS[parts[0]] if len(parts) == 1 else f"the interplay of {listing(parts)}"


def _families(panel: Panel, inputs: Inputs) -> Part | None:
    rows = mine(panel, inputs.families)
    scores = {(of(row), row["family"]): parse(row["scaled"]) for row in rows}
    families = list(
        dict.fromkeys(row["family"] for row in sorted(rows, key=lambda row: (row["family"] == "all", row["family"])))
    )
    usable = [name for name in families if any(math.isfinite(v) for (_, f), v in scores.items() if f == name)]
    left_out = sorted({name for row in rows if row["family"] == "all" for name in row["left_out"].split(";") if name})
    if not usable:
        return None

    def mean(item: Configuration) -> float:
        known = [scores.get((item, name), math.nan) for name in usable if name != "all"]
        return math.fsum(known) / len(known) if known and all(map(math.isfinite, known)) else -math.inf

    ranked = sorted({item for item, _ in scores}, key=lambda item: (-mean(item), item))
    first = {item.model: item for item in reversed(ranked)}
    shown = [item for place, item in enumerate(ranked) if place < SHOWN or first[item.model] == item]
    values = [[scores.get((item, name), math.nan) for name in usable] for item in shown]
    ordered = sorted(rows, key=lambda row: (of(row), row["family"]))
    drawing = matrix(
        f"{panel.id}.families",
        f"{panel.dataset}, {panel.split} split: scaled scores by family of metrics",
        values,
        [name if name != "all" else "mean of all" for name in usable],
        [panel.names.configuration(item) for item in shown],
        "Scaled score (0 = train mean, 1 = half of the cells predicting the other half)",
        tuple(rows[0]),
        ordered,
        0,
        1,
    )
    leaders = {}
    for name in (name for name in usable if name != "all"):
        known = [item for item in ranked if math.isfinite(scores.get((item, name), math.nan))]
        known = [item for item in known if not knows_nothing(panel, item)]
        if known:
            leaders[name] = max(known, key=lambda item: scores[item, name])
    models = sorted({panel.names.model(item.model) for item in leaders.values()})
    says = f"{escape(listing(models))} {'leads' if len(models) == 1 else 'lead, depending on the family'}."
    note = (
        f" Not used, because they cannot tell models apart on this dataset: {escape(listing(left_out))}."
        if left_out
        else ""
    )
    body = (
        "<p>Scores on one scale, averaged within families of related metrics: 0 is the train mean, 1 is what one half "
        "of the "
        f"cells reaches as a prediction of the other half.{note}</p>" + drawing.html()
    )
    return "Families of metrics:", says, body, (drawing,)


def taus(panel: Panel, inputs: Inputs) -> dict[tuple[str, str], float]:
    """Return Kendall's tau of each pair of headline columns of a panel, both ways round."""
    found = {}
    for row in mine(panel, inputs.agreement):
        if row["compared"] == "metrics":
            one = panel.names.metric(row["metric"], row["gene_set"]).key
            other = panel.names.metric(row["other_metric"], row["other_gene_set"]).key
            found[one, other] = found[other, one] = parse(row["tau"])
    return found


def _agreement(panel: Panel, inputs: Inputs) -> Part | None:
    found = taus(panel, inputs)
    metrics = [metric for metric in panel.names.headline() if any(metric.key in pair for pair in found)]
    with_primary = {
        m.key: found.get((panel.primary.key, m.key), math.nan) for m in metrics if m.key != panel.primary.key
    }
    known = {key: tau for key, tau in with_primary.items() if math.isfinite(tau)}
    if len(metrics) < 2 or not known:
        return None
    values = [[1.0 if a == b else found.get((a.key, b.key), math.nan) for b in metrics] for a in metrics]
    rows = sorted(
        (row for row in mine(panel, inputs.agreement) if row["compared"] == "metrics"),
        key=lambda row: (row["metric"], row["gene_set"], row["other_metric"], row["other_gene_set"]),
    )
    titles = [metric.full_title for metric in metrics]
    drawing = matrix(
        f"{panel.id}.agreement",
        f"{panel.dataset}, {panel.split} split: do metrics order configurations alike",
        values,
        titles,
        titles,
        "Kendall's tau of the order of configurations (1 = same order, 0 = unrelated, −1 = reversed)",
        tuple(rows[0]),
        rows,
        0,
        1,
    )
    alike = sum(tau >= ALIKE for tau in known.values())
    says = (
        f"{alike} of {count(len(known), 'other headline metric')} order the configurations much like the primary one."
    )
    body = (
        "<p>Each cell: how alike two metrics order the configurations. Low values mean that the choice of the metric "
        "decides "
        "who wins.</p>" + drawing.html()
    )
    return "Do metrics agree?", says, body, (drawing,)
