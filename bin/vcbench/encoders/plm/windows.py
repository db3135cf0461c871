"""Fixed tiles for proteins longer than an encoder takes in (specs: plm_encoders.md 1.5)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

_TILES = "whole protein up to max_residues, else fixed tiles of max_residues with stride max_residues/2, "

#: What the provenance says, by pooling.
POLICIES = {
    "position": f"{_TILES}the one whose centre is nearest to the mutated residue",
    "mean": f"{_TILES}the mean over the whole protein with every residue from the tile whose centre is nearest to it",
}


def tile_starts(length: int, max_residues: int) -> list[int]:
    """Return the 0-based starts of the tiles of a protein of ``length`` residues; the last one ends with it."""
    if length <= max_residues:
        return [0]
    return [*range(0, length - max_residues, max_residues // 2), length - max_residues]


def assign(positions: Sequence[int], length: int, max_residues: int) -> tuple[int, ...]:
    """Return the tile start (0-based) of each 1-based position.

    Positions mutated together share the tile nearest to their middle that holds them all, so that the joint mutant is
    seen as one; when no tile holds them all, each position takes its own nearest tile. Ties go to the earlier tile.
    REF and ALT of a position always use the same tile.
    """
    starts = tile_starts(length, max_residues)
    size = min(length, max_residues)
    low, high = min(positions), max(positions)
    common = [start for start in starts if start < low and high <= start + size]
    if common:
        return (_nearest(common, (low + high) / 2, size),) * len(positions)
    return tuple(_nearest(starts, position, size) for position in positions)


def shares(length: int, max_residues: int) -> list[tuple[int, int, int]]:
    """Return (tile start, first, stop), 0-based: the residues of the protein for which the tile is the nearest one.

    Together the shares are every residue once; the same rule as :func:`assign`.
    """
    starts, size = tile_starts(length, max_residues), min(length, max_residues)
    # a residue half way between two centres goes to the earlier tile
    bounds = [(first + second + size + 1) // 2 for first, second in itertools.pairwise(starts)]
    return list(zip(starts, [0, *bounds], [*bounds, length], strict=True))


def _nearest(starts: Sequence[int], position: float, size: int) -> int:
    # residue p (1-based) spans p-1 to p on the 0-based axis, so its middle is p - 0.5
    return min(starts, key=lambda start: (abs(position - 0.5 - (start + size / 2)), start))
