"""Nearest neighbours of vectors: do they share what the vector should say?

Distances are Euclidean: models see the vectors as they are. Neighbours that are equally near share the vote.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Rows of distances held at a time.
BLOCK = 1024
#: Squared distances closer than this share of the mean squared norm are equal; float64 rounding is far below.
TIE = 1e-11


@dataclass(frozen=True)
class Nearest:
    """The nearest other rows of `n` rows: (k,) arrays row, neighbour and weight; weights of a row add to 1."""

    n: int
    row: np.ndarray
    neighbour: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class Agreement:
    """How often the nearest neighbour has the same label.

    Attributes
    ----------
    n
        Rows with a label; neighbours are looked for among them.
    share
        Mean weight of neighbours with the row's own label.
    chance, chance_sd
        Mean and standard deviation of `share` over all permutations of the labels (exact).
    possible
        Share of rows whose label occurs twice or more: the largest possible `share`.
    """

    n: int
    share: float
    chance: float
    chance_sd: float
    possible: float


def distances(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the (n, m) squared Euclidean distances; give centred rows, for a large mean costs digits."""
    squares = np.sum(rows**2, axis=1)[:, None] + np.sum(others**2, axis=1)[None, :]
    return np.maximum(squares - 2 * rows @ others.T, 0.0)


def nearest(matrix: np.ndarray) -> Nearest:
    """Return the nearest other rows of every row of an (n, D) matrix, n >= 2."""
    centred = matrix - matrix.mean(axis=0)
    tolerance = TIE * float(np.mean(np.sum(centred**2, axis=1)))
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for start in range(0, len(centred), BLOCK):
        block = distances(centred[start : start + BLOCK], centred)
        own = np.arange(len(block))
        block[own, start + own] = math.inf
        hit = block <= block.min(axis=1, keepdims=True) + tolerance
        row, neighbour = np.nonzero(hit)
        found.append((row + start, neighbour, 1 / hit.sum(axis=1)[row]))
    return Nearest(len(centred), *(np.concatenate(parts) for parts in zip(*found, strict=True)))


def agreement(graph: Nearest, labels: Sequence[str]) -> Agreement:
    """Return how often nearest neighbours share a label, beside the exact moments under permuted labels; n >= 4.

    The share is a join count; its moments under permutation follow from the pairs of edges that share two, one or no
    row (Cliff & Ord, Spatial Processes, 1981, chapter 2).
    """
    n = graph.n
    codes = np.unique(np.asarray(labels, dtype=object).astype(str), return_inverse=True)[1]
    same = codes[graph.row] == codes[graph.neighbour]
    sizes = np.array(list(Counter(codes.tolist()).values()), dtype=np.float64)
    falling = [sizes, sizes * (sizes - 1), sizes * (sizes - 1) * (sizes - 2)]
    falling.append(falling[2] * (sizes - 3))
    pairs = n * (n - 1)
    equal = falling[1].sum() / pairs
    three = falling[2].sum() / (pairs * (n - 2))
    two_pairs = (falling[3].sum() + falling[1].sum() ** 2 - (falling[1] ** 2).sum()) / (pairs * (n - 2) * (n - 3))
    # edges that share both rows, one row, none
    both = float(np.sum(graph.weight**2) + _mutual(graph))
    touching = np.bincount(graph.row, graph.weight, n) + np.bincount(graph.neighbour, graph.weight, n)
    total, touched = float(graph.weight.sum()), float(np.sum(touching**2))
    second = both * equal + (touched - 2 * both) * three + (total**2 - touched + both) * two_pairs
    variance = max(second - (total * equal) ** 2, 0.0)
    return Agreement(
        n,
        float(graph.weight[same].sum()) / n,
        float(equal),
        math.sqrt(variance) / n,
        float(sizes[sizes > 1].sum()) / n,
    )


def _mutual(graph: Nearest) -> float:
    """Return the sum over edges of weight(i, j) weight(j, i)."""
    there, back = graph.row * graph.n + graph.neighbour, graph.neighbour * graph.n + graph.row
    order = np.argsort(there)
    place = np.minimum(np.searchsorted(there, back, sorter=order), len(there) - 1)
    partner = order[place]
    return float(np.sum(np.where(there[partner] == back, graph.weight * graph.weight[partner], 0.0)))


def nearest_is_own_reference(alt: np.ndarray, ref: np.ndarray, references: Sequence[str]) -> np.ndarray:
    """Return (n,) bool: no other ALT vector and no other REF is nearer to ALT than its own REF, nor as near.

    `alt` and `ref` are (n, D), `references` names the REF of each row (its residue).
    """
    mean = alt.mean(axis=0)
    alt, ref = alt - mean, ref - mean
    tolerance = TIE * float(np.mean(np.sum(alt**2, axis=1)) + np.mean(np.sum(ref**2, axis=1)))
    first = {name: row for row, name in reversed(list(enumerate(references)))}
    distinct = sorted(first.values())
    names = np.array([references[row] for row in distinct], dtype=object)
    result = np.zeros(len(alt), dtype=bool)
    for start in range(0, len(alt), BLOCK):
        part = slice(start, start + BLOCK)
        own = np.sum((alt[part] - ref[part]) ** 2, axis=1)
        among_alt = distances(alt[part], alt)
        rows = np.arange(len(among_alt))
        among_alt[rows, start + rows] = math.inf
        among_ref = distances(alt[part], ref[distinct])
        among_ref[np.array(references[part], dtype=object)[:, None] == names[None, :]] = math.inf
        result[part] = own + tolerance < np.minimum(among_alt.min(axis=1), among_ref.min(axis=1))
    return result
