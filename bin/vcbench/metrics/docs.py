"""`docs/metrics.md`, generated from `assets/metrics.yml`: ``python -m vcbench.metrics.docs > docs/metrics.md``."""

# ruff: noqa: E501 (Markdown)

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vcbench.core import catalogue
from vcbench.metrics import cell_space, contract, distribution, registry
from vcbench.metrics.registry import Metric

_INTRODUCTION = f"""# Metrics

<!-- Generated from assets/metrics.yml by `python -m vcbench.metrics.docs`; edit there. -->

Every metric compares a predicted with a measured profile of one held-out perturbation: the mean of its cells'
log1p expression. It is computed per perturbation, then averaged over perturbations; each counts once, and seeds are
averaged within a perturbation first.

## How to read a result

- **Undefined is empty, never 0.** `value` is the mean over perturbations for which the metric is defined; `n`, `n_nan` and
  `reasons` say how many are not and why. `value_imputed` gives undefined predictions (`const_pred`, `missing_pred`) the
  no-skill value, so that all models are compared on the same perturbations. Where no skill is better than a model's own score, the model
  gains by not answering, and a metric over perturbations of which too few are predicted is at no skill as a whole:
  `n_missing_pred` counts missing predictions, and the report marks them. Perturbations that the measurement excludes
  (`few_cells`, `no_de`, ...) are excluded for every model alike.
- **Compare with the ceiling, the null and the baselines**, not with 1. `ceiling` is what a replicate measurement of half the
  cells reaches (`tech_duplicate`: {contract.N_HALF_SPLITS} random halvings, both ways), `ceiling_full` what a full-size replicate would (Spearman-Brown for
  correlations, half the error for squared errors), `ceiling_noise_free` a prediction without noise. `metric_status` says
  whether a metric can rank models on this dataset at all: `usable` when the dynamic range of a replicate (`drf`, 0 = `base`, 1 = perfect;
  `base` is the train mean, for deltas against the control no change) is above 0.2 and certain (`ceilings.tsv`). `null_*` is the model's own prediction with the true labels shuffled
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
  `expr_nt@fdr0.01_lfc1` = other cuts for what counts as changed; `phenotype@clinvar` = classes by that item of `--known_function` (expressed
  genes without those of all test perturbations); `eligible` = genes whose split-half
  reliability over perturbations is positive. For `c_acc*` `_nt` removes the perturbed genes of all test perturbations.
- **Gene by gene** the gene-wise metrics (`gw_*`) stand in `genes.parquet`, beside the reliability and the ceiling of each gene: which genes
  can be predicted at all. In `leaderboard.tsv` their `value` is the mean, `median` and `sd` are over genes.
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
| `no_cells` | the metric needs predicted cells that differ, and the model predicts a profile (or too few cells) |
| `no_class` | the annotations say no class of the perturbation, or the fold has no training perturbation of one of the two |
| `no_double`, `no_single` | not a combination of two perturbations; a single of the combination was not measured, or is neither a training nor a test perturbation of the fold |
| `sign_mismatch` | the weights of the two singles have opposite signs |
"""


def _no_skill(metric: Metric) -> str:
    text = {
        "train_mean": "value of the train mean",
        "prevalence": "share of changed genes",
        "top_share": "k / number of genes",
        "constant_area": "(1 + share of changed genes) / 2",
        "chance_mrr": "H_n / n",
        "chance_top1": "1 / n",
        "chance_top5": "5 / n",
        "chance_vcc_pds": "(n + 1) / 2n",
        "control_cells": "value of training control cells",
        "nan": "",
    }
    return text.get(str(metric.no_skill), f"{metric.no_skill:g}" if isinstance(metric.no_skill, int | float) else "")


def _row(metric: Metric) -> str:
    columns = ", ".join(f"`{metric.column(gene_set)}`" for gene_set in metric.gene_sets)
    name = f"**{metric.title}**"
    return f"| {columns} | {name}: {metric.explain} | {metric.direction} | {_no_skill(metric)} |"


