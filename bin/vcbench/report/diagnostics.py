"""Properties of the data and of predictions that are no scores, and scores by kind of perturbation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vcbench.report.inputs import Inputs, Row
from vcbench.report.names import Configuration
from vcbench.report.panel import Panel
from vcbench.report.section import Section, table
from vcbench.report.statistics import mine, of
from vcbench.report.text import NO_VALUE, count, escape, interval, number, parse

TITLE = "What the data and the predictions are like"
#: `model` of the rows about the measurement.
TRUTH = "truth"
#: References in words.
REFERENCES = {
    "ctrl": "against control", "ctrl/mean": "against control, mean instead of median",
    "pm": "against the mean of the perturbations", "pm/ctrl": "share of its own",
    "p<0.05": "share with p < 0.05", "significant": "after correction",
}  # fmt: skip
#: Strata in words.
STRATA = {
    "severity": "Severity", "domain": "Domain", "consequence": "Consequence", "position": "Residue in training",
    "cells": "Number of cells", "effect": "Measured effect", "detectable_etest": "Detectable effect (E-test)",
    "detectable_genes": "Detectable effect (any changed gene)",
    "distance": "Distance to training in the encoder's space",
}  # fmt: skip
#: Diagnostics that count things.
_COUNTS = ("diag_median_n_de", "diag_synonymous", "diag_n_etest_sig")
#: Diagnostics of the measurement that stand elsewhere, or in the table only.
_ELSEWHERE = ("diag_pathway_shift", "diag_pathway_ulm", "diag_cells_tau", "diag_mmd_bandwidth")
#: Pathways shown; the table has all.
PATHWAYS = 10


def sections(panel: Panel, inputs: Inputs, module: str, module_title: str) -> list[Section]:
    """Return one section of folded tables; nothing without the tables or when scores are withheld."""
    if panel.missing_controls():
        return []
    rows = mine(panel, inputs.diagnostics)
    titles = inputs.names.diagnostics
    parts = [
        _data(rows, titles),
        _predictions(panel, rows, titles),
        _fewer_cells(panel, rows),
        _pathways(panel, rows),
        _strata(panel, mine(panel, inputs.strata)),
    ]
    html = "".join(
        f'<details class="vcb-fold"><summary><b>{title}</b> {says}</summary>{body}</details>'
        for title, says, body in (part for part in parts if part)
    )
    if not html:
        return []
    return [Section(f"{panel.id}_diagnostics", module, module_title, TITLE, "html", html)]


def chosen(panel: Panel) -> list[Configuration]:
    """Return the best configuration of each model, best first: what a reader compares."""
    best: dict[str, Configuration] = {}
    for configuration in panel.ranked():
        if configuration in panel.scored():
            best.setdefault(configuration.model, configuration)
    return list(best.values())


def _reference(name: str, reference: str) -> str:
    """Return a reference in words; of a count of perturbations p < 0.05 is no share."""
    return "p < 0.05" if name in _COUNTS and reference == "p<0.05" else REFERENCES.get(reference, reference)


def _value(row: Row | None, places: int = 2) -> str:
    """Return a value with the ends of its spread."""
    if row is None:
        return NO_VALUE
    value, low, high = (parse(row[name]) for name in ("value", "low", "high"))
    is_count = row["diagnostic"] in _COUNTS or row["reference"] == "significant"
    places = 0 if is_count or abs(value) >= 100 else 1 if abs(value) >= 10 else places
    ends = interval(low, high, places)
    of_all = f" of {row['n']}" if row["diagnostic"] == "diag_n_etest_sig" else ""
    return number(value, places) + of_all + (f" <small>({ends})</small>" if ends != NO_VALUE else "")


def _data(rows: Sequence[Row], titles: dict[str, dict[str, str]]) -> tuple[str, str, str] | None:
    found = {(row["diagnostic"], row["reference"]): row for row in rows if row["model"] == TRUTH}
    shown = [
        (name, reference, row)
        for name in titles for (diagnostic, reference), row in found.items()
        if diagnostic == name and name not in _ELSEWHERE
    ]  # fmt: skip
    if not shown:
        return None
    body = table(
        ["Property", "Reference", "Value (quartiles or interval)", "What it says"],
        [
            [f"<b>{escape(titles[name]['title'])}</b>", escape(_reference(name, reference)), _value(row),
             escape(titles[name]["explain"])]
            for name, reference, row in shown
        ],
    )  # fmt: skip
    says = []
    systematic = found.get(("diag_sim_to_average", "ctrl"))
    if systematic and math.isfinite(parse(systematic["value"])):
        says.append(f"a perturbation's change is like the average change: cosine {number(parse(systematic['value']))}")
    noise = found.get(("diag_noise_share", "pm"))
    if noise and math.isfinite(parse(noise["value"])):
        says.append(f"{100 * parse(noise['value']):.0f} % of the variance between perturbations is sampling noise")
    return "The measurement:", "; ".join(says) + ("." if says else ""), body


def _by_configuration(rows: Sequence[Row]) -> dict[tuple[Configuration, str, str], Row]:
    return {(of(row), row["diagnostic"], row["reference"]): row for row in rows if row["model"] != TRUTH}


def _predictions(panel: Panel, rows: Sequence[Row], titles: dict[str, dict[str, str]]) -> tuple[str, str, str] | None:
    found = _by_configuration(rows)
    columns = [
        ("diag_variance_ratio", ""), ("diag_near_train_mean", ""), ("diag_collapse_pearson", ""),
        ("diag_direction", "0.25-0.5"), ("diag_error_vs_cells", ""), ("diag_coverage", "90%"),
        ("diag_dispersion", "predicted/measured"),
    ]  # fmt: skip
    shown = chosen(panel)
    columns = [
        column
        for column in columns
        if any((item, *column) in found and found[item, *column]["value"] for item in shown)
    ]
    if not shown or not columns:
        return None
    header = ["Model", *(escape(titles[name]["title"]) + (f" {reference}" if reference else "")
                         for name, reference in columns)]  # fmt: skip
    body = table(
        header,
        [
            [escape(panel.names.configuration(item)), *(_value(found.get((item, *column))) for column in columns)]
            for item in shown
        ],
    )
    lines = "".join(
        f"<li><b>{escape(titles[name]['title'])}</b>: {escape(titles[name]['explain'])}</li>" for name, _ in columns
    )
    body += f"<ul>{lines}</ul><p>Best configuration of each model; all of them: tables/diagnostics.tsv.</p>"
    flat = [
        item for item in shown
        if not panel.names.is_baseline(item) and (item, "diag_near_train_mean", "") in found
        and parse(found[item, "diag_near_train_mean", ""]["value"]) > 0.5
    ]  # fmt: skip
    says = (
        f"{count(len(flat), 'model')} {'repeats' if len(flat) == 1 else 'repeat'} the train mean for most of them."
        if flat
        else "do they differ from each other, are their changes as large and in the right direction?"
    )
    return "The predictions:", says, body


def _fewer_cells(panel: Panel, rows: Sequence[Row]) -> tuple[str, str, str] | None:
    found = _by_configuration(rows)
    shares = ("0.25", "0.5", "1")
    shown = [item for item in chosen(panel) if (item, "diag_cells", f"{panel.primary.key}@1") in found]
    if not shown:
        return None
    body = table(
        ["Model", "A quarter of the cells", "Half", "All"],
        [
            [escape(panel.names.configuration(item)),
             *(_value(found.get((item, "diag_cells", f"{panel.primary.key}@{share}")), 3) for share in shares)]
            for item in shown
        ],
    )  # fmt: skip
    n = parse(found[shown[0], "diag_cells", f"{panel.primary.key}@1"]["n"])
    body += (
        f"<p>{escape(panel.primary.full_title)} on the {count(n, 'perturbation')} with enough cells for all three. "
        "Scores that still rise with the number of cells are limited by the measurement.</p>"
    )
    tau = next(
        (row for row in rows if row["diagnostic"] == "diag_cells_tau" and row["reference"].endswith("@0.25")), None
    )
    says = "what the scores would be with fewer cells."
    if tau and math.isfinite(parse(tau["value"])):
        says = (
            f"with a quarter of them the order of {count(parse(tau['n']), 'configuration')} agrees with the final one "
            f"by Kendall's tau {number(parse(tau['value']), 2)}."
        )
    return "Fewer cells:", says, body


def _pathways(panel: Panel, rows: Sequence[Row]) -> tuple[str, str, str] | None:
    truth = {(row["diagnostic"], row["reference"]): row for row in rows if row["model"] == TRUTH}
    names = [name for diagnostic, name in truth if diagnostic == "diag_pathway_ulm"]
    if not names:
        return None
    names.sort(key=lambda name: (-abs(parse(truth["diag_pathway_ulm", name]["value"])), name))
    found = _by_configuration(rows)
    best = [item for item in chosen(panel) if (item, "diag_pathway_r", names[0]) in found][:3]
    body = table(
        ["Pathway", "Measured shift (quartiles)", "t against all other genes",
         *(escape(panel.names.configuration(item)) for item in best)],
        [
            [escape(name), _value(truth.get(("diag_pathway_shift", name)), 3),
             _value(truth["diag_pathway_ulm", name]),
             *(_value(found.get((item, "diag_pathway_r", name))) for item in best)]
            for name in names[:PATHWAYS]
        ],
    )  # fmt: skip
    body += (
        "<p>Columns of models: correlation over perturbations of predicted and measured change of the pathway. t is a "
        f"rank, not a test: genes are correlated. {count(len(names), 'pathway')} in tables/diagnostics.tsv.</p>"
    )
    return "Pathways:", f"the {min(PATHWAYS, len(names))} that stand out most from all other genes.", body


def _strata(panel: Panel, rows: Sequence[Row]) -> tuple[str, str, str] | None:
    primary = [row for row in rows if (row["metric"], row["gene_set"]) == (panel.primary.id, panel.primary.gene_set)]
    models = [item for item in chosen(panel) if not panel.names.is_baseline(item)][:1]
    reference = panel.reference()
    shown = [*models, *([reference] if reference else [])]
    found = {(of(row), row["stratum"], row["level"]): row for row in primary}
    levels = list(dict.fromkeys((row["stratum"], row["level"]) for row in primary))
    if not levels or not shown:
        return None
    places = panel.places()
    body_rows = []
    previous = ""
    for stratum, level in levels:
        cells = [found.get((item, stratum, level)) for item in shown]
        first = next((row for row in cells if row), None)
        if first is None:
            continue
        body_rows.append(
            [
                f"<b>{escape(STRATA.get(stratum, stratum))}</b>" if stratum != previous else "",
                escape(level),
                f"{parse(first['n_expected']):.0f}",
                number(parse(first["ceiling"]), places),
                *(_stratum_value(row, places) for row in cells),
            ]
        )
        previous = stratum
    names = [escape(panel.names.configuration(item)) for item in shown]
    body = table(["Kind", "Level", "Perturbations", "Ceiling", *names], body_rows)
    body += (
        f"<p>{escape(panel.primary.full_title)}, 95 % intervals. Many groups are compared: expect some to stand out by "
        "chance. Other metrics and models: tables/strata.tsv.</p>"
    )
    return "By kind of perturbation:", "severity, domain, known residues, cells, effect, distance to training.", body


def _stratum_value(row: Row | None, places: int) -> str:
    if row is None or not row["value"]:
        return NO_VALUE
    ends = interval(parse(row["ci_low"]), parse(row["ci_high"]), places)
    return number(parse(row["value"]), places) + (f" <small>({ends})</small>" if ends != NO_VALUE else "")
