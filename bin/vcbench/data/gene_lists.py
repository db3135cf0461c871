"""Gene lists that a user's file brings along for `bench_compat_*` metrics (``--bench_compat_de_list file``)."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vcbench.data.conditions import Condition

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

#: Where VariantCellBench and GEARS keep them, the first that is there.
KEYS = ("top_non_dropout", "top_non_dropout_de_20")
#: Column of obs with the keys of the lists, where they are not the labels themselves.
NAMES = "condition_name"
#: Genes kept of a list; the metrics use the first 20 that were measured.
LENGTH = 100


def read(path: Path | str, obs: pd.DataFrame, labels: np.ndarray, found: Iterable[Condition]) -> dict[str, list[str]]:
    """Return the gene lists of an h5ad file by perturbation id, best gene first; empty when it has none.

    The list of a label is stored under the label itself or under its `condition_name` in obs, exactly. Of labels that
    mean the same perturbation the first with a list counts. Anything else in that place is named and left out.
    """
    import h5py

    with h5py.File(path, "r") as handle:
        key = next((name for name in KEYS if f"uns/{name}" in handle), None)
        if key is None:
            return {}
        stored = handle[f"uns/{key}"]
        if not isinstance(stored, h5py.Group):
            log.warning("%s, uns['%s']: not gene lists by perturbation, left out", path, key)
            return {}
        names = dict(zip(labels, obs[NAMES].astype(str), strict=True)) if NAMES in obs else {}
        lists = {}
        for condition in found:
            for label in condition.labels:
                place = next((name for name in (label, names.get(label)) if name in stored), None)
                if place is None or condition.id in lists:
                    continue
                node = stored[place]
                if not isinstance(node, h5py.Dataset) or node.ndim != 1 or h5py.check_string_dtype(node.dtype) is None:
                    log.warning("%s, uns['%s']['%s']: not a list of gene names, left out", path, key, place)
                    continue
                lists[condition.id] = [str(gene) for gene in node.asstr()[:LENGTH]]
    return lists
