#!/usr/bin/env python3
"""The moderated t test against R limma (metrics.md 9.4, 10.6, 11.1.13): the same numbers to 1e-8.

Needs Rscript with limma on PATH (README.md says how to get them) and runs in the project's environment:

    .venv/bin/python tests/external/limma.py

limma is GPL and is called here as a separate program on files; nothing of the project imports or contains it. Prints
one line per data set with the largest differences, exits with 1 when one lies beyond the tolerance, with 2 without R.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "bin"))
TOLERANCE = 1e-8


def scaled(generator, genes, samples, sd):
    """Return (genes, samples) normal values with a standard deviation per gene."""
    return generator.normal(0, 1, (genes, samples)) * np.asarray(sd)[:, None]


def equal_variances(generator, genes, n1, n2):
    """Return values whose pooled variances are all 1: less spread than chance, so that the prior has no end."""
    values = generator.normal(0, 1, (genes, n1 + n2))
    for part in (slice(0, n1), slice(n1, None)):
        values[:, part] -= values[:, part].mean(1, keepdims=True)
    values *= np.sqrt((n1 + n2 - 2) / (values**2).sum(1, keepdims=True))
    return values + np.where(np.arange(n1 + n2) < n1, generator.normal(0, 1, (genes, 1)), 0)


def data_sets():
    """Return {name: (values (genes, samples), size of group 1)}."""
    rng = np.random.default_rng(0)
    ordinary = scaled(rng, 300, 12, np.sqrt(4 / rng.chisquare(4, 300)))
    ordinary[:40, :5] += 2
    cells = np.log1p(rng.poisson(rng.gamma(0.3, 1, 400)[:, None], (400, 140)) * 3.0)
    cells[:10] = 0
    constant = scaled(rng, 200, 9, np.sqrt(6 / rng.chisquare(6, 200)))
    constant[:30] = rng.normal(0, 1, (30, 1))  # no variance, no difference
    constant[30:45] = np.where(np.arange(9) < 4, 1.5, 0.25)  # no variance, a difference
    mostly = constant.copy()
    mostly[40:160] = 0.5
    return {
        "ordinary": (ordinary, 5),
        "cells, some genes never detected": (cells, 60),
        "genes without variance": (constant, 4),
        "more than half without variance": (mostly, 4),
        "tiny d0": (scaled(rng, 300, 10, np.exp(rng.normal(0, 4, 300))), 5),
        "large d0": (scaled(rng, 2000, 100, np.exp(rng.normal(0, 0.02, 2000))), 50),
        "d0 = inf": (equal_variances(rng, 150, 6, 8), 6),
        "d0 = inf, one constant gene": (np.vstack([equal_variances(rng, 3000, 6, 8), np.ones((1, 14))]), 6),
        "three samples": (scaled(rng, 100, 3, np.exp(rng.normal(0, 1, 100))), 1),
        "groups of 900 and 1100": (scaled(rng, 60, 2000, np.exp(rng.normal(0, 1, 60))), 900),
        "values of 1e-6": (1e-6 * ordinary, 5),
        "two genes": (ordinary[:2], 5),
        "one gene": (ordinary[:1], 5),
    }


def ours(values, n1):
    """Return the project's result from means and variances, as a metric calls it."""
    from vcbench.metrics.moderated_t import moderated_t

    one, two = values[:, :n1], values[:, n1:]
    variance = [part.var(axis=1, ddof=1) if part.shape[1] > 1 else np.zeros(len(part)) for part in (one, two)]
    return moderated_t(one.mean(1) - two.mean(1), variance[0], n1, variance[1], values.shape[1] - n1)


def relative(one, other):
    """Return the largest difference as a share of max(1, value); equal infinities do not differ."""
    one, other = np.broadcast_arrays(np.asarray(one, dtype=float), np.asarray(other, dtype=float))
    with np.errstate(invalid="ignore"):
        return float(np.where(one == other, 0.0, np.abs(one - other) / np.maximum(1.0, np.abs(other))).max())


def main():
    """Compare all data sets."""
    if shutil.which("Rscript") is None:
        print("Rscript is not on PATH: tests/external/README.md says how to get R and limma")
        sys.exit(2)
    sets = data_sets()
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (values, n1) in enumerate(sets.values()):
            np.savetxt(Path(folder) / f"{number:02d}.{n1}.tsv", values, delimiter="\t", fmt="%.17g")
        done = subprocess.run(["Rscript", str(HERE / "limma.R"), folder], capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stderr.strip().splitlines()[-1])
            sys.exit(2)
        print(f"# {done.stdout.strip()}\n# data set\tgenes\td0\tdifference of t\tp\tdf\td0\ts02")
        for number, (name, (values, n1)) in enumerate(sets.items()):
            t, p, df, d0, s02 = np.loadtxt(Path(folder) / f"{number:02d}.result", ndmin=2).T
            found = ours(values, n1)
            # s02 on the scale of the data: its ratio to limma's
            differences = [relative(found.t, t), relative(found.p, p), relative(found.df, df),
                           relative(found.df_prior, d0), relative(found.variance_prior / s02, 1.0)]  # fmt: skip
            ok = all(difference <= TOLERANCE for difference in differences)
            shown = "\t".join(f"{difference:.2g}" for difference in differences)
            print(f"{name}\t{len(values)}\t{d0[0]:.4g}\t{shown}\t{'ok' if ok else 'FAILED'}")
            if not ok:
                failed.append(name)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
