"""A toy truth in which everything a metric could mix up differs, with predictions, cells and doubles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vcbench.metrics import bundle, contract, registry, scoring
from vcbench.metrics.comparison import Predicted, PredictedCells
from vcbench.metrics.extras import CellTruth, Classes, Doubles, Extras, LogOfMean, Spread, VccTruth

K, G, D = 12, 140, 6
#: Cross-fitted sets are other truths of the same formulas (test_recovery.py), chosen ones other names.
METRICS = {
    name: replace(
        metric,
        gene_sets=tuple(
            "phenotype@clinvar" if s == registry.PHENOTYPE else s
            for s in metric.gene_sets
            if not s.endswith(("_xfit", registry.FIXED))
        ),
    )
    for name, metric in registry.load().items()
}


def fold_of(make_fold, number, rng):
    """Return a fold in which everything a metric could mix up differs, and predictions that have some skill."""
    base = rng.gamma(4.0, 0.5, G)
    a, b, mean, every, test = (np.abs(base + rng.normal(0, 0.1, G)) + 0.01 for _ in range(5))
    profile = base + rng.normal(0, 0.6, (K, G))
    profile[:, 5::19] = a[5::19]
    expressed = rng.random(G) < 0.9
    p_adj = np.where(expressed, rng.random((K, G)) ** 2, np.nan)
    log2fc = np.where(expressed, rng.normal(0, 1.5, (K, G)), np.nan)
    with np.errstate(invalid="ignore"):
        significant = tuple(
            np.array(sorted(np.flatnonzero(p_adj[k] < 0.05), key=lambda g, k=k: -abs(log2fc[k, g]))) for k in range(K)
        )
        positive = (p_adj < 0.05) & (np.abs(log2fc) >= contract.LFC_CUT)
    pc = rng.normal(size=G) * expressed
    cells = [rng.normal(rng.normal(size=D), 1, (12, D)) for _ in range(K)]
    space = CellTruth(
        np.arange(G), np.zeros(G), np.zeros((G, D)), np.concatenate(cells), np.repeat(np.arange(K), 12),
        rng.normal(1, 1, (15, D)), 2.0, np.zeros(K), np.zeros(K),
    )  # fmt: skip
    singles = base + rng.normal(0, 0.5, (4, G))
    singles[3] = profile[6]
    for row, (one, other) in enumerate([(0, 1), (1, 2), (0, 3)]):
        profile[row] = base + 0.8 * (singles[one] - base) + 0.5 * (singles[other] - base) + rng.normal(0, 0.3, G)
    doubles = Doubles(
        np.arange(3), np.array([0, 1, 0]), np.array([1, 2, 3]), singles, np.array([-1, -1, -1, 6]), 0.4, -0.4
    )
    lm = LogOfMean(profile + rng.normal(0, 0.2, (K, G)), *(x + 0.1 * rng.normal(size=G) for x in (a, b, mean)))
    damaging = np.stack([np.arange(K) % 3 > 0, np.arange(K) % 2 > 0]).astype(float)
    classes = Classes(np.array(["other", "clinvar"], dtype=object), damaging,
                      np.array([[profile[one == side].mean(0) + rng.normal(0, 0.5, G) for side in (0, 1)]
                                for one in damaging]))  # fmt: skip
    extras = Extras(
        spread=Spread(
            profile - 0.3, profile + 0.4, rng.uniform(0.05, 0.8, (K, G)) * (rng.random((K, G)) < 0.95)
        ),
        vcc=VccTruth(tuple(rng.choice(G, 20, replace=False) for _ in range(K)),
                     np.stack([rng.uniform(0, 0.1, K), rng.uniform(0.4, 0.6, K), rng.uniform(1.2, 1.4, K)], 1)),
        cells=space, log_of_mean=lm, doubles=doubles, classes=classes,
    )  # fmt: skip
    eligible = np.random.default_rng(3).random(G) < 0.7  # the same in every fold
    fold = make_fold(
        profile, fold=number, control_a=a, control_b=b, train_mean=mean, control_all=every, cell_mean=test,
        variance=rng.uniform(0, 0.02, (K, G)), control_a_variance=rng.uniform(0, 0.01, G), expressed=expressed,
        targets=tuple(rng.choice(G, 2, replace=False) for _ in range(K)), train_pc1=pc / np.linalg.norm(pc),
        weights=rng.dirichlet(np.ones(G), K), weight_profile=profile + rng.normal(0, 0.1, (K, G)),
        significant=significant, positive=positive, p_adj=p_adj, log2fc=log2fc, eligible=eligible, extras=extras,
        listed=tuple(rng.choice(G, 20, replace=False) for _ in range(K)),
        compat_label=rng.random((K, G)) < 0.15, sets={"one": np.arange(30), "two": np.arange(20, 70)},
    )  # fmt: skip
    made = base + 0.3 * (profile - base) + rng.normal(0, 1.2, (K, G))
    good = [0, 1, 2, 6]  # the doubles and a single of one: else no interaction would be found
    made[good] = profile[good] + rng.normal(0, 0.1, (4, G))
    made[:, 3::17] = b[3::17]
    of_cells = PredictedCells(
        np.ones(K, dtype=bool), np.ones(K, dtype=bool), np.full(K, 40), rng.uniform(0.1, 2, (K, G)),
        tuple(group + rng.normal(0.3, 0.5, (1, D)) + rng.normal(0, 0.3, group.shape) for group in cells),
        np.where(rng.random((K, G)) < 0.7, p_adj, rng.random((K, G))), log2fc + rng.normal(0, 1.5, (K, G)),
        rng.normal(0, 3, (K, G)), base + 0.3 * (lm.profile - base) + rng.normal(0, 1.2, (K, G)),
        tuple(np.concatenate([row[::2], rng.choice(G, 6)]) for row in extras.vcc.listed),
    )  # fmt: skip
    return fold, Predicted(made, rng.uniform(0, 0.03, (K, G)), np.full(K, 40), of_cells)


def values(folds, predictions):
    """Return every value by (metric, gene set): over perturbations of all folds, or one for all folds."""
    facts = {"dataset": "toy", "split": "variant", "compat_list": "listed"}
    truth = bundle.TruthBundle(np.arange(G).astype(str), tuple(folds), np.ones(G), folds[0].eligible, facts)
    rows = scoring.Rows("toy", "variant", "model")
    scoring.score_combination(truth, {f.fold: p for f, p in zip(folds, predictions, strict=True)}, METRICS, rows, 0,
                              nulls=False)  # fmt: skip
    found: dict[tuple[str, str], dict[tuple[int, str], float]] = {}
    for row in rows.rows:
        found.setdefault(row[8:10], {})[row[2], row[7]] = row[10]
    return found
