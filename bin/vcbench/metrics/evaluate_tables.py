"""Tables of `vcb_evaluate.py`: own models and baselines side by side, with the pipeline's intervals and tests."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vcbench.core import catalogue
from vcbench.metrics import bundle, contract, registry, scoring
from vcbench.metrics.registry import Metric
from vcbench.stats import ceilings, contrast_table, genes, leaderboard, panel, scores
from vcbench.stats.numbers import tidy

FOLD = 1
DATASET, SPLIT = "evaluation", "given"
#: Baselines that have columns of their own beside every value.
BASELINES = ("train_mean", "no_change")
SUMMARY = (
    "metric", "gene_set", "value", "n", "status", "ci_low", "ci_high", *BASELINES, contract.TECH_DUPLICATE,
    contract.FULL_VS_FULL, "null_mean", "null_low", "null_high", "best_baseline", "difference", "difference_low",
    "difference_high", "p", "p_holm", "verdict", "discriminates", "metric_status", "direction", "title",
    "n_missing_pred", "n_missing_reference", "best_baseline_value", "value_imputed", "n_genes", "model",
)  # fmt: skip

#: Tables beside the summary, with the columns the pipeline gives them.
TABLES = {"leaderboard": leaderboard.LEADERBOARD, "contrasts": contrast_table.CONTRASTS}


def clusters(ids: Sequence[str], table: Sequence[Mapping[str, str]] | None) -> dict[str, str]:
    """Return the cluster of each perturbation: variants of one residue belong together, others stand alone.

    The residue is column `pos` of the table of perturbations, or read from ids like ``TP53~R175H``.
    """
    listed = {row["perturbation"]: f"{row['gene']} {row['pos']}".strip() for row in table or () if row.get("pos")}
    found = {}
    for name in ids:
        variant = re.fullmatch(r"([^~+;]+)~[A-Za-z]+(\d+)[^~+;\d]+", name)
        found[name] = listed.get(name) or (f"{variant[1]} {variant[2]}" if variant else name)
    return found


def compare(
    scored: Any, own: Sequence[str], baselines: Sequence[str], cluster_of: Mapping[str, str], options: Any,
    by_gene: genes.OverGenes,
) -> dict[str, list[dict[str, Any]]]:  # fmt: skip
    """Return the rows of `leaderboard` (all models) and `contrasts` of a score table, as the pipeline has them.

    Contrasts are those of the `own` models: with the best baseline and with the train mean (Holm over the own models),
    and with each other and every baseline (kind `pair`, Holm over all pairs). `by_gene` are median and spread of
    gene-wise metrics over genes.
    """
    entries = catalogue.load("models", options.assets)["entries"]
    negative = {name for name, entry in entries.items() if entry.get("negative_control")}
    plan = [
        {"dataset": DATASET, "split": SPLIT, "fold": FOLD, "model": name, "encoder": "none", "strategy": "none",
         "seed": 0, "class": kind, "state": "ok"}
        for kind, names in ((catalogue.EXTERNAL, own), ("baseline", baselines)) for name in names
    ]  # fmt: skip
    held = scores.by_panel(scored.replace_schema_metadata(None))[DATASET, SPLIT]
    planned = panel.combinations(plan)[DATASET, SPLIT]
    one = panel.build(DATASET, SPLIT, planned, held, cluster_of, options.seed, options.bootstrap)
    judged = [m for m, entry in enumerate(planned) if entry.of[0] in set(own)]
    board: list[list[dict[str, Any]]] = []
    contrasts: list[dict[str, Any]] = []
    for metric, gene_set in panel.pairs(registry.load(options.assets), held):
        series = one.series(metric, gene_set)
        board.append(leaderboard.rows(one, metric, gene_set, series, ceilings.build(one, metric, gene_set, series),
                                      by_gene.get((DATASET, SPLIT))))  # fmt: skip
        contrasts += contrast_table.rows(one, metric, gene_set, series, negative, judged)
        contrasts += contrast_table.pairs(one, metric, gene_set, series, judged)
    contrast_table.adjust_across(contrasts)
    return {"leaderboard": leaderboard.in_plan_order(board), "contrasts": contrasts}


#: Columns of the leaderboard that the summary shows as they are.
_KEPT = ("value_imputed", "ci_low", "ci_high", "discriminates", "metric_status", "n_missing_pred")


def _tests(compared: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return by model, metric and gene set the interval of the value, and the test against the best baseline."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    imputed = {}
    for row in compared["leaderboard"]:
        kept = {key: row[key] for key in _KEPT}
        key = (row["model"], row["metric"], row["gene_set"])
        found[key] = {**kept, contract.FULL_VS_FULL: row["ceiling_full"]}
        imputed[key] = row["value_imputed"]
    for row in compared["contrasts"]:
        if row["reference"] == contrast_table.BEST_BASELINE:
            found[row["model"], row["metric"], row["gene_set"]] |= {
                "best_baseline": row["reference_model"], "difference": row["difference"],
                "best_baseline_value": imputed[row["reference_model"], row["metric"], row["gene_set"]],
                "difference_low": row["ci_low"], "difference_high": row["ci_high"],
                **{key: row[key] for key in ("p", "p_holm", "verdict", "n_missing_reference")},
            }  # fmt: skip
    return found


def summary(
    built: bundle.TruthBundle, tables: Mapping[str, list[tuple]], metrics: Mapping[str, Metric], own: Sequence[str],
    compared: Mapping[str, Sequence[Mapping[str, Any]]],
) -> list[dict[str, Any]]:  # fmt: skip
    """Return one row per metric, gene set and own model: value, perturbations behind it, why others have none, and
    references.
    """
    tests = _tests(compared)
    of = {model: _by_column(rows) for model, rows in tables.items()}
    empty = dict.fromkeys(
        ("value_imputed", "ci_low", "ci_high", contract.FULL_VS_FULL, "difference", "difference_low", "difference_high",
         "p", "p_holm", "best_baseline_value"),
        np.nan,
    ) | dict.fromkeys(
        ("best_baseline", "verdict", "discriminates", "metric_status", "n_missing_pred", "n_missing_reference"), ""
    )  # fmt: skip
    result = []
    for metric, gene_set in scoring.reported(built, metrics):
        name = scoring.set_name(built, gene_set)
        key = (metric.id, name)
        references = {
            model: tidy(_panel_value(of[model], metric, name, model)[0])
            for model in (*BASELINES, contract.TECH_DUPLICATE)
        }
        for model in own:
            value, n, status = _panel_value(of[model], metric, name, model)
            n_genes = _genes_behind(of[model].get((model, *key), ()))
            null = [row[10] for row in of[model].get((f"{contract.SHUFFLED_LABELS}:{model}", *key), ())]
            null = [found for found in null if not np.isnan(found)]
            low, high = np.percentile(null, [2.5, 97.5]) if null else (np.nan, np.nan)
            result.append({
                "metric": metric.id, "gene_set": name, "value": tidy(value), "n": n, "n_genes": n_genes,
                "status": status, **references,
                "null_mean": tidy(np.mean(null)) if null else np.nan, "null_low": tidy(low), "null_high": tidy(high),
                **empty, **tests.get((model, *key), {}),
                "direction": metric.direction, "title": metric.title, "model": model,
            })  # fmt: skip
    return result


def _by_column(rows: Sequence[tuple]) -> dict[tuple[str, str, str], list[tuple]]:
    """Return score rows by (model, metric, gene set)."""
    found: dict[tuple[str, str, str], list[tuple]] = {}
    for row in rows:
        found.setdefault((row[3], *row[8:10]), []).append(row)
    return found


def _panel_value(
    rows: Mapping[tuple[str, str, str], list[tuple]], metric: Metric, gene_set: str, model: str
) -> tuple[float, int, str]:
    """Return value, number of perturbations and status (``ok``, or reasons with counts) of one metric."""
    found = rows.get((model, metric.id, gene_set), [])
    if metric.level == "panel":
        row = found[0]
        return row[10], row[15], row[14]
    values = np.array([row[10] for row in found])
    known = ~np.isnan(values)
    reasons = Counter(row[14] for row, ok in zip(found, known, strict=True) if not ok)
    status = ";".join(f"{name}:{count}" for name, count in sorted(reasons.items())) or contract.OK
    return float(values[known].mean()) if known.any() else np.nan, int(known.sum()), status


def _genes_behind(rows: Sequence[tuple]) -> int:
    """Return the median number of genes (lower one of two) behind the values of one metric, 0 without a value."""
    found = sorted(row[11] for row in rows if not np.isnan(row[10]))
    return found[(len(found) - 1) // 2] if found else 0


def _partly(row: Mapping[str, Any]) -> bool:
    """Return whether the value leaves out what the test against the baselines takes at no skill."""
    value, imputed = row["value"], row["value_imputed"]
    return not np.isnan([value, imputed]).any() and not np.isclose(value, imputed, rtol=1e-6, atol=1e-9)


def headline(rows: Sequence[Mapping[str, Any]], metrics: Mapping[str, Metric]) -> str:
    """Return the headline metrics as a table for the terminal.

    A value that leaves out what the prediction does not say (perturbations, genes) has a star, and a line below gives
    the value with these at no skill.
    """
    columns = ("value", *BASELINES, contract.TECH_DUPLICATE, "null_mean")
    several = len({row["model"] for row in rows}) > 1
    partly = []
    lines = [["metric", "genes", *(["model"] if several else []), "better", "n", *columns, "best baseline", "verdict"]]
    for row in rows:
        metric = metrics[row["metric"]]
        if row["gene_set"] in metric.headline and not metric.compat:
            numbers = ["-" if np.isnan(row[name]) else f"{row[name]:.3g}" for name in columns]
            if _partly(row):
                numbers[0] += "*"
                of = [row["metric"], row["gene_set"], *([row["model"]] if several else [])]
                partly.append(f"{' '.join(of)} {row['value_imputed']:.3g}")
            lines.append([
                row["metric"], row["gene_set"], *([row["model"]] if several else []), row["direction"], str(row["n"]),
                *numbers, row["best_baseline"] or "-", (row["verdict"] or "-") + _missing(row),
            ])  # fmt: skip
    note = (
        "* without what the prediction misses or leaves constant; with that at no skill, as in difference and verdict: "
    )
    return _aligned(lines) + (f"\n{note}{', '.join(partly)}" if partly else "")


def between(contrasts: Sequence[Mapping[str, Any]], own: Sequence[str], metrics: Mapping[str, Metric]) -> str:
    """Return for the terminal how the own models compare with each other in headline metrics; "" for one model."""
    pairs = [
        row for row in contrasts
        if row["reference"] == contrast_table.PAIR and row["reference_model"] in own
        and row["gene_set"] in metrics[row["metric"]].headline and not metrics[row["metric"]].compat
    ]  # fmt: skip
    if not pairs:
        return ""
    told = [row for row in pairs if row["verdict"] != "unresolved"]
    lines = [["metric", "genes", "model", "is", "than", "difference", "p_holm"]] + [
        [row["metric"], row["gene_set"], row["model"], row["verdict"], row["reference_model"],
         f"{row['difference']:.3g}", f"{row['p_holm']:.2g}" + _missing(row)]
        for row in told
    ]  # fmt: skip
    rest = f"Between your models, headline metrics: {len(told)} of {len(pairs)} comparisons are resolved"
    return f"{rest}\n{_aligned(lines)}" if told else f"{rest}."


def _missing(row: Mapping[str, Any]) -> str:
    """Return how many perturbations a verdict takes at no skill because nothing was predicted, in brackets, or ""."""
    sides = ((row["n_missing_pred"], "not predicted"), (row["n_missing_reference"], "not predicted by the reference"))
    told = [f"{count} {what}" for count, what in sides if count]
    return f" ({', '.join(told)}: no skill)" if told else ""


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """Return rows of texts as columns."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
                     for line in lines)  # fmt: skip
