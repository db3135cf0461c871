"""strata.tsv: headline metrics by kind of perturbation (metrics.md 7.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.core.tables import read_tsv
from vcbench.encoders.qc import labels
from vcbench.metrics import contract
from vcbench.metrics.registry import Metric
from vcbench.stats import bootstrap
from vcbench.stats.leaderboard import within
from vcbench.stats.numbers import named, tidied
from vcbench.stats.panel import Panel, Series

if TYPE_CHECKING:
    import pyarrow as pa

STRATA = (
    "dataset", "split", "model", "encoder", "strategy", "metric", "gene_set", "stratum", "level", "value", "ci_low",
    "ci_high", "n", "n_expected", "interval", "n_clusters", "ceiling",
)  # fmt: skip

#: Strata in the order of the report: name, and the column of perturbations.tsv (empty: made here).
ANNOTATED = {"severity": "severity", "domain": "domain", "consequence": "consequence"}
POSITION, CELLS, EFFECT = "position", "cells", "effect"
#: Whether there is any detectable effect (metrics.md 10.5): by the E-test where the truth has it, else by its genes.
BY_ETEST, BY_GENES = "detectable_etest", "detectable_genes"
#: Distance to the nearest training perturbation in the space of the configuration's own encoder.
DISTANCE = "distance"
SEEN, UNSEEN = "seen", "unseen"
#: What the rows of the truth say of a perturbation.
FACTS = ("impact", "diag_position_seen", "etest_p", "de_nsig_true")


def read_annotations(paths: Iterable[Path]) -> dict[str, dict[str, dict[str, str]]]:
    """Return by dataset and perturbation the rows of `<dataset>.perturbations.tsv`."""
    return {
        path.name.split(".")[0]: {row["perturbation"]: row for row in read_tsv(path, ("perturbation",))}
        for path in sorted(paths, key=lambda path: path.name)
    }


def facts(table: pa.Table) -> dict[tuple[str, str], dict[str, dict[tuple[int, str], float]]]:
    """Return by dataset and split, and by fact of the measurement, the value of each (fold, perturbation)."""
    import pyarrow.compute as pc

    wanted = pc.and_(pc.equal(table["model"], contract.TRUTH),
                     pc.is_in(table["metric"], pa_array(FACTS)))  # fmt: skip
    found: dict[tuple[str, str], dict[str, dict[tuple[int, str], float]]] = {}
    for row in table.filter(wanted).to_pylist():
        if row["perturbation"] and row["value"] is not None:
            of = found.setdefault((row["dataset"], row["split"]), {}).setdefault(row["metric"], {})
            of[row["fold"], row["perturbation"]] = row["value"]
    return found


def pa_array(values: Sequence[str]) -> pa.Array:
    """Return a pyarrow array of strings."""
    import pyarrow as pa

    return pa.array(list(values), pa.string())


def levels(
    rows: Sequence[tuple[int, str]], annotations: Mapping[str, Mapping[str, str]],
    of_truth: Mapping[str, Mapping[tuple[int, str], float]],
) -> dict[str, np.ndarray]:  # fmt: skip
    """Return by stratum the level of each (fold, perturbation) of a panel, empty where unknown.

    Annotated classes stand as they are (many different numbers become terciles); cells and measured effect are cut
    into terciles over the panel. Whether there is a detectable effect is told by the E-test where the truth has one
    (p <= .05), else by whether any gene is significantly changed. Strata with fewer than two levels are left out.
    """
    found: dict[str, list[str]] = {
        name: labels.classes([annotations.get(of, {}).get(column, "") or "" for _, of in rows])
        for name, column in ANNOTATED.items()
    }
    seen = of_truth.get("diag_position_seen", {})
    found[POSITION] = ["" if row not in seen else SEEN if seen[row] else UNSEEN for row in rows]
    found[CELLS] = _terciles([float(annotations.get(of, {}).get("n_cells") or np.nan) for _, of in rows])
    sizes = of_truth.get("impact", {})
    found[EFFECT] = _terciles([sizes.get(row, np.nan) for row in rows])
    p, n = (of_truth.get(name, {}) for name in ("etest_p", "de_nsig_true"))
    if any(not np.isnan(value) for value in p.values()):
        found[BY_ETEST] = _yes_or_no([p.get(row, np.nan) for row in rows], lambda value: value <= contract.ETEST_LEVEL)
    else:
        found[BY_GENES] = _yes_or_no([n.get(row, np.nan) for row in rows], lambda value: value > 0)
    return {
        name: np.array(values, dtype=object) for name, values in found.items() if len(set(values) - {""}) > 1
    }  # fmt: skip


def _yes_or_no(values: Sequence[float], is_so: Callable[[float], bool]) -> list[str]:
    return ["" if np.isnan(value) else "yes" if is_so(value) else "no" for value in values]


def by_encoder(
    rows: Sequence[tuple[int, str]], distances: Mapping[tuple[str, str], Mapping[tuple[int, str], float]]
) -> dict[tuple[str, str], np.ndarray]:
    """Return by encoder and strategy the tercile of distance of each (fold, perturbation), empty where unknown.

    Encoders for which all are equally far (a constant one) are left out.
    """
    found = {of: _terciles([near.get(row, np.nan) for row in rows]) for of, near in distances.items()}
    return {of: np.array(values, dtype=object) for of, values in found.items() if len(set(values) - {""}) > 1}


def _terciles(values: Sequence[float]) -> list[str]:
    """Return ``low``, ``middle`` or ``high`` by mid-rank, empty for NaN; fewer than three known values have none."""
    from scipy.stats import rankdata

    known = ~np.isnan(np.array(values, dtype=np.float64))
    if known.sum() < 3:
        return [""] * len(values)
    place = np.zeros(len(values))
    place[known] = (rankdata(np.array(values)[known]) - 0.5) / known.sum()
    return [labels.TERCILES[min(2, int(3 * p))] if ok else "" for p, ok in zip(place, known, strict=True)]


def rows(
    panel: Panel, metric: Metric, gene_set: str, series: Series, strata: Mapping[str, np.ndarray],
    far: Mapping[tuple[str, str], np.ndarray] | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the rows of one metric for every stratum; undefined predictions at no skill, as in the report.

    Metrics over perturbations other than ratios of sums have no value for a part of them: no rows. `far` are levels by
    encoder and strategy (:func:`by_encoder`); configurations without an encoder have no rows there.
    """
    if metric.jackknife:
        return []
    duplicate = panel.duplicate(metric, gene_set)
    scored = np.flatnonzero(panel.scored)
    expected = panel.expected(panel.plan)
    found = []
    for stratum, level_of in _of_configurations(panel, scored, strata, far or {}):
        for level in sorted(set(level_of.ravel().tolist()) - {""}, key=_order):
            inside = level_of == level
            top = np.where(inside, series.imputed_numerator[scored], np.nan)
            bottom = np.where(inside, series.imputed_denominator[scored], np.nan)
            ci = bootstrap.intervals(top, bottom, panel.groups, panel.weights)
            ceiling = bootstrap.ratio(
                np.where(inside, duplicate.numerator, np.nan), np.where(inside, duplicate.denominator, np.nan)
            )
            numbers = {
                "value": ci.estimate, "ci_low": within(ci.low, metric), "ci_high": within(ci.high, metric),
                "ceiling": ceiling,
            }  # fmt: skip
            n = (~np.isnan(top) & ~np.isnan(bottom)).sum(1)
            for i, m in enumerate(scored):
                if stratum == DISTANCE and not inside[i].any():
                    continue
                found.append({
                    "dataset": panel.dataset, "split": panel.split, **named(panel.plan[m].of), "metric": metric.id,
                    "gene_set": gene_set, "stratum": stratum, "level": level, "n": int(n[i]),
                    "n_expected": int((expected[m] & inside[i]).sum()), "interval": ci.method[i],
                    "n_clusters": int(ci.n_clusters[i]), **tidied(numbers, i),
                })  # fmt: skip
    return found


def _of_configurations(
    panel: Panel, scored: np.ndarray, strata: Mapping[str, np.ndarray], far: Mapping[tuple[str, str], np.ndarray]
) -> list[tuple[str, np.ndarray]]:
    """Return strata with the (scored, K) level of each perturbation; only distances differ between configurations."""
    k = len(panel.rows)
    found = [(name, np.broadcast_to(level_of, (len(scored), k))) for name, level_of in strata.items()]
    if far and len(scored):
        nothing = np.full(k, "", dtype=object)
        found.append((DISTANCE, np.stack([far.get(panel.plan[m].of[1:], nothing) for m in scored])))
    return found


def _order(level: str) -> tuple[int, str]:
    """Return a key that puts terciles in their order and other levels by name."""
    return (labels.TERCILES.index(level), "") if level in labels.TERCILES else (0, level)
