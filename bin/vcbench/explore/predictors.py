"""Who ranks the variants: impacts predicted by every model, the measured effect, zero-shot scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from vcbench.core import h5ad
from vcbench.core.errors import InputError
from vcbench.core.known_columns import is_number
from vcbench.explore.known_function import MEASURED, ZERO_SHOT, Predictor
from vcbench.metrics import contract
from vcbench.stats.panel import Planned
from vcbench.stats.scores import Scores

#: Metric and gene set whose values are impacts.
IMPACT = ("impact", "expr_nt")
#: Encoder whose single column is the zero-shot log-likelihood ratio, and the annotation that may hold one instead.
SCORE_ENCODER, SCORE_COLUMN = "esm2_llr", "zero_shot_llr"
NONE = "none"


def read_zero_shot(paths: Iterable[Path]) -> dict[str, dict[str, float]]:
    """Return {dataset: {perturbation: log-likelihood ratio}} of `<dataset>.esm2_llr.<alt or diff>[.atlas].h5ad` files.

    Variants of several files of a dataset are united; `diff` is minus the score, because its reference is zero.
    """
    found: dict[str, dict[str, float]] = {}
    for path in sorted(paths, key=lambda path: path.name):
        dataset, encoder, strategy = path.name.split(".")[:3]
        if encoder != SCORE_ENCODER or strategy not in ("alt", "diff"):
            raise InputError(
                "not a file of zero-shot scores", where=str(path), expected=f"<dataset>.{SCORE_ENCODER}.alt.h5ad"
            )
        data = h5ad.read(path)
        if data.n_vars != 1:
            raise InputError("not a single score per variant", where=str(path), found=f"{data.n_vars} columns")
        sign = 1.0 if strategy == "alt" else -1.0
        scores = sign * np.asarray(data.X, dtype=np.float64)[:, 0] + 0.0
        own = found.setdefault(dataset, {})
        own.update({n: float(s) for n, s in zip(data.obs_names, scores, strict=True) if n != h5ad.CONTROL})
    return found


def zero_shot(
    names: Sequence[str], scores: Mapping[str, float], annotations: Sequence[Mapping[str, str]]
) -> Predictor | None:
    """Return minus the log-likelihood ratio as a predictor: the run's own, else the user's column; None without."""
    if scores:
        return Predictor(
            SCORE_ENCODER, NONE, NONE, ZERO_SHOT, -np.array([scores.get(name, math.nan) for name in names])
        )
    texts = [row.get(SCORE_COLUMN, "") for row in annotations]
    if not any(texts):
        return None
    bad = next((text for text in texts if text and not is_number(text)), None)
    if bad is not None:
        raise InputError("not a number", where=f"annotations, column {SCORE_COLUMN}", found=bad)
    return Predictor(SCORE_COLUMN, NONE, NONE, ZERO_SHOT, -np.array([float(text or "nan") for text in texts]))


def measured(scores: Scores) -> Predictor:
    """Return the measured effect as a predictor: what a model that knows the truth would rank by."""
    where = np.array(scores.configurations.get((contract.TRUTH, NONE, NONE, 0), -1))
    return Predictor(MEASURED, NONE, NONE, MEASURED, scores.of(*IMPACT, where)[0])


def of_models(scores: Scores, plan: Sequence[Planned]) -> list[Predictor]:
    """Return the predicted impacts of each planned combination, mean over its seeds; all predictions are held out."""
    found = []
    for planned in plan:
        where, _ = scores.at([planned.of], [planned.seeds])
        values = scores.of(*IMPACT, where)[0][:, 0]
        known = ~np.isnan(values)
        with np.errstate(invalid="ignore"):
            mean = np.where(known, values, 0.0).sum(0) / known.sum(0)
        found.append(Predictor(*planned.of, planned.kind, mean))
    return found
