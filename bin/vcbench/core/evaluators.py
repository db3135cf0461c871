"""Names of the evaluator's own rows in score tables: the one source, for metrics and for names users may not take."""

from __future__ import annotations

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
#: The same number of the same cells drawn with replacement: it shares the cells of the truth, so it is optimistic.
BOOTSTRAP_DUPLICATE = "bootstrap_duplicate"
#: The generic response of the test perturbations (metrics.md 6.1): it looks at them, so it is no baseline.
CE2_CONTEXT_MEAN = "ce2_context_mean"
CROSS_LINE = "cross_line"
#: All evaluator ids; those of `NAMED` are followed by ``:`` and what they belong to.
EVALUATORS = (
    NO_SKILL, TRUTH, TECH_DUPLICATE, FULL_VS_FULL, NOISE_FREE, INTERPOLATED_DUPLICATE, PERFECT_COPY, CE2_CONTEXT_MEAN,
    BOOTSTRAP_DUPLICATE,
)  # fmt: skip
#: `trained_on:<size>:<model>` is a model of the learning curve, in no leaderboard.
TRAINED_ON = "trained_on"
NAMED = (SHUFFLED_LABELS, CROSS_LINE, TRAINED_ON)

#: Name of the predictions that `vcb_evaluate.py` scores when they are given without one.
PREDICTIONS = "predictions"
#: What no model may be called.
RESERVED = (*EVALUATORS, *NAMED, PREDICTIONS)
