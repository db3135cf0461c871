"""How far a test perturbation lies from training in the space of an encoder (metrics.md 7.6)."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from vcbench.core.errors import ModelError
from vcbench.models.fold_data import read_folds, read_vectors
from vcbench.models.nearest import cosine_distances

log = logging.getLogger(__name__)

#: (dataset, split) -> (encoder, strategy) -> (fold, perturbation) -> distance.
Distances = dict[tuple[str, str], dict[tuple[str, str], dict[tuple[int, str], float]]]
#: fold -> perturbation -> role.
Roles = Mapping[int, Mapping[str, str]]


def read(encodings: Iterable[Path], folds: Iterable[Path]) -> Distances:
    """Return the cosine distance of each test perturbation to the nearest training perturbation of its fold.

    `encodings` are `<dataset>.<encoder>.<strategy>.h5ad`, `folds` `<dataset>.<split>.folds.tsv`. Validation
    perturbations are no training. Perturbations without a vector have no distance; an encoding that cannot be read has
    none at all: models meet that error, not this table.
    """
    by_dataset: dict[str, dict[str, Roles]] = defaultdict(dict)
    for path in sorted(folds, key=lambda path: path.name):
        dataset, split = path.name.split(".")[:2]
        by_dataset[dataset][split] = read_folds(path)
    found: Distances = {}
    for path in sorted(encodings, key=lambda path: path.name):
        dataset = path.name.split(".")[0]
        splits = by_dataset.get(dataset, {})
        names = sorted({name for of in splits.values() for roles in of.values() for name in roles})
        try:
            vectors = read_vectors(path, names)
        except ModelError as error:
            log.warning("no distances to training: %s", error)
            continue
        row = {name: i for i, name in enumerate(vectors.ids)}
        matrix = vectors.matrix.astype(np.float64)
        for split, of in splits.items():
            nearest: dict[tuple[int, str], float] = {}
            for fold, roles in of.items():
                test, train = (
                    [name for name, its_role in roles.items() if its_role == role and name in row]
                    for role in ("test", "train")
                )
                if test and train:
                    between = cosine_distances(matrix[[row[n] for n in test]], matrix[[row[n] for n in train]])
                    nearest |= {(fold, name): float(d) for name, d in zip(test, between.min(axis=1), strict=True)}
            found.setdefault((dataset, split), {})[vectors.encoder, vectors.strategy] = nearest
    return found
