"""`docs/metrics.md`, generated from `assets/metrics.yml`: ``python -m vcbench.metrics.docs > docs/metrics.md``."""

# ruff: noqa: E501 (Markdown)

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vcbench.core import catalogue
from vcbench.metrics import contract, registry
from vcbench.metrics.registry import Metric

_INTRODUCTION = f"""# Metrics

<!-- Generated from assets/metrics.yml by `python -m vcbench.metrics.docs`; edit there. -->

Every metric compares a predicted with a measured profile of one held-out perturbation: the mean of its cells'
log1p expression. It is computed per perturbation, then averaged over perturbations; each counts once, and seeds are
averaged within a perturbation first.

## How to read a result

- **Undefined is empty, never 0.** `value` is the mean over perturbations for which the metric is defined; `n`, `n_nan` and
  `reasons` say how many are not and why. `value_imputed` gives undefined predictions (`const_pred`, `missing_pred`) the
  no-skill value, so that a model gains nothing by not answering. Perturbations that the measurement excludes
  (`few_cells`, `no_de`, ...) are excluded for every model alike.
- **Compare with the ceiling, the null and the baselines**, not with 1. `ceiling` is what a replicate measurement of half the
  cells reaches (`tech_duplicate`: {contract.N_HALF_SPLITS} random halvings, both ways), `ceiling_full` what a full-size replicate would (Spearman-Brown for
  correlations, half the error for squared errors). `null_*` is the model's own prediction with the true labels shuffled
  within fold ({contract.N_PERMUTATIONS} times).
- **Intervals** are 95 % bootstrap intervals over clusters of perturbations (same residue, or same genes), drawn within folds;
  below 30 clusters they are t intervals, marked `t_approximate`.
- **Contrasts** are paired differences on the same perturbations, with imputed values: sign-flip test by cluster, Holm-corrected
  over all models within metric, dataset and split. `detectable` is the smallest difference such a panel finds with 80 % power.
  The reference `best_baseline` is the baseline model (on any encoder that says something about the perturbation) with the
  best value on these very perturbations: that choice favours the baseline, so a claim to beat it is conservative.
- **Gene sets**: `expr` = detected in at least 5 % of training control or training perturbed cells; `de20` = the 20 significant genes with the
  largest fold change (fewer are flagged `n_lt_k`); `sig` = all significant genes; `_nt` = without the perturbed gene; `_xfit` =
  listed from one random half of the cells and scored on the other, so that noise cannot choose the genes it is scored on;
  `fixed_<name>` = a set chosen in advance (`--gene-sets FILE.gmt`, `--fixed-sets`), in the tables only when it was given;
  `expr_nt@fdr0.01_lfc1` = other cuts for what counts as changed; `eligible` = genes whose split-half
  reliability over perturbations is positive. For `c_acc*` `_nt` removes the perturbed genes of all test perturbations.
- **References never see test cells**: the control mean subtracted from predictions comes from training controls, the one subtracted from the
  truth from held-out controls, the perturbed mean from training perturbations.

## Statuses

| status | meaning |
|---|---|
| `ok` | defined |
| `n_lt_k` | defined; the gene list is shorter than asked for |
| `weights_shared` | defined; too few cells to draw the weights from other cells than the profile |
| `const_pred` | the predicted change is the same for every gene: a correlation does not exist |
| `missing_pred` | no prediction; on a row over all folds: some predictions are missing and the value is over the others |
| `const_true`, `few_genes`, `few_cells`, `no_control` | the measurement does not allow the metric |
| `no_de`, `all_de` | no (every) gene is significantly changed |
| `single_pert` | too few perturbations to compare |
"""


def _no_skill(metric: Metric) -> str:
    text = {
        "train_mean": "value of the train mean",
        "prevalence": "share of changed genes",
        "top_share": "k / number of genes",
        "constant_area": "(1 + share of changed genes) / 2",
    }
    return text.get(str(metric.no_skill), f"{metric.no_skill:g}" if isinstance(metric.no_skill, int | float) else "")


def _row(metric: Metric) -> str:
    columns = ", ".join(f"`{metric.column(gene_set)}`" for gene_set in metric.gene_sets)
    name = f"**{metric.title}**"
    return f"| {columns} | {name}: {metric.explain} | {metric.direction} | {_no_skill(metric)} |"


def render(metrics: Mapping[str, Metric], groups: Mapping[str, list[str]]) -> str:
    """Return the page."""
    head = "| column | what it asks | better | no skill |\n|---|---|---|---|"
    shown = [metric for metric in metrics.values() if metric.level != "term"]
    primary = [*groups["primary"], *groups["companion"]]
    sections = [
        ("Primary metric and its companion", [m for m in shown if m.id in primary]),
        ("The other headline metrics", [m for m in shown if m.headline and not m.compat and m.id not in primary]),
        ("Further metrics", [m for m in shown if m.group == "default" and not m.headline and m.id not in primary]),
        ("Extended metrics (`--metrics extended`)", [m for m in shown if m.group == "extended"]),
        ("VariantCellBench's own formulas (`--bench_compat`)", [m for m in shown if m.compat]),
    ]
    text = [_INTRODUCTION]
    for title, found in sections:
        text.append(f"\n## {title}\n\n{head}\n" + "\n".join(_row(metric) for metric in found) + "\n")
    return "".join(text)


def page(assets: Path = catalogue.ASSETS) -> str:
    """Return the page for a catalogue folder."""
    return render(registry.load(assets), catalogue.load("metrics", assets)["groups"])


if __name__ == "__main__":
    print(page(), end="")
