"""Tiles of long proteins (specs: plm_encoders.md 1.5)."""

from __future__ import annotations

import pytest

from vcbench.encoders.plm.windows import assign, shares, tile_starts


@pytest.mark.parametrize(
    ("length", "size", "expected"),
    [
        (393, 1022, [0]),
        (1022, 1022, [0]),
        (1023, 1022, [0, 1]),
        (2000, 1022, [0, 511, 978]),
        (20, 10, [0, 5, 10]),
        (23, 10, [0, 5, 10, 13]),
    ],
)
def test_tiles(length, size, expected):
    assert tile_starts(length, size) == expected


@pytest.mark.parametrize("length", [11, 20, 23, 57])
def test_every_residue_is_in_its_tile_and_no_centre_is_nearer(length):
    for position in range(1, length + 1):
        (start,) = assign([position], length, 10)
        assert start < position <= start + 10
        distance = abs(position - (start + 5.5))
        assert distance == min(abs(position - (other + 5.5)) for other in tile_starts(length, 10))


def test_ends_and_ties():
    assert assign([1], 20, 10) == (0,)
    assert assign([20], 20, 10) == (10,)
    assert assign([8], 20, 10) == (0,)  # middles of the tiles lie at 5.5, 10.5 and 15.5: 8 is as near to the first two
    assert assign([9], 20, 10) == (5,)


def test_positions_mutated_together():
    assert assign([9, 12], 20, 10) == (5, 5)
    assert assign([4, 10], 20, 10) == (0, 0)  # the only tile that holds both
    assert assign([1, 20], 20, 10) == (0, 10)  # no tile holds both
    assert assign([3, 300], 393, 1022) == (0, 0)


@pytest.mark.parametrize(
    ("length", "size"), [(9, 10), (10, 10), (11, 10), (20, 10), (23, 10), (57, 10), (30, 7), (9, 2)]
)
def test_shares_hold_every_residue_once_in_its_nearest_tile(length, size):
    """A second rule for the same fact: the residues of a share are those that `assign` gives its tile."""
    found = {}
    for start, first, stop in shares(length, size):
        assert start <= first < stop <= start + size
        found |= {index + 1: start for index in range(first, stop)}
    assert found == {position: assign([position], length, size)[0] for position in range(1, length + 1)}
    assert [stop for _, _, stop in shares(length, size)][:-1] == [first for _, first, _ in shares(length, size)][1:]
