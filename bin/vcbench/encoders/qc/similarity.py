"""`encoder_similarity.tsv`: CKA of every pair of encoders of a dataset and strategy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from vcbench.encoders.qc import cka
from vcbench.encoders.qc.quality import Examined

COLUMNS = ("dataset", "strategy", "encoder_a", "encoder_b", "n", "cka", "estimator", "undefined")

ESTIMATOR = "linear CKA, unbiased HSIC"


def rows(examined: Sequence[Examined]) -> Iterator[dict[str, Any]]:
    """Yield one row per pair (a before b by name) of encodings of one dataset and strategy, over their common rows."""
    for first, second in itertools.combinations(sorted(examined, key=lambda each: each.encoding.encoder), 2):
        rows_of = [{name: i for i, name in enumerate(each.names)} for each in (first, second)]
        common = sorted(set(rows_of[0]) & set(rows_of[1]))
        value, reason = math.nan, ""
        bad = [each.encoding.encoder for each in (first, second) if each.parts is None]
        same = [each.encoding.encoder for each in (first, second) if each.parts and not len(each.parts.singular)]
        if bad:
            reason = f"{' and '.join(bad)}: values that are not finite, or fewer than two perturbations"
        elif same:
            reason = f"{' and '.join(same)}: all vectors are the same"
        elif len(common) < cka.FEWEST:
            reason = f"fewer than {cka.FEWEST} common perturbations"
        else:
            parts = [
                each.parts.scores[[place[name] for name in common]]
                for each, place in zip((first, second), rows_of, strict=True)
            ]
            value = cka.cka(*parts)
            if math.isnan(value):
                reason = "the vectors of an encoder are all equally far apart: they hold no similarity to compare"
        yield {
            "dataset": first.encoding.dataset,
            "strategy": first.encoding.strategy,
            "encoder_a": first.encoding.encoder,
            "encoder_b": second.encoding.encoder,
            "n": len(common),
            "cka": value,
            "estimator": ESTIMATOR,
            "undefined": reason,
        }