#: Title of the section of each group on request, and what stands above its table.
_SECTIONS = {
    "extended": "Extended metrics (`--metrics {group}`)",
    "bench_compat": "VariantCellBench's own formulas (`--bench_compat`)",
    "cells": "Predicted cells (`--metrics {group}`)",
    "vcc": "Virtual Cell Challenge 2025 (`--metrics {group}`)",
    "interactions": "Genetic interactions (`--metrics {group}`)",
    "lm": "Log-of-mean profiles (`--metrics {group}`)",
}
_NOTES = {
    "cells": f"""Only for models that emit cells which differ (status `no_cells` otherwise): one profile repeated has no spread, and a
test would call almost every gene significant. Distances are between at most {distribution.MAX_CELLS} cells of a perturbation (drawn by
seed) on {cell_space.N_COMPONENTS} principal components of the fold's true cells and controls, on the {cell_space.N_GENES:,} genes that vary most in training cells and
controls; self pairs are included, so an E-distance is never negative. Predicted cells are tested against the training
controls, at least {contract.MIN_CELLS_DE} of them; true cells against the held-out ones, as in the truth DE table. Values below 0 count as 0.
`tech_duplicate` is one half of a perturbation's cells as predicted ones (tested against the training controls) against the other half
as truth (its own significant genes against the held-out controls; 25 cells in a half, so 50 of the perturbation). Halves
call fewer genes than all cells do, and nothing says what sets, ranks and distances of full-size replicates would be
(`ceiling_full` and `ceiling_noise_free` are empty; errors and correlations of group `lm` have them). Cells cannot be drawn
towards a mean profile: no `interpolated_duplicate`. The
E-test of every perturbation against the held-out controls (`etest_distance`, `etest_p`; {distribution.N_PERMUTATIONS} permutations) stands in the
rows of `truth` of the score table, as do the numbers of significant genes (`de_nsig_true`).

""",
    "vcc": """The formulas of the challenge on this benchmark's truth: all genes, all control cells on both sides (predictions carry none),
rank-sum test with ties and continuity corrected, fold changes of geometric means without pseudocount. Where the
challenge counts 0 for an undefined value, it is undefined here. `vcc_score` compares means over the perturbations of
all folds; its baseline is the cell mean of the challenge, which is the model `ce_mean`: the mean of the profiles of the training
perturbations with the training controls as one more of them, the same for every test perturbation.

""",
    "interactions": """For test perturbations that combine two others (`A+B`), on the 1,000 genes of highest mean control expression above 0; other
perturbations are `no_double`. Singles are measured where they are in training, predicted where they are test perturbations
too; a double with a single that is neither (not measured, or kept for validation) is `no_single`. The value of a model is that of the *predicted* double;
that of the measured double stands in the rows of `truth`. A gene interacts where the double deviates from the sum of its
singles beyond the cut at which the local false discovery rate (empirical null) is 5 %; the `gi_tpr_*` and `gi_ap` rank all
pairs of double and gene by predicted deviation, upwards only, fold by fold.

""",
    "lm": f"""As the metrics of the same name, on log1p({cell_space.LOG_OF_MEAN_SCALE:,.0f} x share of the gene in the summed normalised expression of the
cells). The mean of logs, used everywhere else, depends on the spread between cells; this does not. Only for models that
emit cells.

""",
}
_LEFT_OUT = """
## Not computed

| metric elsewhere | why not |
|---|---|
| `*_top200_hvg` (GEARS, VariantCellBench) | the genes are chosen on test truth |
| GEARS `fold_change_gap_*` | ratio of means of logs is not a fold change |
| GEARS `uncertainty` | exists only for models trained with it |
| VariantCellBench C-Acc over all cell pairs | favours perturbations with little spread |
| cell-eval `clustering_agreement` | best of seven resolutions is optimistic |
| PerturBench scaled, var, var-logfc, logp | other quantities than profiles |
| LPP L2 | the square root of the number of genes times `rmse` |
| OpenProblems row-wise metrics on signed log p | another target space |
| GEARS `mse_top{N}_de` of deltas | the same number as `mse` |
| scores on a model's own genes | every model of the benchmark predicts every gene of the axis |
| Systema coarse-phenotype ROC-AUC with prototypes from all perturbations | the prototypes contain the perturbation that is judged; `phenotype_auc` has those of training perturbations |
"""

