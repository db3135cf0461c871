"""The rules every metric obeys (metrics.md 1.3): statuses, tolerance, minimum sizes, evaluator ids."""

from __future__ import annotations

import numpy as np

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
)  # fmt: skip
#: Reason of metrics of doubles on other perturbations.
NO_DOUBLE = "no_double"

#: Evaluator rows of the score table.
NO_SKILL = "no_skill"
TRUTH = "truth"
TECH_DUPLICATE = "tech_duplicate"
SHUFFLED_LABELS = "shuffled_labels"
#: Further positive controls (metrics.md 6.5): two full-size replicates, a predictor without noise, a half drawn towards
#: the training mean where it shows no effect, the truth itself, and the same perturbations in another cell line.
FULL_VS_FULL = "full_vs_full"
NOISE_FREE = "noise_free"
INTERPOLATED_DUPLICATE = "interpolated_duplicate"
PERFECT_COPY = "perfect_copy"
#: The generic response of the test perturbations (metrics.md 6.1): it looks at them, so it is no baseline.
CE2_CONTEXT_MEAN = "ce2_context_mean"
CROSS_LINE = "cross_line"
#: All evaluator ids; those of `NAMED` are followed by ``:`` and what they belong to.
EVALUATORS = (
    NO_SKILL, TRUTH, TECH_DUPLICATE, FULL_VS_FULL, NOISE_FREE, INTERPOLATED_DUPLICATE, PERFECT_COPY, CE2_CONTEXT_MEAN,
)  # fmt: skip
#: `trained_on:<size>:<model>` is a model of the learning curve, in no leaderboard.
TRAINED_ON = "trained_on"
NAMED = (SHUFFLED_LABELS, CROSS_LINE, TRAINED_ON)

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
