"""Acceptance of the simulated screen: effect sizes and power of the real one (data spec 7.2)."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import f as f_distribution

from vcbench.data.simulate import Options, Screen, simulate
from vcbench.data.simulate_genes import N_EXPRESSED

sys.path.insert(0, str(Path(__file__).parent))
import simulate_measure as measure

#: FDR-1 % cut of the real screen on the mean T2 against the controls.
STRICT_CUT = 71.3

#: The cut behind the authors' power curve was not published. It lies between the largest control (39.5) and R337C (71),
#: which their FDR of 5 % calls. From the distances of 6.2 by the non-central F distribution, 58 gives their curve to
#: within .06 at every number of cells; 71.3 gives .91 at 200 cells, so it cannot be the one behind their .965.
CUT = 58.0


def labels_of(screen: Screen, *classes: str) -> list[str]:
    return [v.label for v in screen.design.library if v.impact in classes and not v.is_control]


def controls_of(screen: Screen) -> list[str]:
    return [v.label for v in screen.design.library if v.is_control]


def scores_of(screen: Screen, use_batch: bool = True) -> np.ndarray:
    share = len(screen.genes) / N_EXPRESSED
    return measure.components(screen.counts, screen.genes, screen.batch if use_batch else None, share)


def median_class_two(screen: Screen) -> float:
    distance = measure.distances(scores_of(screen), screen.labels, controls_of(screen))
    return float(np.median([distance[label] for label in labels_of(screen, "Impactful II")]))


# --- the measuring tool ------------------------------------------------------------------------------------------


def test_hotelling_follows_its_distribution() -> None:
    """Under the null T2 (N-p-1) / (p (N-2)) is F(p, N-p-1): its mean is that of the F distribution."""
    rng = np.random.default_rng(0)
    n, m, p = 60, 90, measure.N_COMPONENTS
    values = [measure.hotelling(rng.normal(size=(n, p)), rng.normal(size=(m, p))) for _ in range(400)]
    expected = f_distribution(p, n + m - p - 1).mean() * p * (n + m - 2) / (n + m - p - 1)
    assert np.mean(values) == pytest.approx(expected, rel=0.04)


@pytest.mark.parametrize("distance", [0.0, 0.35, 0.65])
def test_distance_is_unbiased(distance) -> None:
    rng = np.random.default_rng(1)
    n, m, p = 100, 300, measure.N_COMPONENTS
    shift = np.full(p, np.sqrt(distance / p))
    found = [
        measure.unbiased_distance(measure.hotelling(rng.normal(size=(n, p)) + shift, rng.normal(size=(m, p))), n, m)
        for _ in range(300)
    ]
    assert np.mean(found) == pytest.approx(distance, abs=4 * np.std(found) / np.sqrt(300))


# --- the screen --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def screen() -> Screen:
    return simulate(Options(seed=0, cells_per_variant=400, fixed_cells=True, n_control_cells=12_000))


@pytest.fixture(scope="module")
def scores(screen) -> np.ndarray:
    return scores_of(screen)


def test_distances_of_the_classes_are_those_of_the_real_screen(screen, scores) -> None:
    distance = measure.distances(scores, screen.labels, controls_of(screen))

    def quantiles(labels: list[str]) -> np.ndarray:
        return np.quantile([distance[label] for label in labels], [0.25, 0.5, 0.75])

    # Quartiles of 7.2; the tolerance is 1.5 standard errors of a variant's distance at 400 cells.
    assert quantiles(labels_of(screen, "Impactful II")) == pytest.approx([0.57, 0.65, 0.75], abs=0.10)
    assert quantiles(labels_of(screen, "Impactful I")) == pytest.approx([0.31, 0.35, 0.47], abs=0.12)
    null = controls_of(screen) + labels_of(screen, "WT-like")
    assert np.abs(quantiles(null)).max() < 0.04
    assert max(distance[label] for label in null) < 0.25  # R337C is at .12
    truth = {v.label: s for v, s in zip(screen.design.library, screen.design.severity, strict=True)}
    impactful = labels_of(screen, "Impactful I", "Impactful II")
    correlation = np.corrcoef([distance[v] for v in impactful], [0.65 * truth[v] ** 2 for v in impactful])[0, 1]
    assert correlation > 0.75


def test_controls_are_near_the_null(screen, scores) -> None:
    """Each control against the other 14: the null expectation is 20.3; the real controls have 23.6-39.5."""
    cells = {label: scores[screen.labels == label] for label in controls_of(screen)}
    values = [measure.mean_t2(cells[label], [cells[other] for other in cells if other != label]) for label in cells]
    assert 17 < np.mean(values) < 28
    assert max(values) < 45


def power(screen: Screen, scores: np.ndarray, cut: float, sizes: tuple[int, ...]) -> list[float]:
    """Return the share of (impactful variant, disjoint sample of n cells) with a mean T2 over the cut, for each n."""
    controls = [scores[screen.labels == label] for label in controls_of(screen)]
    curve = []
    for size in sizes:
        found = []
        for label in labels_of(screen, "Impactful I", "Impactful II"):
            cells = scores[screen.labels == label]
            samples = [cells[start : start + size] for start in range(0, min(len(cells), 3 * size) - size + 1, size)]
            found += [measure.mean_t2(sample, controls) > cut for sample in samples]
        curve.append(float(np.mean(found)))
    return curve


def test_power_crosses_half_between_60_and_100_cells_and_95_percent_by_200(screen, scores) -> None:
    curve = power(screen, scores, CUT, (60, 80, 100, 140, 200))
    assert curve[0] < 0.5 < curve[2]
    assert curve[4] >= 0.95
    # The authors' down-sampling; 73 variants: one variant is .014, a standard error up to .06.
    assert curve == pytest.approx([0.42, 0.66, 0.80, 0.94, 0.965], abs=0.1)


def test_power_with_the_strict_cut_is_that_of_normal_clouds(screen, scores) -> None:
    curve = power(screen, scores, STRICT_CUT, (40, 60, 80, 100, 140, 200))
    # Where the curve is steep, 5 % more distance are .08 more power; the standard error is .035 on top of that.
    assert curve == pytest.approx([0.03, 0.15, 0.39, 0.57, 0.78, 0.95], abs=0.13)
    assert curve[1] < 0.5 < curve[3]


def test_known_genes_move_in_the_known_direction(screen) -> None:
    """Positive control: targets of p53 fall and cell-cycle genes rise in class II, without an effect on depth."""
    totals = np.asarray(screen.counts.sum(1)).ravel()
    in_control = np.isin(screen.labels, controls_of(screen))
    in_class = np.isin(screen.labels, labels_of(screen, "Impactful II"))

    def log_fold(gene: str) -> float:
        column = screen.counts[:, screen.genes.index(gene)].toarray().ravel()
        return np.log(
            column[in_class].sum() / totals[in_class].sum() / (column[in_control].sum() / totals[in_control].sum())
        )

    assert all(log_fold(gene) < -0.1 for gene in ("CDKN1A", "MDM2", "GDF15", "FDXR", "ZMAT3", "BAX"))
    assert all(log_fold(gene) > 0.05 for gene in ("CCNB1", "CDK1", "PLK1", "MKI67", "TOP2A", "MCM7"))
    assert np.median(totals[in_class]) / np.median(totals[in_control]) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("n_genes", "seed"), [(300, 21), (1000, 22)])
def test_calibration_holds_for_other_panels_and_seeds(n_genes, seed) -> None:
    options = Options(seed=seed, n_genes=n_genes, cells_per_variant=120, fixed_cells=True, n_control_cells=3000)
    assert median_class_two(simulate(options)) == pytest.approx(0.65, abs=0.15)


def test_severity_scales_the_distance_by_its_square() -> None:
    common = {"seed": 3, "n_genes": 500, "cells_per_variant": 120, "fixed_cells": True, "n_control_cells": 3000}
    half, full = (median_class_two(simulate(Options(severity=value, **common))) for value in (0.5, 1.0))
    assert half / full == pytest.approx(0.25, abs=0.08)


def test_null_mode_has_no_effect_and_confounding_makes_false_ones() -> None:
    common = {"seed": 4, "n_genes": 1000, "cells_per_variant": 150, "fixed_cells": True, "null": True}
    pooled = simulate(Options(n_control_cells=3000, **common))
    trap = simulate(Options(n_control_cells=3000, confounded=True, **common))
    missense = labels_of(pooled, "WT-like", "Impactful I", "Impactful II")
    result = {}
    for name, data, use_batch in (("pooled", pooled, False), ("aware", trap, True), ("unaware", trap, False)):
        distance = measure.distances(scores_of(data, use_batch), data.labels, controls_of(data))
        result[name] = np.array([distance[label] for label in missense])
    assert abs(np.median(result["pooled"])) < 0.03
    assert result["pooled"].max() < 0.3
    assert abs(np.median(result["aware"])) < 0.05
    # Ignoring the batch "finds" effects of the size of R337L and more where there are none.
    assert np.median(result["unaware"]) > 0.15
