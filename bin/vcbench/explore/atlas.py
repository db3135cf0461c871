"""atlas.tsv: predicted impact of every substitution, from all fitted models of a configuration."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vcbench.core.errors import InputError
from vcbench.core.tables import read_tsv
from vcbench.core.units import Unit
from vcbench.explore.intervals import Sample
from vcbench.explore.known_function import ALL_UNMEASURED, Predictor, Variants
from vcbench.stats.numbers import tidy

COLUMNS = (
    "dataset", "split", "model", "encoder", "strategy", "perturbation", "gene", "position", "ref", "alt", "impact",
    "percentile", "impact_sd", "impact_all", "n_models", "n_models_all", "seen", "measured_impact", "zero_shot_llr",
)  # fmt: skip
SUFFIX = ".atlas.tsv"
#: Roles of a fold in which a model has seen the variant.
SEEN = ("train", "valid")

#: (dataset, split, model, encoder, strategy).
Key = tuple[str, str, str, str, str]


def read_units(paths: Iterable[Path]) -> dict[Key, list[dict[str, dict[str, str]]]]:
    """Return by configuration the tables of its units, {substitution: row}, in the order of fold and seed."""
    units = sorted((Unit.parse(path.name.removesuffix(SUFFIX)), path) for path in paths)
    found: dict[Key, list[dict[str, dict[str, str]]]] = defaultdict(list)
    for unit, path in units:
        table = {row["perturbation"]: row for row in read_tsv(path, ("perturbation", "role", "impact"))}
        of = found[unit.dataset, unit.split, unit.model, unit.encoder, unit.strategy]
        if of and of[0].keys() != table.keys():
            raise InputError("substitutions differ from those of another fold", where=str(path))
        of.append(table)
    return dict(found)


def rows(
    key: Key, tables: Sequence[Mapping[str, Mapping[str, str]]], substitutions: Sequence[Mapping[str, str]],
    measured: Mapping[str, float], zero_shot: Mapping[str, float],
) -> list[dict[str, Any]]:  # fmt: skip
    """Return one row per substitution of a configuration, in the order of the table of substitutions.

    `impact` is the mean over the models (folds and seeds) that have not seen the variant: all of them for one that was
    never measured, those of its test fold for one that was, so that no impact is that of a training variant.
    `impact_all` and `impact_sd` are over all models. A measured variant that every model has seen has no `impact`.
    """
    absent = [row["perturbation"] for row in substitutions if row["perturbation"] not in tables[0]]
    if absent:
        raise InputError(f"{absent[0]} was not predicted", where=f"atlas of {'.'.join(key)}")
    found = []
    for row in substitutions:
        name = row["perturbation"]
        values = np.array([float(table[name]["impact"]) for table in tables])
        roles = [table[name]["role"] for table in tables]
        unseen = values[[role not in SEEN for role in roles]]
        found.append({
            **dict(zip(COLUMNS, key, strict=False)), "perturbation": name, "gene": row["gene"], "position": row["pos"],
            "ref": row["ref"], "alt": row["alt"], "impact": tidy(unseen.mean()) if len(unseen) else None,
            "impact_sd": tidy(values.std(ddof=1)) if len(values) > 1 else None, "impact_all": tidy(values.mean()),
            "n_models": len(unseen), "n_models_all": len(values), "seen": any(roles),
            "measured_impact": _known(measured, name), "zero_shot_llr": _known(zero_shot, name),
        })  # fmt: skip
    for gene in sorted({row["gene"] for row in found}):
        own = [row for row in found if row["gene"] == gene and row["impact"] is not None]
        impacts = np.array([row["impact"] for row in own])
        order = np.sort(impacts)
        below, up_to = np.searchsorted(order, impacts, "left"), np.searchsorted(order, impacts, "right")
        for row, share in zip(own, (below + up_to) / 2 / len(own), strict=True):
            row["percentile"] = tidy(100 * share)
    return [{**dict.fromkeys(COLUMNS), **row} for row in found]


def _known(values: Mapping[str, float], name: str) -> float | None:
    value = values.get(name, math.nan)
    return None if math.isnan(value) else tidy(value)


def unmeasured(
    dataset: str, split: str, atlases: Mapping[Key, Sequence[Mapping[str, Any]]],
    substitutions: Sequence[Mapping[str, str]], kinds: Mapping[str, str], base: Predictor | None,
    sample: Sample,
) -> Variants:  # fmt: skip
    """Return the substitutions nobody measured as variants to hold against what is known of them.

    `kinds` is the class of each model, `base` the zero-shot ranking of all substitutions, `sample` their clusters.
    """
    first = next(iter(atlases.values()))
    keep = np.array([not row["seen"] for row in first], dtype=bool)

    def impacts(of: Sequence[Mapping[str, Any]]) -> np.ndarray:
        return np.array([row["impact"] for row, kept in zip(of, keep, strict=True) if kept], dtype=float)

    predictors = [Predictor(*key[2:], kinds.get(key[2], ""), impacts(of)) for key, of in atlases.items()]
    if base is not None:
        predictors.insert(0, Predictor(base.model, base.encoder, base.strategy, base.kind, base.impact[keep]))
    known = [row for row, k in zip(substitutions, keep, strict=True) if k]
    return Variants(
        dataset, split, ALL_UNMEASURED, known, np.ones(int(keep.sum()), dtype=int), sample.of(keep), predictors
    )
