"""The tables of the statistics for synthetic runs, from the same scores, by pandas."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

KEYS = ["model", "encoder", "strategy"]
PANEL = ["dataset", "split"]
PRIMARY = {"metric": "dpearson_pm", "gene_set": "expr_nt"}
CONTROLS = ("random", "constant")


def tables(leaderboard: pd.DataFrame, scores: pd.DataFrame, models: dict) -> dict[str, pd.DataFrame]:
    """Return selection, ranks, factors, families and agreement."""
    found: dict[str, list[dict]] = {name: [] for name in COLUMNS}
    for panel, board in leaderboard.groupby(PANEL):
        shared = dict(zip(PANEL, panel, strict=True))
        primary = board[(board["metric"] == PRIMARY["metric"]) & (board["gene_set"] == PRIMARY["gene_set"])]
        primary = primary[primary["value"].notna()]
        if primary.empty:
            continue
        wide = scores[(scores[PANEL] == panel).all(axis=1) & (scores["metric"] == PRIMARY["metric"])]
        wide = wide[wide["gene_set"] == PRIMARY["gene_set"]]
        wide = wide.pivot_table(index=["fold", "perturbation"], columns=KEYS, values="value")
        found["ranks"] += _ranks(shared, wide)
        found["selection"] += _selection(shared, wide, models)
        found["factors"] += _factors(shared, wide)
        for row in primary.itertuples():
            for family in ("profile error", "delta correlation", "all"):
                found["families"].append({**shared, **{k: getattr(row, k) for k in KEYS}, "family": family,
                    "scaled": row.value / 0.8, "ci_low": row.ci_low / 0.8, "ci_high": row.ci_high / 0.8, "n_metrics": 2,
                    "n_declared": 3, "metrics": "a;b", "left_out": "ap_de__expr_nt", "n_clusters": 60})  # fmt: skip
        columns = {
            name: group.set_index(KEYS)["value_imputed"] for name, group in board.groupby(["metric", "gene_set"])
        }
        names = sorted(columns)
        for i, one in enumerate(names):
            for other in names[i + 1 :]:
                tau = stats.kendalltau(columns[one], columns[other].reindex(columns[one].index)).statistic
                found["agreement"].append({"compared": "metrics", **shared, "metric": one[0], "gene_set": one[1],
                    "other_dataset": panel[0], "other_split": panel[1], "other_metric": other[0],
                    "other_gene_set": other[1], "tau": tau, "n_configurations": len(columns[one])})  # fmt: skip
    panels = sorted({(row["dataset"], row["split"]) for row in found["ranks"]})
    for i, one in enumerate(panels):
        for other in panels[i + 1 :]:
            found["agreement"].append({"compared": "panels", "dataset": one[0], "split": one[1], **PRIMARY,
                "other_dataset": other[0], "other_split": other[1], "other_metric": PRIMARY["metric"],
                "other_gene_set": PRIMARY["gene_set"], "tau": 0.6 if one[0] == other[0] else 0.25,
                "n_configurations": 30})  # fmt: skip
    return {name: pd.DataFrame(rows, columns=COLUMNS[name]) for name, rows in found.items()}


COLUMNS = {
    "ranks": [*PANEL, *PRIMARY, *KEYS, "place", "mean_rank", "rank_low", "rank_high", "groups", "winner_share",
              "n_missing", "n_blocks", "n_configurations", "p", "critical_difference"],
    "selection": [*PANEL, *PRIMARY, "model", "value", "ci_low", "ci_high", "n_configurations", "chosen",
                  "n_validation", "naive", "naive_encoder", "naive_strategy", "optimism", "difference", "p_holm",
                  "verdict", "status"],
    "factors": [*PANEL, "effect", "level", "estimate", "ci_low", "ci_high", "size", "size_low", "size_high",
                "size_debiased", "share", "p_holm", "levels", "left_out"],
    "families": [*PANEL, *KEYS, "family", "scaled", "ci_low", "ci_high", "n_metrics", "n_declared", "metrics",
                 "left_out", "n_clusters"],
    "agreement": ["compared", *PANEL, *PRIMARY, "other_dataset", "other_split", "other_metric", "other_gene_set", "tau",
                  "n_configurations"],
}  # fmt: skip


def _ranks(shared: dict, wide: pd.DataFrame) -> list[dict]:
    ranks = wide.rank(axis=1, ascending=False)
    mean, error = ranks.mean(), ranks.std() / np.sqrt(len(ranks))
    order = mean.sort_values(kind="stable").index
    # Bars join neighbours whose mean ranks are close.
    rows = []
    for place, of in enumerate(order, 1):
        groups = [str(g) for g in (place - 1, place) if 0 < g < len(order) and mean[order[g]] - mean[order[g - 1]] < 1]
        rows.append({**shared, **PRIMARY, **dict(zip(KEYS, of, strict=True)), "place": place, "mean_rank": mean[of],
                     "rank_low": mean[of] - 2 * error[of], "rank_high": mean[of] + 2 * error[of],
                     "groups": ";".join(groups), "winner_share": 0.75 if place == 1 else 0.25 / (len(order) - 1),
                     "n_missing": 0, "n_blocks": len(wide), "n_configurations": len(order), "p": 1e-9,
                     "critical_difference": 2.5})  # fmt: skip
    return rows


def _selection(shared: dict, wide: pd.DataFrame, models: dict) -> list[dict]:
    rows = []
    for model in sorted(set(wide.columns.get_level_values(0))):
        mine = wide[model][[c for c in wide[model].columns if c[0] not in CONTROLS]]
        if mine.shape[1] == 0 or mine.isna().all(axis=None):
            continue
        naive = mine.mean()
        value = naive.max() - 0.01 * (mine.shape[1] > 1)
        rows.append({**shared, **PRIMARY, "model": model, "value": value, "ci_low": value - 0.03,
                     "ci_high": value + 0.03,
                     "n_configurations": mine.shape[1],
                     "chosen": ";".join(f"{f}:{'.'.join(naive.idxmax())}" for f in (1, 2, 3)),
                     "n_validation": 6, "status": "ok", "naive": naive.max(),
                     "naive_encoder": naive.idxmax()[0], "naive_strategy": naive.idxmax()[1],
                     "optimism": naive.max() - value, "difference": 0.05, "p_holm": 0.01,
                     "verdict": "unresolved" if models[model]["class"] == "baseline" else "better"})  # fmt: skip
    return rows


def _factors(shared: dict, wide: pd.DataFrame) -> list[dict]:
    mean = wide.mean()
    mean = mean[[of for of in mean.index if of[1] not in ("none", *CONTROLS)]]
    rows = []
    for axis, name in enumerate(KEYS):
        levels = mean.groupby(level=axis).mean() - mean.mean() if len(mean) else pd.Series(dtype=float)
        if len(levels) < 2:
            continue
        size = float(np.sqrt((levels**2).mean()))
        base = {**shared, "levels": "2 models x 3 encoders x 2 strategies", "left_out": ""}
        rows.append({**base, "effect": name, "level": "", "size": size, "size_low": size / 2, "size_high": size * 2,
                     "size_debiased": size * 0.9, "share": 0.3, "p_holm": 0.001 if axis == 0 else 0.4})  # fmt: skip
        rows += [{**base, "effect": name, "level": level, "estimate": v, "ci_low": v - 0.02, "ci_high": v + 0.02}
                 for level, v in levels.items()]  # fmt: skip
    return rows
