"""Which rows of an alignment the network sees (specs: plm_encoders.md 2.2). Row 0, the protein, is always the first."""

from __future__ import annotations

import numpy as np

from vcbench.core.seeds import stream
from vcbench.encoders.esm_msa.tokens import GAP

FIRST, MAXDIV, RANDOM = "first", "maxdiv", "random"


def select(ids: np.ndarray, depth: int, how: str, seed: int, samples: int, *purpose: object) -> list[np.ndarray]:
    """Return the selected rows, ascending, once per sample; one sample when there is nothing to draw.

    Parameters
    ----------
    ids
        (rows, columns) uint8 token ids of the window. Rows with nothing but gaps in it are never selected.
    depth
        Largest number of rows, the protein included.
    how
        `first`: in file order. `maxdiv`: see :func:`most_diverse`. `random`: drawn without replacement.
    seed, samples, purpose
        For `random`: the draw depends on the seed, the number of the sample and the purpose, and on nothing else.
    """
    filled = (ids != GAP).any(axis=1)
    filled[0] = True
    usable = np.flatnonzero(filled)
    if len(usable) <= depth or how == FIRST:
        return [usable[:depth]]
    if how == MAXDIV:
        return [usable[most_diverse(ids[usable], depth)]]
    draws = []
    for sample in range(samples):
        others = stream(seed, "rows of an alignment", *purpose, sample).permutation(len(usable) - 1)[: depth - 1] + 1
        draws.append(usable[np.sort(np.append(others, 0))])
    return draws


def most_diverse(ids: np.ndarray, depth: int) -> np.ndarray:
    """Return ``depth`` rows chosen greedily: next is the one with the largest mean Hamming distance to those chosen.

    The authors' selection (Rao et al. 2021): starts with row 0, a gap differs from every residue, ties go to the
    earlier row, and the chosen rows keep their order in the file. Sums of whole numbers, hence exact.
    """
    by_column = np.ascontiguousarray(ids.T)  # rows of equal column lie together, as they are compared together
    total = np.zeros(len(ids), dtype=np.int64)
    chosen = np.zeros(len(ids), dtype=bool)
    last = 0
    for _ in range(depth - 1):
        chosen[last] = True
        total += _distances(by_column, last)
        total[chosen] = -1
        last = int(total.argmax())
    chosen[last] = True
    return np.flatnonzero(chosen)


def _distances(by_column: np.ndarray, row: int) -> np.ndarray:
    """Return in how many columns each row differs from one row; in blocks, so that little memory is needed."""
    distances = np.zeros(by_column.shape[1], dtype=np.int64)
    for start in range(0, len(by_column), 64):
        block = by_column[start : start + 64]
        distances += (block != block[:, row : row + 1]).sum(axis=0, dtype=np.uint8)
    return distances
