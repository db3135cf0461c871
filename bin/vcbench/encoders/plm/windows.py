"""Fixed tiles for proteins longer than an encoder takes in (specs: plm_encoders.md 1.5)."""

from __future__ import annotations

from collections.abc import Sequence

POLICY = (
    "whole protein up to max_residues, else fixed tiles of max_residues with stride max_residues/2, "
    "the one whose centre is nearest to the mutated residue"
)


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


def _nearest(starts: Sequence[int], position: float, size: int) -> int:
    # residue p (1-based) spans p-1 to p on the 0-based axis, so its middle is p - 0.5
    return min(starts, key=lambda start: (abs(position - 0.5 - (start + size / 2)), start))
