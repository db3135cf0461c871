"""`encoder_map.tsv`: perturbations on the first two principal components of their vectors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from vcbench.encoders.qc.encodings import REF
from vcbench.encoders.qc.quality import Examined

COLUMNS = (
    "dataset", "encoder", "strategy", "method", "perturbation", "x", "y", "x_share", "y_share", "consequence",
    "severity", "domain", "zero_shot_llr",
)  # fmt: skip

METHOD = "pca"


def rows(examined: Examined, scores: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    """Yield one row per perturbation with a vector of its own; synonymous variants are placed on the others' axes.

    `scores` is {perturbation: zero-shot LLR}. No row for strategy `ref` (one vector per residue, not per variant), for
    vectors that are all the same or not finite; `encoder_quality.tsv` says so.
    """
    encoding, parts = examined.encoding, examined.parts
    if encoding.strategy == REF or parts is None or not len(parts.singular):
        return
    shown = np.flatnonzero(encoding.changed | encoding.silent)
    axes = parts.axes[:2]
    places = np.zeros((len(shown), 2))
    places[:, : len(axes)] = (encoding.matrix[shown] - parts.mean) @ axes.T
    shares = [*parts.shares()[:2], 0.0][:2]
    # axes that carry nothing but rounding noise give -0.0 or 1e-17
    places[np.abs(places) < 1e-12 * np.abs(places).max()] = 0.0
    for (x, y), i in zip(places, shown, strict=True):
        row = encoding.rows[i]
        yield {
            "dataset": encoding.dataset,
            "encoder": encoding.encoder,
            "strategy": encoding.strategy,
            "method": METHOD,
            "perturbation": encoding.names[i],
            "x": float(x),
            "y": float(y),
            "x_share": float(shares[0]),
            "y_share": float(shares[1]),
            "consequence": row["consequence"],
            "severity": row.get("severity", ""),
            "domain": row.get("domain", ""),
            "zero_shot_llr": scores.get(encoding.names[i], math.nan),
        }