#: What metrics.md of the specification and the literature call what exists here under another name, and what does not.
_ELSEWHERE = """
## Baselines and controls under other names

| elsewhere | here |
|---|---|
| nearest neighbour in language-model space (`nearest_plm`), kNN regression | model `nearest` on that encoder |
| `random_embedding` | any model on encoder `random` (Gaussian features); `shuffled` = features of another perturbation |
| `constant_embedding` | any model on encoder `constant` |
| perturbed mean, `nonctl-mean` (Systema, over cells) | `train_mean`; `train_mean_cellw` |
| `as_delta` mean (PerturBench, cell-eval) | `train_mean_delta` |
| mean baseline of the Virtual Cell Challenge | `ce_mean` |
| `pb_average` (PerturBench: mean by cell line and treatment) | `train_mean`: a dataset is one cell line |
| `mean_outcome`, `mean_across_compounds` (Open Problems: over all rows; over the perturbations of a cell line) | `train_mean`, for the same reason |
| `mean_across_celltypes` (Open Problems: the perturbation in other cell lines) | no baseline: it needs the perturbation itself; `cross_line` is the control that looks there |
| `zeros` (Open Problems: no change, in signed log p) | `no_change` |
| `sample` (Open Problems) | `sample_gene_random` |
| bilinear model of LPP | `linear` |
| elastic net, random forest, ridge, Gaussian process | `elastic_net`, `random_forest`, `ridge`, `gaussian_process` |
| `additive`, `matching_mean`, `max_effect`, `sparse_mean`, `position_mean`, `class_mean` | the same names |
| `ce2_context_mean` (cell-eval2) | a control of the evaluator, no model: it looks at the test perturbations |
| `shuffled_labels` | `null_mean`, `null_low`, `null_high`; rows `shuffled_labels:<model>` of `scores.parquet` |
| `control_vs_control`, synonymous variants | `diag_control_vs_control`, `diag_synonymous` |
| positive controls (`perfect_copy`, `tech_duplicate`, `full_vs_full`, `bootstrap_duplicate`, `interpolated_duplicate`, `cross_line`) | the same names, columns of `ceilings.tsv`; ceilings of errors are in `full_vs_full` and `noise_free`, too |
"""
_DEVIATIONS = f"""
## Where a number is made differently than elsewhere

- **Reliability** of genes and ceilings come from {contract.N_HALF_SPLITS} random halvings, not 20; each is used both ways.
- **Fewer cells** (`diag_cells`): nested shares of each perturbation's cells (a quarter within a half), drawn once, where others draw a common number of
  cells 20 times. Perturbations keep their differences in cells, and one draw has no spread.
- **Systematic variation** (`diag_sim_to_average`) is the median with its quartiles; Systema's *degree*, the mean, stands beside it (`ctrl/mean`).
- **Predicted values below 0** count as 0 wherever single predicted cells are read: groups `cells`, `lm` and the sets of `vcc`. The means of
  all other metrics are those of the values as predicted.
- **Bandwidth of the MMD**: one for each fold, the median distance between its measured cells (`diag_mmd_bandwidth`).
"""


def render(metrics: Mapping[str, Metric], groups: Mapping[str, list[str]], on_request: Mapping[str, str]) -> str:
    """Return the page."""
    head = "| column | what it asks | better | no skill |\n|---|---|---|---|"
    shown = [metric for metric in metrics.values() if metric.level != "term"]
    primary = [*groups["primary"], *groups["companion"]]
    sections = [
        ("Primary metric and its companion", [m for m in shown if m.id in primary]),
        ("The other headline metrics", [m for m in shown if m.headline and not m.compat and m.id not in primary]),
        ("Further metrics", [m for m in shown if m.group == "default" and not m.headline and m.id not in primary]),
        *(
            (_SECTIONS[group].format(group=group), [m for m in shown if m.group == group])
            for group in registry.groups(dict(metrics)) if group != registry.DEFAULT
        ),
    ]  # fmt: skip
    text = [_INTRODUCTION, _requested(on_request)]
    for title, found in sections:
        note = next((text for name, text in _NOTES.items() if found and found[0].group == name), "")
        text.append(f"\n## {title}\n\n{note}{head}\n" + "\n".join(_row(metric) for metric in found) + "\n")
    return "".join([*text, _LEFT_OUT, _ELSEWHERE, _DEVIATIONS])


def _requested(groups: Mapping[str, str]) -> str:
    rows = "\n".join(f"| `{name}` | {text} |" for name, text in groups.items())
    return f"""
## Groups on request

`--metrics GROUP,GROUP` adds groups to the default metrics (in the pipeline; `--metrics GROUP GROUP` in `vcb_truth.py`,
`vcb_score.py`, `vcb_evaluate.py`). TRUTH and SCORE must get the same ones.

| group | what |
|---|---|
{rows}
"""


def page(assets: Path = catalogue.ASSETS) -> str:
    """Return the page for a catalogue folder."""
    whole = catalogue.load("metrics", assets)
    return render(registry.load(assets), whole["groups"], whole["on_request"]) + _diagnostics(whole["diagnostics"])


def _diagnostics(entries: Mapping[str, Mapping[str, str]]) -> str:
    rows = "\n".join(
        f"| `{name}` | **{entry['title']}**: {entry['explain']} | "
        f"{'measurement' if entry['of'] == 'truth' else 'prediction'} |"
        for name, entry in entries.items()
    )
    return f"""
## Diagnostics

Properties, no scores: none is better or worse. They stand in `diagnostics.tsv`; `ctrl` = change against the control, `pm` = against the
mean of the perturbations.

| id | what | of |
|---|---|---|
{rows}
"""


if __name__ == "__main__":
    print(page(), end="")
