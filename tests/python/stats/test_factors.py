"""Factorial analysis model x encoder x strategy with perturbations as blocks (metrics.md 10.3)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from simulated import GENES, PRIMARY, panel_of

from vcbench.stats import bootstrap, contrasts, factors


def rows(panel, negative=()):
    return factors.rows(panel, PRIMARY, GENES, panel.series(PRIMARY, GENES), set(negative))


def crossing(rng, shape=(3, 4, 2), n=40, effect=lambda a, b, c: 0.0, noise=0.1):
    """Scores of all cells of a crossing."""
    difficulty = rng.normal(0, 0.3, n)
    return {
        (f"m{a}", f"e{b}", f"s{c}"): difficulty + effect(a, b, c) + noise * rng.normal(size=n)
        for a, b, c in itertools.product(*map(range, shape))
    }


def least_squares(values, shape, n):
    """Sum-coded least squares with blocks, all interactions: coefficients of main effects, sums of squares by term."""
    cells = list(itertools.product(*map(range, shape)))
    y = np.concatenate([values[f"m{a}", f"e{b}", f"s{c}"] for a, b, c in cells])

    def coded(axis):
        eye = np.vstack([np.eye(shape[axis] - 1), -np.ones(shape[axis] - 1)])
        return np.array([eye[cell[axis]] for cell in cells])

    blocks = np.tile(np.eye(n), (len(cells), 1))
    parts = {}
    for order in (1, 2, 3):
        for axes in itertools.combinations(range(3), order):
            columns = np.ones((len(cells), 1))
            for axis in axes:
                columns = (columns[:, :, None] * coded(axis)[:, None, :]).reshape(len(cells), -1)
            parts[axes] = np.repeat(columns, n, axis=0)
    design = np.hstack([blocks, *parts.values()])
    coefficients = np.linalg.lstsq(design, y, rcond=None)[0]
    found, start = {}, n
    for axes, columns in parts.items():
        fitted = columns @ coefficients[start : start + columns.shape[1]]
        found[axes] = (coefficients[start : start + columns.shape[1]], (fitted**2).mean())
        start += columns.shape[1]
    return found


def test_effects_are_those_of_least_squares():
    rng = np.random.default_rng(0)
    shape, n = (3, 4, 2), 36
    values = crossing(rng, shape, n, lambda a, b, c: 0.3 * a - 0.1 * b * c + 0.05 * a * b)
    found = rows(panel_of(values, ()))
    expected = least_squares(values, shape, n)
    total = sum(square for _, square in expected.values())
    for axes, (coefficients, square) in expected.items():
        name = ":".join(factors.NAMES[a] for a in axes)
        row = next(row for row in found if row["effect"] == name and row["level"] == "")
        assert row["size"] == pytest.approx(np.sqrt(square), rel=1e-8), name
        assert row["share"] == pytest.approx(square / total, rel=1e-8)
        assert row["df"] == len(coefficients)
        if len(axes) == 1:
            levels = [r["estimate"] for r in found if r["effect"] == name and r["level"]]
            np.testing.assert_allclose(levels[:-1], coefficients, atol=1e-9)
            assert sum(levels) == pytest.approx(0, abs=1e-8)


def test_effects_add_up_to_the_values():
    values = np.random.default_rng(1).normal(size=(7, 3, 2, 2))
    parts = factors.effects(values)
    total = values.mean(axis=(1, 2, 3), keepdims=True)
    for axes, part in parts.items():
        shape = [7] + [values.shape[a + 1] if a in axes else 1 for a in range(3)]
        total = total + part.reshape(shape)
        for axis in range(1, part.ndim):
            np.testing.assert_allclose(part.sum(axis), 0, atol=1e-12)
    np.testing.assert_allclose(total, values, atol=1e-12)


def test_a_factor_with_two_levels_gets_the_paired_sign_flip_test():
    rng = np.random.default_rng(2)
    values = crossing(rng, (1, 1, 2), 40, lambda a, b, c: 0.04 * c)
    panel = panel_of(values, ())
    row = next(row for row in rows(panel) if row["effect"] == "strategy" and row["level"] == "")
    difference = values["m0", "e0", "s1"] - values["m0", "e0", "s0"]
    order = [int(name[1:]) for _, name in panel.rows]
    expected = contrasts.sign_flip(difference[order][None], panel.groups, panel.flips)[0]
    assert row["p"] == pytest.approx(expected, rel=1e-9)
    assert row["size"] == pytest.approx(abs(difference.mean()) / 2, rel=1e-9)


def test_large_effects_are_found_and_absent_ones_are_not():
    rng = np.random.default_rng(3)
    found = rows(panel_of(crossing(rng, effect=lambda a, b, c: 0.3 * a, n=60), ()))
    sizes = {row["effect"]: row for row in found if row["level"] == ""}
    assert sizes["model"]["p_holm"] < 0.001
    assert sizes["model"]["share"] > 0.99
    assert all(row["p_holm"] > 0.05 for name, row in sizes.items() if name != "model")
    assert sizes["encoder"]["size_debiased"] < sizes["encoder"]["size"]


def test_incomplete_levels_are_left_out_until_the_crossing_is_full():
    full = [(m, e, s) for m in ("a", "b") for e in ("x", "y", "z") for s in ("alt", "diff")]
    levels, left_out = factors.full_crossing([*full, ("c", "x", "alt"), ("d", "none", "none")])
    assert (levels, left_out) == ([["a", "b"], ["x", "y", "z"], ["alt", "diff"]], ["model c"])
    without = [of for of in full if not (of[1] == "z" and of[0] == "b")]
    levels, left_out = factors.full_crossing(without)
    assert left_out == ["encoder z"]
    assert factors.full_crossing([]) == ([[], [], []], [])


def test_nothing_to_cross():
    rng = np.random.default_rng(4)
    assert rows(panel_of({("m", "e", "alt"): rng.normal(size=30)}, ())) == []
    values = {("m", e, "alt"): rng.normal(size=30) for e in ("plm", "random")}
    assert rows(panel_of(values, ()), ["random"]) == []


def test_clusters_are_flipped_whole():
    """Perturbations of a residue move together: the test must not take them as independent."""
    rejected = 0
    for replicate in range(60):
        rng = np.random.default_rng(replicate)
        cluster = np.repeat(np.arange(20), 4)
        values = {("m", e, "alt"): rng.normal(size=20)[cluster] for e in ("x", "y")}
        panel = panel_of(values, (), clusters=cluster, folds=cluster % 3 + 1, n_resamples=10)
        rejected += next(row["p"] for row in rows(panel)) < 0.05
    assert rejected <= 9  # 3 expected; members flipped alone reject in about half of the cases


def test_joint_flip_by_listing_all_flips():
    sums = np.random.default_rng(5).normal(size=(7, 3)) + 0.4
    groups = bootstrap.clusters([str(i) for i in range(7)], np.ones(7, dtype=int))
    flips = contrasts.Flips(lambda: np.random.default_rng(0))
    length = [np.linalg.norm(np.array(signs) @ sums) for signs in itertools.product((1, -1), repeat=7)]
    assert contrasts.joint_flip(sums, flips) == np.mean(np.array(length) >= np.linalg.norm(sums.sum(0)) - 1e-12)
    one = contrasts.joint_flip(sums[:, :1], flips)
    assert one == contrasts.sign_flip(sums[:, 0][None], groups, flips)[0]
