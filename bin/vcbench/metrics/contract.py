"""The rules every metric obeys (metrics.md 1.3): statuses, tolerance, minimum sizes, evaluator ids."""

from __future__ import annotations

import numpy as np

from vcbench.core.evaluators import (
    BOOTSTRAP_DUPLICATE,
    CE2_CONTEXT_MEAN,
    CROSS_LINE,
    EVALUATORS,
    FULL_VS_FULL,
    INTERPOLATED_DUPLICATE,
    NAMED,
    NO_SKILL,
    NOISE_FREE,
    PERFECT_COPY,
    SHUFFLED_LABELS,
    TECH_DUPLICATE,
    TRAINED_ON,
    TRUTH,
)

__all__ = [
    "BOOTSTRAP_DUPLICATE", "CE2_CONTEXT_MEAN", "CROSS_LINE", "EVALUATORS", "FULL_VS_FULL", "INTERPOLATED_DUPLICATE",
    "NAMED", "NOISE_FREE", "NO_SKILL", "PERFECT_COPY", "SHUFFLED_LABELS", "TECH_DUPLICATE", "TRAINED_ON", "TRUTH",
    "constant", "is_evaluator",
]  # fmt: skip

#: Relative tolerance of the constant test: ``max(v) - min(v) <= TOLERANCE * max(1, max |raw profile|)``.
TOLERANCE = 1e-6
MIN_GENES_CORRELATION = 3
MIN_CELLS_PROFILE = 10
MIN_CELLS_DE = 25
MIN_CELLS_HALVES = 20
MIN_CELLS_WEIGHT_THIRD = 75
MIN_PERTURBATIONS_GENEWISE = 8

N_HALF_SPLITS = 5
N_PERMUTATIONS = 20

#: Labels: p_adj < FDR; positives of average precision also need |log2FC| >= LFC_CUT; fold changes of means per 10,000.
FDR = 0.05
#: A perturbation has a detectable effect when its E-test has p at most this (metrics.md 10.5).
ETEST_LEVEL = 0.05
LFC_CUT = float(np.log2(1.5))
PSEUDOCOUNT = 1e-2
FOLD_CHANGE_SCALE = 1e4
EXPRESSED_SHARE = 0.05

OK = "ok"
#: Statuses that flag a row and keep its value.
FLAGS = ("n_lt_k", "weights_shared")
#: NaN caused by the prediction: takes the no-skill value in `value_imputed` (`no_cells`: profiles, not cells).
PREDICTION_REASONS = ("missing_pred", "const_pred", "no_cells", "sign_mismatch")
#: NaN caused by the truth: excluded for every model alike. `no_single` = a single of a double was not measured.
TRUTH_REASONS = (
    "const_true", "few_genes", "no_de", "all_de", "single_pert", "few_cells", "no_control", "no_single", "no_double",
    "no_class",
)  # fmt: skip
#: Reason of metrics of doubles on other perturbations.
NO_DOUBLE = "no_double"
#: Reason of metrics of classes: none is known, or no training perturbation of the fold is of one of the two.
NO_CLASS = "no_class"

#: Fold of rows over all folds.
ALL_FOLDS = 0


def is_evaluator(model: str) -> bool:
    """Return whether a score row belongs to a control of the evaluator and not to a model."""
    return model in EVALUATORS or model.startswith(tuple(f"{name}:" for name in NAMED))


def constant(delta: np.ndarray, raw: np.ndarray) -> np.ndarray:
    """Return, per row, whether `delta` (rows, genes) is constant given the raw profiles (rows, genes) behind it.

    Rows with NaN are not constant; fewer than one gene counts as constant.
    """
    if delta.shape[-1] == 0:
        return np.ones(delta.shape[:-1], dtype=bool)
    scale = np.maximum(1.0, np.abs(raw).max(axis=-1))
    return delta.max(axis=-1) - delta.min(axis=-1) <= TOLERANCE * scale
