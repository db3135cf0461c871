"""The fold rule of models_supervised.md 1.3 against its own numbers and a worked example; the position split."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from vcbench.core.errors import InputError
from vcbench.splits import folds, leakage
from vcbench.splits.candidates import Candidate

ROLES = (folds.TRAIN, folds.VALID, folds.TEST)


def variant(position: int, alt: str = "A", cells: int = 50) -> Candidate:
    return Candidate(f"G~M{position}{alt}", ("G",), (("G", position),), f"s:M{position}{alt}", cells, True)


def gene(name: str) -> Candidate:
    return Candidate(name, tuple(name.split("+")), (), f"gene:{name}", 50, False)


def library(sizes: dict[int, int], seed: int = 0) -> list[Candidate]:
    """Return variants with `sizes[n]` residues that hold n variants each."""
    rng = np.random.default_rng(seed)
    positions = iter(rng.permutation(np.arange(1, 400)))
    return [
        variant(int(position), alt, int(rng.integers(30, 1000)))
        for size, count in sizes.items()
        for _ in range(count)
        for position in [next(positions)]
        for alt in "ACDEF"[:size]
    ]


#: 99 variants, 30 residues with several of them: the shape for which the spec gives numbers.
TOY = {1: 30, 2: 21, 3: 9}


def make(split: str, library_: list[Candidate], k: int = 3, seed: int = 42, trials: int = 50) -> folds.Folds:
    return folds.make(split, library_, k, seed, trials, "table")


def of(made: dict[str, str], role: str) -> set[str]:
    return {name for name, found in made.items() if found == role}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_toy_of_the_spec(seed: int) -> None:
    """Spec: test positions also in train 27/33, 2/33, 24/24; exactly one in train, none in valid: 21, 2, 24 of 30."""
    toy = library(TOY, seed)
    seen, clean = [], []
    for roles in make("variant", toy):
        positions = {role: [c.residues[0] for c in toy if roles[c.id] == role] for role in ROLES}
        test, train = set(positions["test"]), positions["train"]
        seen.append((len(test & set(train)), len(test)))
        several = {p for p in test | set(train) if sum(c.residues[0] == p for c in toy) > 1}
        clean.append(sum(train.count(p) == 1 and p not in positions["valid"] and p in test for p in several))
    assert seen == [(27, 33), (2, 33), (24, 24)]
    assert clean == [21, 2, 24]


def test_leakage_of_the_toy_counts_perturbations() -> None:
    toy = library(TOY)
    rows = leakage.rows("toy", "variant", toy, make("variant", toy))
    assert [(row["n_train"], row["n_valid"], row["n_test"]) for row in rows] == [(59, 7, 33)] * 3
    assert [row["n_test_position_seen"] for row in rows] == [27, 2, 33]
    assert [row["n_test_gene_seen"] for row in rows] == [33] * 3
    assert [row["n_sequence_shared"] for row in rows] == [0] * 3


def test_order_by_hand() -> None:
    """Residues 3 (1 variant), 5 (3), 7 (2), 9 (1), 11 (2): groups by size 5, 7, 11, then the singletons 3, 9.

    A = first of 5, 7, 11; B = 3, 9; C = rest of 11, then of 7, then the two of 5 (each group goes in front of C).
    """
    toy = [variant(3), *(variant(5, a) for a in "ACD"), *(variant(7, a) for a in "AC"), variant(9),
           *(variant(11, a) for a in "AC")]  # fmt: skip
    order = folds.variant_order(toy, 3, 42, 20)
    assert [c.residues[0][1] for c in order] == [5, 7, 11, 3, 9, 11, 7, 5, 5]
    made = folds.contiguous(order, 3, "table")
    # blocks of 3; validation round(0.2 * 3) = 1: the last of the block before, for the first fold of the last block
    ids = [c.id for c in order]
    assert [of(roles, "test") for roles in made] == [set(ids[:3]), set(ids[3:6]), set(ids[6:])]
    assert [of(roles, "valid") for roles in made] == [{ids[8]}, {ids[2]}, {ids[5]}]


def test_best_trial_has_the_smallest_round_robin_range() -> None:
    """The score deals the order round-robin; the first of the best trials wins (one generator for all)."""
    toy = library({1: 5, 2: 6, 3: 2}, 3)
    groups: dict[int, list[Candidate]] = {}
    for candidate in sorted(toy, key=lambda c: (c.residues[0][1], c.id)):
        groups.setdefault(candidate.residues[0][1], []).append(candidate)
    large = [groups[p] for p in sorted(groups, key=lambda p: (-len(groups[p]), p)) if len(groups[p]) > 1]
    single = [groups[p][0] for p in sorted(groups) if len(groups[p]) == 1]
    generator = np.random.default_rng(42)
    best, best_score = None, np.inf
    for _ in range(40):
        drawn = [[group[i] for i in generator.permutation(len(group))] for group in large]
        order = [g[0] for g in drawn] + single + [c for g in reversed(drawn) for c in g[1:]]
        sums = np.bincount(np.arange(len(order)) % 3, weights=[c.n_cells for c in order])
        if np.ptp(sums) < best_score:
            best, best_score = order, np.ptp(sums)
    assert folds.variant_order(toy, 3, 42, 40) == best


@pytest.mark.parametrize("k", [2, 3, 4, 5, 7, 10])
@pytest.mark.parametrize("sizes", [TOY, {1: 39, 2: 16, 3: 3, 4: 1}, {1: 23}, {2: 14}])
def test_variant_folds(k: int, sizes: dict[int, int]) -> None:
    """Each variant is tested once, train counts are equal, roles are disjoint, validation is never empty."""
    toy = library(sizes)
    made = make("variant", toy, k)
    tests = [name for roles in made for name in of(roles, "test")]
    assert sorted(tests) == sorted(c.id for c in toy)
    assert len({len(of(roles, "train")) for roles in made}) == 1
    edges = [fold * len(toy) // k for fold in range(k + 1)]
    assert [len(of(roles, "test")) for roles in made] == [b - a for a, b in pairwise(edges)]
    assert all(of(roles, "valid") and of(roles, "train") for roles in made)


def test_thirteen_variants_still_validate_in_every_fold() -> None:
    """Blocks 4, 4, 5: round(0.2 * 5) = 1 would leave fold 3 none (1 + 4 - 5); with 2 the folds have 2, 2, 1."""
    made = make("variant", library({1: 13}))
    assert [len(of(roles, "valid")) for roles in made] == [2, 2, 1]
    assert [len(of(roles, "train")) for roles in made] == [7, 7, 7]


def test_shares_for_three_folds_of_ursu() -> None:
    """84 missense on 59 residues (data.md 4): 28 tested, round(5.6) = 6 validate, 50 train."""
    rows = leakage.rows("ursu", "variant", ursu := library({1: 39, 2: 16, 3: 3, 4: 1}), make("variant", ursu))
    assert [(row["n_train"], row["n_valid"], row["n_test"]) for row in rows] == [(50, 6, 28)] * 3


def test_order_of_rows_does_not_matter() -> None:
    toy = library(TOY)
    shuffled = [toy[i] for i in np.random.default_rng(0).permutation(len(toy))]
    for split in ("variant", "position"):
        assert make(split, toy) == make(split, shuffled)
        assert make(split, toy, seed=1) != make(split, toy)


@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("sizes", [TOY, {1: 39, 2: 16, 3: 3, 4: 1}, {5: 6}])
def test_no_position_has_two_roles(k: int, sizes: dict[int, int]) -> None:
    toy = library(sizes)
    made = make("position", toy, k)
    for roles in made:
        by_role = [{c.residues[0] for c in toy if roles[c.id] == role} for role in ROLES]
        assert not (by_role[0] & by_role[1] or by_role[0] & by_role[2] or by_role[1] & by_role[2])
        assert all(by_role)
    assert sorted(name for roles in made for name in of(roles, "test")) == sorted(c.id for c in toy)
    sizes_of_tests = [len(of(roles, "test")) for roles in made]
    assert max(sizes_of_tests) - min(sizes_of_tests) <= max(sizes)
    assert all(row["n_test_position_seen"] == 0 for row in leakage.rows("toy", "position", toy, made))


def test_doubles_tie_their_positions_together() -> None:
    """M1A;M9A joins residues 1 and 9, M9C;M20A joins 20: one group of five."""
    double = Candidate("G~M1A;M9A", ("G",), (("G", 1), ("G", 9)), "d", 50, True)
    chain = Candidate("G~M9C;M20A", ("G",), (("G", 9), ("G", 20)), "e", 50, True)
    toy = [variant(1), variant(9), variant(20), double, chain, *(variant(p) for p in range(30, 40))]
    assert sorted(len(group) for group in folds.residue_groups(toy)) == [1] * 10 + [5]
    for roles in make("position", toy):
        assert len({roles[c.id] for c in toy[:5]}) == 1


def test_same_residue_number_of_another_gene_is_another_position() -> None:
    other = Candidate("H~M1A", ("H",), (("H", 1),), "h", 50, True)
    assert len(folds.residue_groups([variant(1), other])) == 2


def test_shared_proteins_are_counted() -> None:
    toy = [Candidate(f"G~M{p}M", ("G",), (("G", p),), "s:", 50, True) for p in range(1, 10)]
    assert all(row["n_sequence_shared"] == 3 for row in leakage.rows("t", "variant", toy, make("variant", toy)))


def test_gene_folds() -> None:
    toy = [gene(f"G{i}") for i in range(20)] + [gene(f"G{i}+G{i + 1}") for i in range(0, 20, 2)]
    made = make("variant", toy)
    assert sorted(name for roles in made for name in of(roles, "test")) == sorted(c.id for c in toy)
    assert [len(of(roles, "valid")) for roles in made] == [2, 2, 2]
    for row, roles in zip(leakage.rows("t", "variant", toy, made), made, strict=True):
        known = {g for name in of(roles, "train") for g in name.split("+")}
        assert row["n_test_gene_seen"] == sum(bool(known & set(name.split("+"))) for name in of(roles, "test"))
        assert row["n_test_position_seen"] is None and row["share_test_position_seen"] is None
    assert make("variant", toy, seed=1) != made


@pytest.mark.parametrize(
    ("split", "toy", "k", "message"),
    [
        ("variant", library({1: 4}), 5, r"more folds than perturbations \| found 5 folds, 4 perturbations"),
        ("variant", library({1: 9}), 1, "expected at least 2"),
        ("variant", library({1: 4}), 3, "too few perturbations for a validation set"),
        ("variant", library({1: 2}), 2, "too few perturbations"),
        ("variant", [], 2, "no usable perturbation"),
        ("position", library({5: 2}), 3, r"more folds than residue positions.*2 positions"),
        ("position", library({5: 2}), 2, "too few"),
        ("position", [gene(f"G{i}") for i in range(9)], 3, "gene perturbations have no residue positions"),
    ],
)
def test_impossible_splits(split: str, toy: list[Candidate], k: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(split, toy, k)
