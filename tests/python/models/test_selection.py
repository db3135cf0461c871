"""Inner folds keep residues together, are balanced and depend on nothing but seed and perturbations."""

from __future__ import annotations

import numpy as np
import pytest

from vcbench.models.base import Perturbation
from vcbench.models.decomposition import decompose
from vcbench.models.selection import FOLDS, inner_folds, residue_groups, smallest


def variants(*sites):
    return [Perturbation(f"p{i:03d}", ("T",), tuple(positions)) for i, positions in enumerate(sites)]


def drawn(seed, n=60):
    rng = np.random.default_rng(seed)
    return variants(*(sorted(set(rng.integers(1, 25, rng.integers(1, 3)).tolist())) for _ in range(n)))


def components(perturbations):
    """Breadth-first search, written without the code's union of labels."""
    left, found = set(range(len(perturbations))), []
    while left:
        part, edge = set(), {min(left)}
        while edge:
            part |= edge
            reached = {site for i in edge for site in perturbations[i].positions}
            edge = {j for j in left - part if reached & set(perturbations[j].positions)}
        left -= part
        found.append(part)
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_groups_are_the_connected_components_of_shared_residues(seed):
    perturbations = variants(*((site,) for site in (3, 5, 3)), (5, 7), (7, 9), (11,)) if seed == 0 else drawn(seed)
    codes = residue_groups(perturbations)
    found = {frozenset(np.flatnonzero(codes == code).tolist()) for code in np.unique(codes)}
    assert found == {frozenset(part) for part in components(perturbations)}
    assert codes.max() + 1 == len(found)


def test_residues_of_different_genes_and_genes_themselves_are_groups_of_their_own():
    items = [Perturbation("a", ("A",), (1,)), Perturbation("b", ("B",), (1,)), Perturbation("c", ("C",)),
             Perturbation("d", ("C", "D"))]  # fmt: skip
    assert len(set(residue_groups(items))) == 4


def test_folds_never_split_a_residue_and_are_balanced():
    perturbations = variants(*((i // 3,) for i in range(60)))  # 20 residues of three
    folds = inner_folds(perturbations, 4)
    assert np.bincount(folds).tolist() == [12] * FOLDS
    for group in range(20):
        assert len(set(folds[3 * group : 3 * group + 3])) == 1
    assert (folds != inner_folds(perturbations, 5)).any()
    np.testing.assert_array_equal(folds, inner_folds(perturbations, 4))


def test_few_groups_give_few_folds_and_one_group_a_single_one():
    assert sorted(set(inner_folds(variants((1,), (1,), (2,), (3,)), 0))) == [0, 1, 2]
    assert set(inner_folds(variants((1,), (1,)), 0)) == {0}


def test_the_smallest_error_wins_and_of_equal_ones_the_first():
    assert smallest([3, 1, 2]) == 1
    assert smallest([2, 1 + 1e-12, 1]) == 1
    assert smallest([2, 1 + 1e-6, 1]) == 2
    assert smallest([np.nan, np.nan]) == 0


@pytest.mark.parametrize("shape", [(8, 20), (20, 8)])
def test_components_rebuild_the_matrix_and_agree_with_scikit_learn(shape):
    from sklearn.decomposition import PCA

    matrix = np.random.default_rng(0).normal(size=shape)
    found = decompose(matrix)
    np.testing.assert_allclose(found.mean + found.scores @ found.axes, matrix, atol=1e-12)
    other = PCA(3, svd_solver="full").fit(matrix)
    np.testing.assert_allclose(np.abs(found.project(matrix)[:, :3]), np.abs(other.transform(matrix)), atol=1e-10)
    assert len(decompose(matrix, 3).values) == 3
    assert found.scale == pytest.approx(np.sqrt(np.mean(np.sum((matrix - matrix.mean(0)) ** 2, axis=1))))


def test_rows_without_spread_have_no_component():
    found = decompose(np.full((5, 7), 0.1))
    assert found.axes.shape == (0, 7)
    assert found.scale == 1.0
    assert found.project(np.ones((2, 7))).shape == (2, 0)
