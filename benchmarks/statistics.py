#!/usr/bin/env python
"""Error rates and coverage of the statistics, on simulated scores where the truth is known.

Each replicate is a panel of models, baselines and encoders as AGGREGATE builds it: scores share the difficulty of a
perturbation and of its residue position. Rates are printed with their binomial standard error.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT / "bin"), str(PROJECT / "tests/python/stats")]

from simulated import GENES, PRIMARY, chooser, panel_of  # noqa: E402

from vcbench.stats import bootstrap, contrast_table, contrasts, factors, selection  # noqa: E402

BASELINES = ("train_mean", "nearest", "linear", "ridge", "gaussian_process", "random_forest")


def screen(
    rng: np.random.Generator, n: int, n_models: int, n_encoders: int, skewed: bool
) -> tuple[dict, list[str], np.ndarray]:
    """Return scores of equally good configurations, clusters of one to four perturbations, and folds."""
    clusters = np.repeat(np.arange(n), rng.integers(1, 5, n))[:n]
    difficulty = rng.normal(0, 0.15, n)
    own = 0.1

    def noise() -> np.ndarray:
        # Half of the noise is shared by a residue position.
        size = clusters.max() + 1
        draw = (lambda m: rng.exponential(1, m) - 1) if skewed else (lambda m: rng.normal(0, 1, m))
        return own * (np.sqrt(0.5) * draw(size)[clusters] + np.sqrt(0.5) * draw(n))

    found = {("train_mean", "none", "none"): difficulty + noise()}
    for model in (*BASELINES[1:], *(f"model{i}" for i in range(n_models))):
        for encoder in range(n_encoders):
            for strategy in ("alt", "diff"):
                found[model, f"encoder{encoder}", strategy] = difficulty + noise()
    return found, [str(c) for c in clusters], clusters % 3 + 1


def rate(name: str, hits: list[bool] | np.ndarray, note: str = "") -> None:
    hits = np.asarray(hits, dtype=float)
    error = np.sqrt(max(hits.mean() * (1 - hits.mean()), 1 / len(hits)) / len(hits))
    print(f"{name:64s} {hits.mean():6.3f} +- {error:.3f}  ({len(hits)} replicates) {note}", flush=True)


def family_errors(n: int, replicates: int, skewed: bool, seed: int) -> None:
    """False claims of whole families: all configurations are equally good."""
    better, worse, honest, factor, means = [], [], [], [], []
    for replicate in range(replicates):
        rng = np.random.default_rng([seed, replicate])
        values, clusters, folds = screen(rng, n, 2, 3, skewed)
        panel = panel_of(values, BASELINES, clusters, folds, n_resamples=200, seed=replicate)
        series = panel.series(PRIMARY, GENES)
        rows = contrast_table.rows(panel, PRIMARY, GENES, series, set())
        verdicts = {row["verdict"] for row in rows if row["reference"] == "best_baseline"}
        better.append("better" in verdicts)
        worse.append("worse" in verdicts)
        means.append(any(row["verdict"] != "unresolved" for row in rows if row["reference"] == "train_mean"))
        validation, *_ = screen(rng, max(9, n // 10), 2, 3, skewed)
        by = chooser(validation)
        chosen = selection.rows(panel, PRIMARY, GENES, series, set(), by)
        honest.append(any(row["verdict"] == "better" for row in chosen))
        factor.append(any(row["p_holm"] < 0.05 for row in factors.rows(panel, PRIMARY, GENES, series, set())))
    what = f"n = {n}{', skewed' if skewed else ''}"
    rate(f"{what}: any 'better' than the best baseline", better)
    rate(f"{what}: any 'worse' than the best baseline", worse)
    rate(f"{what}: any difference from the train mean", means)
    rate(f"{what}: any 'better' after selection by validation", honest)
    rate(f"{what}: any effect of model, encoder or strategy", factor)


def single_errors(n: int, clustered: bool, replicates: int, draw: Callable[[np.random.Generator, int], np.ndarray],
                  name: str, seed: int) -> None:  # fmt: skip
    """Sign-flip test of one contrast whose mean difference is 0."""
    rng = np.random.default_rng(seed)
    clusters = np.arange(n) // (2 if clustered else 1)
    groups = bootstrap.clusters([f"{c:04d}" for c in clusters], np.ones(n, dtype=int))
    flips = contrasts.Flips(lambda: np.random.default_rng(seed + 1))
    size = int(clusters.max()) + 1
    shared = draw(rng, replicates * size).reshape(replicates, size)[:, clusters]
    differences = shared + (0.5 * draw(rng, replicates * n).reshape(replicates, n) if clustered else 0)
    p = contrasts.sign_flip(differences, groups, flips)
    rate(f"one contrast, {name}, n = {n}{' in pairs' if clustered else ''}", p < 0.05)


def coverage(n: int, replicates: int, draw: Callable[[np.random.Generator, int], np.ndarray], name: str,
             seed: int, expected: str = "") -> None:  # fmt: skip
    """95 % intervals of a mean that is 0."""
    rng = np.random.default_rng(seed)
    groups = bootstrap.clusters([f"{k:04d}" for k in range(n)], np.ones(n, dtype=int))
    weights = bootstrap.resamples(groups, 2000, rng)
    values = draw(rng, replicates * n).reshape(replicates, n)
    found = bootstrap.intervals(values, np.ones(values.shape), groups, weights)
    rate(f"coverage, {name}, n = {n} ({found.method[0]})", (found.low <= 0) & (found.high >= 0), expected)


def main() -> None:
    """Run all simulations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=400, help="panels of the family-wise rates (default 400)")
    parser.add_argument("--single", type=int, default=4000, help="series of rates and coverage (default 4000)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.monotonic()

    def normal(rng: np.random.Generator, m: int) -> np.ndarray:
        return rng.normal(0, 1, m)

    def skewed(rng: np.random.Generator, m: int) -> np.ndarray:
        return rng.exponential(1, m) - 1

    def heavy(rng: np.random.Generator, m: int) -> np.ndarray:
        return rng.standard_t(3, m)

    for n in (10, 33, 99):
        single_errors(n, False, options.single, normal, "normal", options.seed)
        single_errors(n, True, options.single, heavy, "heavy tails", options.seed)
    for n, expected in ((10, ".90 in metrics.md 10.2"), (33, ".92"), (99, ".95")):
        coverage(n, options.single, skewed, "skewed", options.seed, expected)
    for n in (10, 33, 99):
        coverage(n, options.single, normal, "normal", options.seed)
    for n in (33, 99):
        family_errors(n, options.replicates, False, options.seed)
    family_errors(99, options.replicates, True, options.seed)
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
